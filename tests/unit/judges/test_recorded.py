"""Judgments said before, said again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zephyr_bench.errors import JudgeUnavailable, UserError
from zephyr_bench.judges import open_judge
from zephyr_bench.records import Answer, Match, Question
from zephyr_bench.testing.judges import single

QUESTION = Question("101", "reasoning", ("First?", "Second?"))


def answer(model: str, turn: int) -> Answer:
    return Answer(f"{model} {turn}", model, QUESTION.id, turn, "text")


def match(model: str, turn: int, rival: str | None = None, replicate: int = 0) -> Match:
    sides = [tuple(answer(name, n) for n in range(1, turn + 1)) for name in (model, rival) if name]
    return Match(QUESTION, turn, sides[0], sides[1] if rival else None, replicate)


def recorded(folder: Path, *rows: dict[str, Any]) -> Any:
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    path = folder / "replay.yaml"
    path.write_text("kind: recorded\ndescription: x\nfiles: [rows.jsonl]\n")
    return open_judge(str(path))


def row(model: str, turn: int, score: float) -> dict[str, Any]:
    return {"question_id": 101, "model": model, "turn": turn, "score": score, "judgment": f"[[{score}]]"}


def test_grades_come_back_by_question_turn_and_model(tmp_path: Path) -> None:
    judge = recorded(tmp_path, row("a", 1, 7), row("a", 2, -1), row("b", 1, 3), row("a", 1, 9))
    asked = [match("a", 1), match("a", 2), match("b", 1), match("a", 1, replicate=1)]
    told = {judgment.key: judgment for judgment in judge.grade(asked)}
    found = [told[one.key(judge.fingerprint)] for one in asked]
    assert [judgment.score for judgment in found] == [7, None, 3, 9]
    assert found[1].reason == "recorded without a verdict"
    assert found[0].reply == "[[7]]"


def test_a_pair_comes_back_in_both_orders(tmp_path: Path) -> None:
    pair = {"question_id": 101, "turn": 1, "model_1": "a", "model_2": "b", "g1_winner": "model_1", "g2_winner": "tie"}
    judge = recorded(tmp_path, pair)
    first, second = (next(judge.grade([asked])) for asked in (match("a", 1, "b"), match("b", 1, "a")))
    assert (first.score, second.score) == (1.0, 0.5)
    judge = recorded(tmp_path, {**pair, "g2_winner": "model_1"})
    assert next(judge.grade([match("b", 1, "a")])).score == 0.0


def test_what_was_never_judged_is_missing_and_named(tmp_path: Path) -> None:
    judge = recorded(tmp_path, row("a", 1, 7))
    taken = []
    with pytest.raises(JudgeUnavailable, match=r"no record of 1 .* question 101, turn 2 by a"):
        taken += judge.grade([match("a", 2), match("a", 1)])
    assert [judgment.score for judgment in taken] == [7]


def test_a_broken_row_is_named_by_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rows.jsonl line 2: 'turn' is missing or wrong"):
        list(recorded(tmp_path, row("a", 1, 7), {"question_id": 1}).grade([match("a", 1)]))


def test_a_stores_judgments_are_given_again(tmp_path: Path, tiny_model_dir: Path) -> None:
    from zephyr_bench.benchmarks.evaluate import recorded_run
    from zephyr_bench.benchmarks.grading import grade
    from zephyr_bench.benchmarks.protocol import Job
    from zephyr_bench.engines import open_engine
    from zephyr_bench.engines.protocol import EngineOptions
    from zephyr_bench.progress import Progress
    from zephyr_bench.store import Store

    url = f"sqlite:///{tmp_path}/store.db"
    asked = single("Q?", "Paris", checks=[{"check": "contains", "any": ["Paris"]}])
    engine, rubric = open_engine(str(tiny_model_dir), EngineOptions(device="cpu")), open_judge("rubric")
    with Store(url) as store, recorded_run(store, engine, rubric, benchmark="b", protocol={}, seed=0) as run:
        run.add_answers([(asked.question, asked.answers[0])])
        list(grade(Job(engine=engine, judge=rubric, run=run, progress=Progress(quiet=True)), [asked]))
    path = tmp_path / "replay.yaml"
    path.write_text(f"kind: recorded\ndescription: x\nstore: {url}\njudge: rubric\n")
    (judgment,) = open_judge(str(path)).grade([asked])
    assert judgment.score == 10


def of_store(folder: Path, *said: tuple[Match, float | None]) -> Any:
    """The judge of a store that holds these judgments."""
    from zephyr_bench.records import Judgment
    from zephyr_bench.store import RunStart, Store

    url = f"sqlite:///{folder}/store.db"
    with Store(url) as store:
        store.put_model(fingerprint="sha256:a", name="a", location="here")
        run = store.start_run(RunStart("b", "a", "sha256:a", "sha256:a", "j", "sha256:j"))
        answers = {one.key: one for asked, _ in said for one in (*asked.answers, *(asked.rival or ()))}
        run.add_answers((QUESTION, one) for one in answers.values())
        run.add_judgments((asked, Judgment(asked.key("sha256:j"), "j", score, None, "said")) for asked, score in said)
        run.finish("complete", [])
    path = folder / "replay.yaml"
    path.write_text(f"kind: recorded\ndescription: x\nstore: {url}\njudge: j\n")
    return open_judge(str(path))


def test_a_stores_comparison_of_one_order_tells_the_other_order_too(tmp_path: Path) -> None:
    judge = of_store(tmp_path, (match("a", 1, "b"), 0.75), (match("a", 1, "c"), None))
    turned, unread = judge.grade([match("b", 1, "a"), match("c", 1, "a")])
    assert (turned.score, turned.reply, unread.score) == (0.25, "said", None)
    assert turned.key == match("b", 1, "a").key(judge.fingerprint)
    with pytest.raises(JudgeUnavailable, match="no record of 1"):
        list(judge.grade([match("b", 1, "a", replicate=1)]))


def test_of_both_orders_in_a_store_each_is_its_own(tmp_path: Path) -> None:
    judge = of_store(tmp_path, (match("a", 1, "b"), 1.0), (match("b", 1, "a"), 1.0))
    assert [told.score for told in judge.grade([match("a", 1, "b"), match("b", 1, "a")])] == [1.0, 1.0]
