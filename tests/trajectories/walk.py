"""The first 50 steps of dSFT and dDPO on the embedded model, 128 tokens a step at most, recorded and replayed.

    .venv/bin/python tests/trajectories/walk.py     writes dsft.json and ddpo.json beside itself

A change of these numbers is a change of what training does: record them anew only where that was meant, and say so.
"""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from zephyr_bench.engines.locate import locate
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe, load_recipe
from zephyr_bench.trainers.ddpo import train_ddpo
from zephyr_bench.trainers.dsft import train_dsft
from zephyr_bench.training_data.data import Dialogue, Pair
from zephyr_bench.training_data.reading import read_dialogues

HERE = Path(__file__).parent
STEPS = 50
OVERRIDES = {
    "dsft": ["global_batch=1", "micro_batch=1", "max_length=128"],
    "ddpo": ["global_batch=1", "micro_batch=1", "max_length=64", "max_prompt_length=24"],  # two answers, one prompt
}


def walked(stage: str) -> list[dict[str, Any]]:
    """Loss, gradient norm and, of dDPO, the margin of each step."""
    recipe = load_recipe("smol", (), [f"{stage}.{override}" for override in OVERRIDES[stage]])
    assert recipe.dsft is not None
    dialogues = read_dialogues(*recipe.dsft.data, recipe=recipe).items[:STEPS]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / stage
        if stage == "dsft":
            _dsft(recipe, dialogues, out)
        else:
            _ddpo(recipe, pairs_of(dialogues), out)
        steps = [json.loads(line) for line in (out / "training_log.jsonl").read_text().splitlines()]
    return [
        {
            "loss": step["loss"],
            "grad_norm": step["grad_norm"],
            **{k: v for k, v in step["watched"].items() if k == "margin"},
        }
        for step in steps
    ]


def _dsft(recipe: Recipe, dialogues: Sequence[Dialogue], out: Path) -> None:
    assert recipe.dsft is not None
    quiet = Progress(quiet=True)
    train_dsft(recipe.dsft, locate(recipe.model), dialogues, recipe=recipe, out=out, progress=quiet, device="cpu")


def _ddpo(recipe: Recipe, pairs: list[Pair], out: Path) -> None:
    assert recipe.ddpo is not None
    train_ddpo(
        recipe.ddpo, locate(recipe.model), pairs, recipe=recipe, out=out, progress=Progress(quiet=True), device="cpu"
    )


def pairs_of(dialogues: Sequence[Dialogue]) -> list[Pair]:
    """Each first answer against that of the next dialogue."""
    answers = [dialogue.messages[1] for dialogue in dialogues]
    return [
        Pair(str(number), dialogue.messages[:1], answers[number], answers[(number + 1) % len(answers)])
        for number, dialogue in enumerate(dialogues)
    ]


def main() -> None:
    for stage in OVERRIDES:
        told = {
            "versions": {name: version(name) for name in ("torch", "transformers")},
            "hardware": f"{platform.machine()}, CPU, float32",
            "steps": walked(stage),
        }
        (HERE / f"{stage}.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
