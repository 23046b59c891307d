from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.records import Answer, Question
from zephyr_bench.trainers.feedback import Graded, make_pair, write_pairs

QUESTION = Question("q1", "writing", ("Name a colour.",))


def graded(*scores: float | None, texts: list[str] | None = None) -> list[Graded]:
    return [
        Graded(Answer(str(i), f"model-{i}", "q1", 1, texts[i] if texts else f"answer {i}"), score)
        for i, score in enumerate(scores)
    ]


def test_the_best_stands_against_one_of_the_worse() -> None:
    made = make_pair(QUESTION, graded(3, 10, 1, 10), seed=0)
    assert made is not None
    assert made.pair.chosen["content"] == "answer 1"
    assert made.pair.rejected["content"] in {"answer 0", "answer 2"}


def test_every_worse_answer_can_be_drawn() -> None:
    drawn = {make_pair(QUESTION, graded(3, 10, 1), seed=seed).pair.rejected["content"] for seed in range(30)}  # type: ignore[union-attr]
    assert drawn == {"answer 0", "answer 2"}


def test_answers_that_tie_give_no_pair() -> None:
    assert make_pair(QUESTION, graded(5, 5, None), seed=0) is None


def test_an_answer_without_a_verdict_is_not_used() -> None:
    made = make_pair(QUESTION, graded(None, 4, 2), seed=0)
    assert made is not None
    assert (made.pair.chosen["content"], made.pair.rejected["content"]) == ("answer 1", "answer 2")


def test_an_empty_answer_is_never_chosen() -> None:
    assert make_pair(QUESTION, graded(9, 5, texts=["", "fine"]), seed=0) is None


@given(scores=st.lists(st.one_of(st.none(), st.integers(1, 10)), max_size=6), seed=st.integers(0, 99))
def test_chosen_is_best_and_rejected_strictly_worse(scores: list[int | None], seed: int) -> None:
    made = make_pair(QUESTION, graded(*scores), seed=seed)
    if made is None:
        assert len({score for score in scores if score is not None}) < 2
    else:
        assert made.chosen.score == max(score for score in scores if score is not None)
        assert made.rejected.score < made.chosen.score  # type: ignore[operator]
        assert made == make_pair(QUESTION, graded(*scores), seed=seed), "the draw is the seed's"


def test_pairs_are_written_in_the_handbooks_format(tmp_path: Path) -> None:
    made = make_pair(QUESTION, graded(3, 10), seed=0)
    assert made is not None
    write_pairs(tmp_path / "pairs.jsonl", [made])
    (row,) = map(json.loads, (tmp_path / "pairs.jsonl").read_text().splitlines())
    assert row["prompt"] == "Name a colour."
    assert [message["role"] for message in row["chosen"]] == ["user", "assistant"]
    assert (row["score_chosen"], row["score_rejected"], row["model_chosen"]) == (10, 3, "model-1")
