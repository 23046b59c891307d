"""A process killed with -9 in the middle loses nothing that was stored, and is completed by running it again."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killed import kill_once

COMMAND = str(Path(sys.executable).with_name("zephyr-bench"))


def mtbench(model: str | Path, store: Path, *more: str) -> list[str]:
    words = [
        "mtbench",
        "--model",
        str(model),
        "--benchmark",
        "mt-bench-mini",
        "--batch-size",
        "4",
        "--format",
        "json",
    ]
    return [COMMAND, *words, "--store", f"sqlite:///{store}", *more]


def count(store: Path, table: str) -> int:
    if not store.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
            return int(connection.execute(f"select count(*) from {table}").fetchone()[0])
    except sqlite3.OperationalError:  # not made yet
        return 0


def kill_when(command: list[str], store: Path, *, table: str, rows: int) -> None:
    kill_once(command, lambda: count(store, table) >= rows)


def scores(command: list[str]) -> list[dict[str, object]]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [{key: row[key] for key in ("metric", "value", "stderr", "n")} for row in json.loads(done.stdout)]


def check_killed_run(model: str | Path, folder: Path, *more: str, rows: int) -> None:
    broken, unbroken = folder / "broken.db", folder / "unbroken.db"
    kill_when(mtbench(model, broken, *more), broken, table="answers", rows=rows)
    stored = count(broken, "answers")
    with sqlite3.connect(broken) as connection:
        before = dict(connection.execute("select key, created from answers").fetchall())
    resumed = scores(mtbench(model, broken, *more))
    with sqlite3.connect(broken) as connection:
        after = dict(connection.execute("select key, created from answers").fetchall())
    assert stored >= rows
    assert {key: after[key] for key in before} == before, "a stored answer was replaced"
    assert resumed == scores(mtbench(model, unbroken, *more))
    runs = subprocess.run(
        [COMMAND, "runs", "--store", f"sqlite:///{broken}", "--format", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [run["status"] for run in json.loads(runs.stdout)] == ["complete", "interrupted"]


def test_killed_run_resumes_with_the_same_scores(model_dir: Path, tmp_path: Path) -> None:
    check_killed_run(model_dir, tmp_path, "--limit", "12", rows=5)


@pytest.mark.slow
def test_killed_run_of_the_real_model_resumes_with_the_same_scores(embedded_model: str, tmp_path: Path) -> None:
    """In batches: rounding tips a sampled token of a real model as soon as other rows share a batch than before."""
    check_killed_run(embedded_model, tmp_path, "--limit", "6", rows=5)


def test_a_finished_run_again_makes_nothing_and_prints_the_same(model_dir: Path, tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    first = scores(mtbench(model_dir, store, "--limit", "3"))
    made = {table: count(store, table) for table in ("answers", "judgments")}
    assert scores(mtbench(model_dir, store, "--limit", "3")) == first
    assert {table: count(store, table) for table in made} == made


def test_ctrl_c_exits_130_and_keeps_what_was_done(model_dir: Path, tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    process = subprocess.Popen(mtbench(model_dir, store), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while count(store, "answers") < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "run the same command again" in err
    assert "Traceback" not in err
    assert out == ""
    assert count(store, "answers") >= 3
