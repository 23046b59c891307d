"""A judge is retired: the old and the new one on the same answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judged_runs import QUIET, Mood, answered, by_text, judge_at, judged, moody_judge
from servers import FakeOpenAi, fake_openai
from typer.testing import CliRunner

from zephyr_bench import catalogue
from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.cli import app
from zephyr_bench.errors import UserError
from zephyr_bench.judges import Judge, open_judge
from zephyr_bench.pipeline.overlap import judge_overlap
from zephyr_bench.reports.leaderboard import render_leaderboard
from zephyr_bench.reports.overlap import Overlap, as_json, parts, render_overlap
from zephyr_bench.store import Store

QUESTIONS = 32  # of mt-bench-mini, of two turns each


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path}/store.db") as opened:
        yield opened


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Judge]:
    with moody_judge(tmp_path) as (_, server, path):
        yield judge_at(server, path)


@pytest.fixture
def new(tmp_path: Path) -> Iterator[tuple[Mood, FakeOpenAi, Judge]]:
    """Grades by two points less."""
    (tmp_path / "new").mkdir()
    with moody_judge(tmp_path / "new") as (mood, server, path):
        mood.harsher = 2
        yield mood, server, judge_at(server, path.rename(path.with_name("newer.yaml")))


def overlap(store: Store, runs: list[str], judge: Judge, **options: Any) -> Overlap:
    benchmark = open_benchmark(store.run(runs[0]).benchmark)
    return judge_overlap(store, runs, benchmark, judge, QUIET, **options)


def test_a_judge_two_points_harsher_is_brought_back_by_two_points(
    store: Store, old: Judge, new: tuple[Mood, FakeOpenAi, Judge]
) -> None:
    _, server, newer = new
    run = judged(store, "one", by_text(4, 9), old).run
    found = overlap(store, [run], newer)
    assert len(server.requests) == 2 * QUESTIONS, "the old judge's verdicts are stored"
    told = as_json(found)
    assert (told["old"], told["new"], told["verdicts"]) == ("gpt-4", "newer", 2 * QUESTIONS)
    assert told["calibration"]["intercept"] == pytest.approx(2)
    assert told["calibration"]["slope"] == pytest.approx(1)
    whole = told["parts"][0]
    assert whole["difference"] == pytest.approx(-2)
    assert whole["on_old_scale"] == pytest.approx(whole["old"])
    assert told["agreement"]["alike"] == 0
    at = {entry["new"]: entry for entry in told["scale"]}
    assert at[3.0]["value"] == pytest.approx(5)
    assert whole["extrapolated"] is False
    assert all(entry["extrapolated"] for entry in told["scale"] if abs(entry["new"] - whole["new"]) > 1)
    text = render_overlap(found, "table")
    assert "gpt-4 = 2.00 + 1.00 x newer" in text
    assert "extrapolated: no model here has such a mean by newer; they go from " in text
    assert "the slope lies between 1.00 and 1.00" in text


def test_the_new_judgments_are_runs_of_their_own_and_are_not_asked_twice(
    store: Store, old: Judge, new: tuple[Mood, FakeOpenAi, Judge]
) -> None:
    _, server, newer = new
    runs = [judged(store, name, by_text(low, low + 4), old).run for name, low in (("one", 3), ("two", 5))]
    found = overlap(store, runs, newer)
    assert [store.run(one.new_run).judge for one in found.judged] == ["newer", "newer"]
    assert as_json(overlap(store, runs, newer))["parts"][0] == as_json(found)["parts"][0]
    assert len(server.requests) == 2 * 2 * QUESTIONS
    names = [part.name.split(" ")[0] for part in parts(found)]
    assert names[:3] == ["all", "one", "two"]
    assert "writing" in names
    board = json.loads(render_leaderboard(store, {}, format="json"))
    assert {row["judge"] for row in board} == {"gpt-4", "newer"}


def test_a_part_is_spread_over_the_categories(store: Store, old: Judge, new: tuple[Mood, FakeOpenAi, Judge]) -> None:
    _, server, newer = new
    run = judged(store, "one", by_text(3, 9), old).run
    categories = {sample.category for sample in store.samples_of(run)}
    found = overlap(store, [run], newer, limit=len(categories))
    assert len(server.requests) == 2 * len(categories)
    assert {part.name for part in parts(found)} == {"all", *categories}
    assert store.run(found.judged[0].new_run).protocol["limit"] == len(categories)


def test_a_line_takes_four_questions(store: Store, old: Judge, new: tuple[Mood, FakeOpenAi, Judge]) -> None:
    run = judged(store, "one", by_text(3, 9), old).run
    found = overlap(store, [run], new[2], limit=3)
    assert found.calibration is None
    assert "it takes four questions" in render_overlap(found, "markdown")
    assert as_json(found)["scale"] == []


def test_runs_of_two_scales_and_runs_that_nobody_judged_are_refused_unasked(
    store: Store, old: Judge, new: tuple[Mood, FakeOpenAi, Judge]
) -> None:
    _, server, newer = new
    run = judged(store, "one", by_text(3, 9), old).run
    by_rubric = judged(store, "one", by_text(3, 9), open_judge("rubric")).run
    alone = answered(store, "two", by_text(3, 9)).run
    with pytest.raises(UserError, match=r"are not of one scale: mt-bench-mini by gpt-4 .* against .* by rubric"):
        overlap(store, [run, by_rubric], newer)
    with pytest.raises(UserError, match="was judged by nobody"):
        overlap(store, [run, alone], newer)
    with pytest.raises(UserError, match="was judged by gpt-4 itself"):
        overlap(store, [run], old)
    assert not server.requests


def test_pairs_are_compared_by_their_winners(store: Store, tmp_path: Path) -> None:
    run = judged(store, "one", by_text(3, 9), open_judge("rubric"), "alpaca-eval-mini").run
    path = tmp_path / "always-a-tie.yaml"
    path.write_text(catalogue.find("judge", "gpt-4").read_text())
    with fake_openai("[[C]]") as server:
        told = as_json(overlap(store, [run], judge_at(server, path)))
    assert told["metric"] == "win-rate"
    assert (told["parts"][0]["new"], told["calibration"]) == (50.0, None), "one verdict throughout tells no line"
    assert 0 < told["agreement"]["alike"] < 1
    assert told["agreement"]["close"] is None


def test_the_command(store: Store, old: Judge, new: tuple[Mood, FakeOpenAi, Judge], tmp_path: Path) -> None:
    _, server, _ = new
    runs = [judged(store, name, by_text(3, 9), old).run for name in ("one", "two")]
    words = ["judge", "--overlap", "--judge", str(tmp_path / "new" / "newer.yaml"), "--base-url", server.url]
    words += ["--limit", "8", "--store", f"sqlite:///{tmp_path}/store.db", "--quiet"]
    named = [word for run in runs for word in ("--run", run)]
    done = CliRunner().invoke(app, [*words, *named, "--format", "json"], catch_exceptions=False)
    assert json.loads(done.stdout)["verdicts"] == len(server.requests) == 2 * 2 * 8
    shown = CliRunner().invoke(app, [*words, *named, "--format", "markdown"], catch_exceptions=False)
    assert "| a mean of newer's | on gpt-4's scale |" in shown.stdout
    rows = CliRunner().invoke(app, [*words, *named, "--format", "csv"], catch_exceptions=False).stdout.splitlines()
    assert rows[0].startswith("answers,n,questions,old,new,")
    alone = CliRunner().invoke(app, [word for word in [*words, *named] if word != "--overlap"])
    assert "several are for --overlap" in str(alone.exception)
