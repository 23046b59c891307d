"""A training that is evaluated in its midst: a curve as picture and CSV, and nothing twice after a kill."""

from __future__ import annotations

import csv
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from killed import kill_once
from tiny_data import DDPO, PAIRS, write_jsonl

COMMAND = str(Path(sys.executable).with_name("zephyr-bench"))


@pytest.fixture
def command(tmp_path: Path, model_dir: Path) -> list[str]:
    write_jsonl(tmp_path / "pairs.jsonl", PAIRS)
    recipe: dict[str, Any] = {
        "description": "tiny",
        "model": str(model_dir),
        "ddpo": {**DDPO, "global_batch": 1, "epochs": 1, "evaluate_every": 2, "held_out_every": 3},
        "evaluate": [{"benchmark": "mt-bench-mini", "limit": 2}, {"benchmark": "alpaca-eval-mini", "limit": 4}],
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    words = ["train-and-eval", "--recipe", str(tmp_path / "tiny.yaml"), "--output", str(tmp_path / "checkpoints")]
    return [COMMAND, *words, "--store", f"sqlite:///{tmp_path}/store.db"]


def runs(folder: Path) -> list[tuple[str, str]]:
    """(model, benchmark) of the complete ones."""
    with sqlite3.connect(folder / "store.db") as connection:
        return connection.execute("select model, benchmark from runs where status = 'complete'").fetchall()


def test_a_killed_training_goes_on_and_evaluates_no_step_twice(command: list[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    kill_once(command, lambda: ("tiny-ddpo@2", "mt-bench-mini") in runs(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = runs(tmp_path)
    assert found.count(("tiny-ddpo@2", "alpaca-eval-mini")) == 1
    assert found.count(("tiny-ddpo@4", "mt-bench-mini")) == 1
    checkpoints = tmp_path / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == [
        "ddpo", "ddpo-curve.csv", "ddpo-curve.png", "leaderboard.md",
    ]  # fmt: skip
    rows = list(csv.DictReader((checkpoints / "ddpo-curve.csv").open()))
    assert [(row["benchmark"], row["step"], row["model"]) for row in rows] == [
        (benchmark, step, model)
        for benchmark in ("mt-bench-mini", "alpaca-eval-mini")
        for step, model in (("0", "tiny-2048"), ("2", "tiny-ddpo@2"), ("4", "tiny-ddpo@4"), ("6", "tiny-ddpo"))
    ]
    assert (checkpoints / "ddpo-curve.png").read_bytes().startswith(b"\x89PNG")
    assert "tiny-ddpo: 6 steps, loss 0.6931 to" in done.stdout
    assert "; KL to the reference 0." in done.stdout

    made = len(runs(tmp_path))
    again = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, timeout=300, check=True)
    assert {row["model"] for row in json.loads(again.stdout)} == {"tiny-2048", "tiny-ddpo"}
    assert len(runs(tmp_path)) == made + 4, "the start and the end, and no step between"
