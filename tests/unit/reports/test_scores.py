"""One run's scores as text, and writing a report to a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest_reports import AddRun, chat_samples

from zephyr_bench.errors import UserError
from zephyr_bench.reports.scores import render_run
from zephyr_bench.store import Store
from zephyr_bench.written_file import write_text


def test_a_run_shows_every_metric_with_error_and_counts(store: Store, add_run: AddRun) -> None:
    run = add_run("tiny", samples=chat_samples((7.0, 6.0), (3.0, None)), note="quantised")
    lines = render_run(store, run, "table").splitlines()
    assert lines[0] == "tiny (quantised) on mt-bench-mini, judged by rubric"
    assert lines[4].split() == ["score", "5.33", "±1.56", "3", "1"]
    assert f"run {run}" in lines[-2]


def test_a_runs_json_has_the_leaderboards_records(store: Store, add_run: AddRun) -> None:
    run = add_run("tiny", samples=chat_samples((7.0, 6.0), (3.0, 4.0)))
    rows = json.loads(render_run(store, run, "json"))
    assert [row["metric"] for row in rows] == ["score", "turn-1", "turn-2", "math", "writing"]
    assert {row["run"] for row in rows} == {run}


def test_an_unfinished_run_is_not_shown_as_whole(store: Store, add_run: AddRun) -> None:
    run = add_run("tiny", status="interrupted")
    assert "interrupted, not to be taken for a whole one" in render_run(store, run, "table")


def test_a_report_replaces_the_file_and_makes_its_folder(tmp_path: Path) -> None:
    target = tmp_path / "new" / "leaderboard.md"
    write_text(target, "first\n")
    write_text(target, "second ±\n")
    assert target.read_bytes() == "second ±\n".encode()
    assert list(target.parent.iterdir()) == [target]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path} can't be written: Is a directory"):
        write_text(tmp_path, "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be written"):
        write_text(tmp_path / "file" / "x.md", "x")
