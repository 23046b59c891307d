"""Answers without a judge, graded later: the same run as one that was judged at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from judged_runs import QUIET, Answering, answered, by_text, judged
from typer.testing import CliRunner

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.evaluate import answer_alone
from zephyr_bench.benchmarks.rejudge import judge_run
from zephyr_bench.cli import app
from zephyr_bench.errors import UserError
from zephyr_bench.judges import open_judge
from zephyr_bench.reports.leaderboard import render_leaderboard
from zephyr_bench.store import Store


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize("benchmark", ["mt-bench-mini", "alpaca-eval-mini"])
def test_judged_later_it_is_the_same_run(benchmark: str, store: Store, tmp_path: Path) -> None:
    rubric = open_judge("rubric")
    alone = answered(store, "one", by_text(3, 9), benchmark).run
    assert store.scores_of([alone])[alone] == []
    assert not store.judgments_of(alone)
    later = judge_run(store, alone, open_benchmark(benchmark), rubric, QUIET)
    with Store(f"sqlite:///{tmp_path}/other.db") as other:
        whole = judged(other, "one", by_text(3, 9), rubric, benchmark)
        assert later.scores == whole.scores
        assert store.run(later.run).protocol == other.run(whole.run).protocol
        assert store.run(later.run).protocol_fingerprint == other.run(whole.run).protocol_fingerprint


def test_a_benchmark_that_scores_by_itself_has_no_answers_alone(store: Store) -> None:
    with pytest.raises(UserError, match="open-llm-mini has no answers that a judge could grade later"):
        answer_alone(open_benchmark("open-llm-mini"), Answering("one", by_text(3, 9)), store=store, progress=QUIET)


@pytest.mark.parametrize(
    "words", [["mtbench", "--benchmark", "mt-bench-mini"], ["alpaca-eval", "--benchmark", "alpaca-eval-mini"]]
)
def test_the_command(words: list[str], models: dict[str, Path], store: Store, tmp_path: Path) -> None:
    common = [*words, "--model", str(models["one"]), "--limit", "2", "--device", "cpu", "--quiet"]
    common += ["--store", f"sqlite:///{tmp_path}/store.db", "--format", "json"]
    done = invoke(*common, "--answers-only")
    assert (done.exit_code, json.loads(done.stdout)) == (0, [])
    (run,) = store.runs()
    assert (run.status, run.judge, len(store.judgments_of(run.id))) == ("complete", None, 0)
    assert json.loads(render_leaderboard(store, {}, format="json")) == []
    refused = invoke(*common, "--answers-only", "--judge", "rubric")
    assert str(refused.exception) == "--judge: --answers-only asks no judge; leave one of them out."


def test_pairs_of_answers_are_not_asked_for_without_a_judge() -> None:
    done = invoke("mtbench", "--model", "x", "--mode", "pairwise", "--answers-only")
    assert str(done.exception) == "--mode pairwise: --answers-only asks no judge; leave one of them out."
