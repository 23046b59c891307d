"""Stored answers, graded by another judge."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from servers import fake_openai
from test_mt_bench_pairwise import LIMIT, local_judge, run
from typer.testing import CliRunner

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.rejudge import judge_run
from zephyr_bench.cli import app
from zephyr_bench.errors import UserError
from zephyr_bench.judges import Judge
from zephyr_bench.progress import Progress
from zephyr_bench.records import Judgment, Match
from zephyr_bench.store import RunStart, Store


def again(store: Store, run_id: str, judge: Any) -> dict[str, Any]:
    benchmark = open_benchmark(store.run(run_id).benchmark)
    outcome = judge_run(store, run_id, benchmark, judge, Progress(quiet=True))
    assert store.run(outcome.run).status == "complete"
    assert store.run(outcome.run).protocol == store.run(run_id).protocol
    return {score.metric: (score.value, score.n) for score in outcome.scores}


def test_grades_of_another_judge(store: Store, models: dict[str, Path], tmp_path: Path) -> None:
    first = run(store, models["one"], "mt-bench-mini")
    with fake_openai("[[4]]") as server:
        judge = local_judge(server, tmp_path)
        assert again(store, first.run, judge)["score"] == (4.0, 2 * LIMIT)
        assert again(store, first.run, judge)["score"] == (4.0, 2 * LIMIT)
        assert len(server.requests) == 2 * LIMIT, "what is judged is not judged again"
    assert {answer.key for answer in store.answers_of(store.runs()[0].id)} == {
        answer.key for answer in store.answers_of(first.run)
    }


def test_pairs_by_another_judge(store: Store, models: dict[str, Path], tmp_path: Path) -> None:
    run(store, models["two"], "mt-bench-mini")
    first = run(store, models["one"], "mt-bench-mini-pairwise", baselines=["two"])
    with fake_openai("[[A]]") as server:
        found = again(store, first.run, local_judge(server, tmp_path))
    assert found["win-rate-adjusted"] == (50.0, 2 * LIMIT)
    assert found["consistency"] == (0.0, 2 * LIMIT)


def test_instructions_by_another_judge(store: Store, models: dict[str, Path], tmp_path: Path) -> None:
    first = run(store, models["one"], "alpaca-eval-mini")
    with fake_openai("[[C]]") as server:
        found = again(store, first.run, local_judge(server, tmp_path))
    assert found["win-rate"] == (50.0, LIMIT)
    assert found["avg-length"] == ({s.metric: s.value for s in first.scores}["avg-length"], LIMIT)


def test_a_judgment_without_its_answer_cannot_be_made_again(store: Store, tmp_path: Path) -> None:
    from zephyr_bench.interop.fastchat_import import read_fastchat
    from zephyr_bench.interop.imported_runs import add_to_store

    row = {"question_id": 81, "model": "m", "turn": 1, "score": 5, "judgment": "[[5]]", "judge": ["gpt-4", "single-v1"]}
    file = tmp_path / "judged.jsonl"
    file.write_text(json.dumps({**row, "user_prompt": "", "tstamp": 1.0}) + "\n")
    benchmark: Any = open_benchmark("mt-bench")
    add_to_store(store, read_fastchat([file], benchmark))
    (imported,) = store.runs()
    with fake_openai("[[C]]") as server, pytest.raises(UserError, match="turn 1, is not known, only a judgment of it"):
        again(store, imported.id, local_judge(server, tmp_path))
    assert len(store.runs()) == 1


def test_the_command(store: Store, models: dict[str, Path], tmp_path: Path) -> None:
    first = run(store, models["one"], "mt-bench-mini")
    url = f"sqlite:///{tmp_path}/store.db"
    with fake_openai("[[4]]") as server:
        judge = local_judge(server, tmp_path)
        words = ["judge", "--run", first.run, "--judge", str(tmp_path / "local.yaml"), "--base-url", server.url]
        done = CliRunner().invoke(app, [*words, "--store", url, "--format", "json"], catch_exceptions=False)
    assert {row["metric"]: row["value"] for row in json.loads(done.stdout)}["score"] == 4.0
    assert judge.name == "local"


def test_a_limit_takes_questions_of_every_category(store: Store, models: dict[str, Path], tmp_path: Path) -> None:
    from zephyr_bench.benchmarks.rejudge import spread

    benchmark: Any = open_benchmark("mt-bench-mini")
    categories = {question.id: question.category for question in benchmark.questions}
    count = len(set(categories.values()))
    chosen = spread(benchmark.questions, 2 * count)
    assert sorted(categories[id] for id in chosen) == sorted(2 * [*set(categories.values())])
    assert spread(benchmark.questions[::-1], 2 * count) == chosen, "whatever order they come in"
    assert spread(benchmark.questions, count) == chosen[:count]
    first = run(store, models["one"], "mt-bench-mini")
    with fake_openai("[[4]]") as server:
        judge_run(store, first.run, benchmark, local_judge(server, tmp_path), Progress(quiet=True), limit=1)
        assert len(server.requests) == 2


def test_a_limit_that_cuts_nothing_makes_no_part(store: Store, models: dict[str, Path], tmp_path: Path) -> None:
    first = run(store, models["one"], "mt-bench-mini")
    with fake_openai("[[4]]") as server:
        judge = local_judge(server, tmp_path)
        for limit, part in ((LIMIT - 1, True), (LIMIT, False), (LIMIT + 1, False)):
            benchmark: Any = open_benchmark("mt-bench-mini")
            made = judge_run(store, first.run, benchmark, judge, Progress(quiet=True), limit=limit)
            assert (store.run(made.run).protocol != store.run(first.run).protocol) is part, limit


class Overtaken:
    """A judge whom another process is ahead of: before each verdict comes, the store has one of 1 for that match."""

    def __init__(self, judge: Judge, place: str, run_id: str) -> None:
        self._judge, self._place, self._run = judge, place, run_id
        self.name, self.fingerprint = judge.name, judge.fingerprint
        self.missing, self.cost_usd = judge.missing, judge.cost_usd

    def grade(self, matches: Iterable[Match]) -> Iterator[Judgment]:
        by_key = {match.key(self.fingerprint): match for match in matches}
        with Store(self._place) as other:
            known = other.run(self._run)
            start = RunStart(known.benchmark, known.model, known.model_fingerprint, known.engine_fingerprint)
            run = other.start_run(start)
            for judgment in self._judge.grade(by_key.values()):
                run.add_judgments([(by_key[judgment.key], replace(judgment, score=1.0))])
                yield judgment


def test_of_two_processes_that_judge_one_match_the_first_ones_verdict_is_in_both_runs(
    store: Store, models: dict[str, Path], tmp_path: Path
) -> None:
    first = run(store, models["one"], "mt-bench-mini")
    with fake_openai("[[4]]") as server:
        judge = Overtaken(local_judge(server, tmp_path), f"sqlite:///{tmp_path}/store.db", first.run)
        assert again(store, first.run, judge)["score"] == (1.0, 2 * LIMIT), "what the store holds"
