"""Short trainings of the tiny model, and their logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zephyr_bench.engines.locate import locate
from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe
from zephyr_bench.trainers.ddpo import train_ddpo
from zephyr_bench.trainers.dsft import train_dsft
from zephyr_bench.training_data.reading import read_dialogues, read_pairs

QUIET = Progress(quiet=True)


def dsft(recipe: Recipe, out: Path) -> ModelSource:
    assert recipe.dsft is not None
    rows = read_dialogues(*recipe.dsft.data, recipe=recipe).items
    return train_dsft(recipe.dsft, locate(recipe.model), rows, recipe=recipe, out=out, progress=QUIET)


def ddpo(recipe: Recipe, out: Path) -> ModelSource:
    assert recipe.ddpo is not None
    pairs = read_pairs(*recipe.ddpo.data, recipe=recipe).items
    return train_ddpo(recipe.ddpo, locate(recipe.model), pairs, recipe=recipe, out=out, progress=QUIET)


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "training_log.jsonl").read_text().splitlines()]
