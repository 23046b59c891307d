from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.records import Answer, Question
from zephyr_bench.training_data.data import pair_of
from zephyr_bench.training_data.feedback import Graded, NoPair, RankedPair, make_pair, write_no_pairs, write_pairs

QUESTION = Question("q1", "writing", ("Name a colour.",))


def graded(*scores: float | None, texts: list[str] | None = None) -> list[Graded]:
    return [
        Graded(Answer(str(i), f"model-{i}", "q1", 1, texts[i] if texts else f"answer {i}"), score)
        for i, score in enumerate(scores)
    ]


def paired(*scores: float | None, seed: int = 0, **options: Any) -> RankedPair:
    made = make_pair(QUESTION, graded(*scores), seed=seed, **options)
    assert isinstance(made, RankedPair)
    return made


def test_the_best_stands_against_one_of_the_worse() -> None:
    made = paired(3, 10, 1, 10)
    assert made.pair.chosen["content"] == "answer 1"
    assert made.pair.rejected["content"] in {"answer 0", "answer 2"}


def test_every_worse_answer_can_be_drawn() -> None:
    drawn = {paired(3, 10, 1, seed=seed).pair.rejected["content"] for seed in range(30)}
    assert drawn == {"answer 0", "answer 2"}


@pytest.mark.parametrize(
    ("scores", "texts", "reason"),
    [
        ((5, 5, None), None, "the graded answers tie"),
        ((None, 5, None), None, "only one answer has a grade"),
        ((None, None), None, "no answer has a grade"),
        ((9, 5), ["", " "], "no graded answer has text"),
        ((9, 5), ["", "fine"], "the graded answers tie"),
        ((9, 5), ["same", "same"], "every worse answer has the text of the best"),
    ],
)
def test_no_pair_is_made_without_a_better_and_a_worse_answer(
    scores: tuple[float | None, ...], texts: list[str] | None, reason: str
) -> None:
    made = make_pair(QUESTION, graded(*scores, texts=texts), seed=0)
    assert isinstance(made, NoPair)
    assert made.reason == reason


def test_an_answer_without_a_verdict_is_not_used() -> None:
    made = paired(None, 4, 2)
    assert (made.pair.chosen["content"], made.pair.rejected["content"]) == ("answer 1", "answer 2")


@given(scores=st.lists(st.one_of(st.none(), st.integers(1, 10)), max_size=6), seed=st.integers(0, 99))
def test_chosen_is_best_and_rejected_strictly_worse(scores: list[int | None], seed: int) -> None:
    made = make_pair(QUESTION, graded(*scores), seed=seed)
    if isinstance(made, NoPair):
        assert len({score for score in scores if score is not None}) < 2
    else:
        assert made.chosen.score == max(score for score in scores if score is not None)
        assert made.rejected.score < made.chosen.score  # type: ignore[operator]
        assert made == make_pair(QUESTION, graded(*scores), seed=seed), "the draw is the seed's"


def test_any_answer_of_the_reference_can_be_the_sampled_one_graded_or_not() -> None:
    entries = graded(3, 10, None)
    own = [replace(entry, answer=replace(entry.answer, model="reference")) for entry in entries[1:]]
    drawn = set()
    for seed in range(30):
        made = make_pair(QUESTION, [entries[0], *own], seed=seed, reference="reference")
        assert isinstance(made, RankedPair)
        assert made.pair.sampled is not None
        drawn.add(made.pair.sampled["content"])
    assert drawn == {"answer 1", "answer 2"}
    assert paired(3, 10).pair.sampled is None


def test_pairs_are_written_so_that_ours_and_others_read_them(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.jsonl", [paired(3, 10, reference="model-0")])
    (row,) = map(json.loads, (tmp_path / "pairs.jsonl").read_text().splitlines())
    assert row["prompt"] == [{"role": "user", "content": "Name a colour."}]
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
    assert (row["score_chosen"], row["score_rejected"], row["model_chosen"]) == (10, 3, "model-1")
    assert pair_of(row, "here") == paired(3, 10, reference="model-0").pair


def test_prompts_without_a_pair_are_written_with_the_reason(tmp_path: Path) -> None:
    made = make_pair(QUESTION, graded(5, None), seed=0)
    assert isinstance(made, NoPair)
    write_no_pairs(tmp_path / "no_pair.jsonl", [made])
    (row,) = map(json.loads, (tmp_path / "no_pair.jsonl").read_text().splitlines())
    assert (row["prompt_id"], row["reason"]) == ("q1", "only one answer has a grade")
    assert row["grades"] == [{"model": "model-0", "score": 5}, {"model": "model-1", "score": None}]
