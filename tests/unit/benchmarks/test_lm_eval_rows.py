"""Data that isn't as a task expects is told in one sentence before a model is loaded, whatever lm-eval raises of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval_data_2 import Row, write_data_2
from typer.testing import CliRunner

from zephyr_bench.benchmarks.lm_eval_rows import reason
from zephyr_bench.cli import app
from zephyr_bench.errors import UserError

MUSR, GPQA, MMLU_PRO = "TAUR-Lab/MuSR", "Idavidrein/gpqa", "TIGER-Lab/MMLU-Pro"
BBH, MATHS, IFEVAL = "SaylorTwift/bbh", "DigitalLearningGmbH/MATH-lighteval", "wis-k/instruction-following-eval"


@pytest.fixture
def no_weights(model_dir: Path, tmp_path: Path) -> Path:
    """A model that breaks as soon as it is loaded."""
    folder = shutil.copytree(model_dir, tmp_path / "no-weights")
    (folder / "model.safetensors").write_bytes(b"not weights")
    return folder


def changed(file: Path, change: Callable[[int, Row], Any]) -> None:
    """Rewrites a file of rows; a row of which None is made is left out."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    kept = [row for row in (change(number, row) for number, row in enumerate(rows)) if row is not None]
    file.write_text("".join(json.dumps(row) + "\n" for row in kept))


def renamed(old: str, new: str) -> Callable[[int, Row], Row]:
    return lambda _, row: {new if column == old else column: value for column, value in row.items()}


Change = Callable[[Path], Any]
CASES: dict[str, tuple[str, str, Change, str]] = {
    "front matter": (
        "leaderboard_musr",
        MUSR,
        lambda folder: (folder / "README.md").write_text("---\nconfigs:\n- config_name: [x\n---\n"),
        "malformed YAML in README.md line 3: expected",
    ),
    "no front matter": ("leaderboard_musr", MUSR, lambda folder: (folder / "README.md").unlink(), "'murder_mysteries'"),
    "a file is absent": (
        "leaderboard_musr",
        MUSR,
        lambda folder: (folder / "default/team_allocation.jsonl").unlink(),
        "team_allocation.jsonl'.",
    ),
    "files that differ": (
        "leaderboard_musr",
        MUSR,
        lambda folder: changed(folder / "default/team_allocation.jsonl", renamed("narrative", "story")),
        "its rows differ in their columns: some are with story.",
    ),
    "a column that code makes rows of": (
        "leaderboard_gpqa",
        GPQA,
        lambda folder: changed(folder / "gpqa_main/train.jsonl", renamed("Correct Answer", "Right")),
        "leaderboard_gpqa_main can't take its data from {folder}: it has no 'Correct Answer'.",
    ),
    "a column of a prompt": (
        "leaderboard_bbh_navigate",
        BBH,
        lambda folder: changed(folder / "navigate/test.jsonl", renamed("input", "text")),
        "it has no 'input'",
    ),
    "a column of grading": (
        "leaderboard_ifeval",
        IFEVAL,
        lambda folder: changed(folder / "default/train.jsonl", renamed("kwargs", "options")),
        "it has no 'kwargs'; its columns are key, prompt, instruction_id_list, options.",
    ),
    "a later row": (
        "leaderboard_mmlu_pro",
        MMLU_PRO,
        lambda folder: changed(folder / "default/test.jsonl", lambda n, row: {**row, "options": None} if n else row),
        "leaderboard_mmlu_pro can't take its data from {folder}: object of type 'NoneType' has no len()",
    ),
    "too few rows for the shots": (
        "leaderboard_mmlu_pro",
        MMLU_PRO,
        lambda folder: changed(folder / "default/validation.jsonl", lambda n, row: row if n < 2 else None),
        "exceeds the 2 that are available.",
    ),
    "no row of the hardest level": (
        "leaderboard_math_geometry_hard",
        MATHS,
        lambda folder: changed(folder / "geometry/test.jsonl", lambda _, row: {**row, "level": "Level 1"}),
        "it has no row for that task.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_data_that_does_not_fit_is_told_before_the_model_is_loaded(
    case: str, no_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    task, data_set, change, told = CASES[case]
    data = write_data_2(tmp_path / "data")
    change(data / data_set)
    words = ["open-llm", "--version", "2", "--model", str(no_weights), "--data", str(data), "--tasks", task]
    done = CliRunner().invoke(app, [*words, "--store", f"sqlite:///{tmp_path}/s.db", "--quiet"])
    assert isinstance(done.exception, UserError), done.exception
    assert told.format(folder=data / data_set) in str(done.exception)
    assert str(done.exception).startswith(f"open-llm-2: {task}")
    assert "\n" not in str(done.exception)


def test_a_long_sentence_of_another_library_is_cut() -> None:
    assert len(reason(ValueError("far " * 1000))) < 300


def test_what_datasets_says_of_a_gated_data_set_is_kept_not_the_status_behind_it() -> None:
    error = ValueError("Dataset 'a/b' is a gated dataset on the Hub.\nAsk for access.")
    error.__cause__ = OSError("401 Client Error")
    assert reason(error) == "Dataset 'a/b' is a gated dataset on the Hub"
