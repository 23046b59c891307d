"""A whole recipe over a tiny model, through the command line: done, done again, killed and resumed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from killed import kill_once
from tiny_data import DIALOGUES, write_jsonl

COMMAND = str(Path(sys.executable).with_name("zephyr-bench"))
# noise has lengths too: enough thresholds that answers of random weights seldom tie
CHECKS = [{"check": "words", "max": most} for most in range(1, 12)] + [{"check": "count", "text": "a", "min": 1}]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    write_jsonl(folder / "dialogues.jsonl", DIALOGUES)
    for name in ("train", "test"):
        rows = [{"id": f"{name}-{n}", "prompt": f"{name} {n}?", "checks": CHECKS} for n in range(8)]
        write_jsonl(folder / f"{name}.jsonl", rows)
    sections: dict[str, Any] = {
        "description": "tiny",
        "model": str(model_dir),
        "dsft": {"data": [{"file": "dialogues.jsonl"}], "learning_rate": 1e-3, "global_batch": 3},
        "feedback": {
            "prompts": {"file": "train.jsonl"},
            "held_out": {"file": "test.jsonl"},
            "engines": ["start", "dsft"],
            "samples": 2,
            "sampling": {"temperature": 1.0, "max_new_tokens": 40},
            "judge": "rubric",
        },
        "ddpo": {"learning_rate": 1e-3, "global_batch": 4, "beta": 0.1},
        "evaluate": [{"benchmark": "mt-bench-mini", "limit": 2}, {"benchmark": "alpaca-eval-mini", "limit": 4}],
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


@pytest.fixture(scope="module")
def unbroken(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run from beginning to end."""
    folder = tmp_path_factory.mktemp("unbroken")
    scores(recipe, folder)
    return folder


def command(recipe: Path, folder: Path, *more: str) -> list[str]:
    words = ["train-and-eval", "--recipe", str(recipe), "--output", str(folder / "checkpoints")]
    return [COMMAND, *words, "--store", f"sqlite:///{folder}/store.db", *more]


def scores(recipe: Path, folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        command(recipe, folder, "--format", "json"), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return [{key: row[key] for key in row if key != "run"} for row in json.loads(done.stdout)]


def count(folder: Path, table: str) -> int:
    with sqlite3.connect(folder / "store.db") as connection:
        return int(connection.execute(f"select count(*) from {table}").fetchone()[0])


def test_a_recipe_again_does_no_work_and_prints_the_same(recipe: Path, unbroken: Path) -> None:
    first = scores(recipe, unbroken)
    assert {row["model"] for row in first} == {"tiny-2048", "tiny-dsft", "tiny-ddpo"}
    assert {row["benchmark"] for row in first} == {"mt-bench-mini", "alpaca-eval-mini"}
    made = {table: count(unbroken, table) for table in ("answers", "judgments", "token_scores", "models")}
    trained = {path: path.stat().st_mtime_ns for path in unbroken.rglob("model.safetensors")}
    assert len(trained) == 2
    words = command(recipe, unbroken, "--tag", "nightly")
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
    assert count(unbroken, "tags") == 6, "each of three models on each of two benchmarks"
    assert {path: path.stat().st_mtime_ns for path in unbroken.rglob("model.safetensors")} == trained
    assert {table: count(unbroken, table) for table in made} == made
    assert scores(recipe, unbroken) == first
    for part in ("held-out preference pairs", "implicit-reward accuracy", "from tiny-dsft to tiny-ddpo", "feedback: "):
        assert part in done.stdout
    markdown = (unbroken / "checkpoints" / "leaderboard.md").read_text()
    assert markdown.startswith("| model | mt-bench-mini score | alpaca-eval-mini win-rate |")


@pytest.mark.slow
@pytest.mark.parametrize(("table", "rows"), [("answers", 40), ("token_scores", 4)])
def test_a_killed_recipe_ends_with_the_same_scores(
    table: str, rows: int, recipe: Path, unbroken: Path, tmp_path: Path
) -> None:
    kill_once(command(recipe, tmp_path), lambda: count(tmp_path, table) >= rows)
    assert scores(recipe, tmp_path) == scores(recipe, unbroken)


def test_a_stage_that_the_recipe_lacks_is_told(recipe: Path, tmp_path: Path) -> None:
    words = yaml.safe_load(recipe.read_text())
    del words["feedback"], words["ddpo"], words["evaluate"]
    less = tmp_path / "tiny.yaml"
    less.write_text(yaml.safe_dump(words))
    train = [COMMAND, "train", "--recipe", str(less), "--stage", "ddpo", "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [*train, "--store", f"sqlite:///{tmp_path}/store.db"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (2, "error: recipe tiny has no stage ddpo; it has dsft.")
