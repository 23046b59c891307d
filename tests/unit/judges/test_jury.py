"""A jury's verdict, and that its members' judgments are kept as their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import fake_openai
from test_openai_judge import judge_at

from zephyr_bench.benchmarks.evaluate import recorded_run
from zephyr_bench.benchmarks.grading import grade
from zephyr_bench.benchmarks.protocol import Job
from zephyr_bench.engines import open_engine
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import JudgeUnavailable, UserError
from zephyr_bench.judges import open_judge
from zephyr_bench.progress import Progress
from zephyr_bench.records import Judgment
from zephyr_bench.store import Store
from zephyr_bench.testing.judges import CHECKS, pair, single

MATCHES = [single(f"Question {number}?", "An answer.", checks=[{"check": "words", "min": 1}]) for number in range(3)]
PAIR = pair("Q?", "one", "two")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path}/store.db") as opened:
        yield opened


def jury(folder: Path, *judges: str, **more: Any) -> Any:
    path = folder / "jury.yaml"
    path.write_text(json.dumps({"kind": "jury", "description": "x", "judges": judges, **more}))
    return open_judge(str(path))


def verdicts(*scores: float | None) -> list[Judgment]:
    return [Judgment(f"key {n}", f"judge {n}", score) for n, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("rule", "scores", "expected"),
    [
        ("mean", (4, 6, 9), 19 / 3),
        ("mean", (4, 6, None), 5),
        ("median", (4, 6, 9), 6),
        ("majority", (4, 4, 9), 4),
        ("majority", (4, 5, 9), None),
        ("mean", (4, None, None), None),
    ],
)
def test_one_verdict_of_several(
    tmp_path: Path, rule: str, scores: tuple[float | None, ...], expected: float | None
) -> None:
    judgment = jury(tmp_path, "rubric", "gpt-4", "claude", verdict=rule).combine(MATCHES[0], verdicts(*scores))
    assert judgment.score == expected
    assert (judgment.reason is None) == (expected is not None)


def test_of_two_answers_nobody_prefers_it_is_a_tie(tmp_path: Path) -> None:
    three = jury(tmp_path, "rubric", "gpt-4", "claude", verdict="majority")
    assert three.combine(PAIR, verdicts(1, 0, 0.5)).score == 0.5
    assert three.combine(PAIR, verdicts(1, 1, 0)).score == 1


def test_members_keep_their_judgments_and_are_not_asked_again(
    store: Store, tiny_model_dir: Path, tmp_path: Path
) -> None:
    engine = open_engine(str(tiny_model_dir), EngineOptions(device="cpu"))

    def graded(judge: Any) -> list[float | None]:
        with recorded_run(store, engine, judge, benchmark="mt-bench-mini", protocol={}, seed=0) as run:
            run.add_answers((match.question, match.answers[0]) for match in MATCHES)
            job = Job(engine=engine, judge=judge, run=run, progress=Progress(quiet=True))
            return [judgment.score for _, judgment in grade(job, MATCHES)]

    with fake_openai("[[4]]") as server:
        judge_at(server.url, tmp_path)
        both = jury(tmp_path, "rubric", "local.yaml")
        assert graded(both) == [7.0] * 3  # of 10 by the rubric and 4
        assert graded(both) == [7.0] * 3
        assert graded(open_judge(str(tmp_path / "local.yaml"))) == [4.0] * 3
        assert len(server.requests) == 3
    judges = sorted(judgment.judge for judgment in store.judgments_of(store.runs()[-1].id))
    assert judges == ["jury"] * 3 + ["local"] * 3 + ["rubric"] * 3
    with fake_openai(500) as server:
        judge_at(server.url, tmp_path)
        failing = jury(tmp_path, "local.yaml", "rubric")
        with pytest.raises(JudgeUnavailable):
            graded(failing)


def test_one_judge_is_not_counted_twice(tmp_path: Path) -> None:
    twice = jury(tmp_path, "rubric", "rubric")
    with pytest.raises(UserError, match="one judge is named twice"):
        twice.missing()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(tmp_path: Path, check: Any) -> None:
    with fake_openai(lambda body: "[[A]]" if "Assistant B" in body["messages"][1]["content"] else "[[7]]") as server:
        judge_at(server.url, tmp_path)
        check(lambda: jury(tmp_path, "rubric", "local.yaml", quorum=1), [*MATCHES, PAIR])
