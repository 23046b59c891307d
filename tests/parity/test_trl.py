"""dSFT and dDPO against TRL's trainers: the same data from the same weights, loss and gradient norm step by step.

Every step takes the whole data set, so that the order of rows, which each shuffles its own way, says nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_data import DIALOGUES, PAIRS

from zephyr_bench.engines.locate import locate
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe
from zephyr_bench.trainers.ddpo import train_ddpo
from zephyr_bench.trainers.dsft import train_dsft
from zephyr_bench.training_data.reading import read_dialogues, read_pairs

trl = pytest.importorskip("trl")

EPOCHS = 6
SETTINGS = {"learning_rate": 5e-3, "epochs": EPOCHS, "global_batch": 6, "max_length": 256}
Trajectory = list[tuple[float, float, float]]  # loss, gradient norm, learning rate


def ours(folder: Path) -> Trajectory:
    rows = map(json.loads, (folder / "training_log.jsonl").read_text().splitlines())
    return [(row["loss"], row["grad_norm"], row["learning_rate"]) for row in rows]


def theirs(trainer: Any) -> Trajectory:
    trainer.train()
    return [(row["loss"], row["grad_norm"], row["learning_rate"]) for row in trainer.state.log_history if "loss" in row]


def arguments(folder: Path, schedule: str) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "trl"),
        "per_device_train_batch_size": 6,
        "num_train_epochs": EPOCHS,
        "learning_rate": 5e-3,
        "lr_scheduler_type": schedule,
        "warmup_steps": 0.1,  # a share of the steps, as it is below 1
        "max_length": 256,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
    }


def assert_same(found: Trajectory, expected: Trajectory) -> None:
    assert len(found) == len(expected) == EPOCHS
    for step, (left, right) in enumerate(zip(found, expected, strict=True), start=1):
        assert left == pytest.approx(right, rel=2e-3, abs=2e-5), f"step {step}"
    assert expected[-1][0] < expected[0][0] * 0.9, "nothing was learned, so nothing was compared"


def test_dsft_walks_as_trls_sft_trainer(
    make_recipe: Callable[..., Recipe], tmp_path: Path, tiny_model_dir: Path
) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    recipe = make_recipe(dsft={**SETTINGS, "data": [{"file": "dialogues.jsonl"}], "schedule": "cosine"})
    assert recipe.dsft is not None
    rows, quiet = read_dialogues(*recipe.dsft.data, recipe=recipe), Progress(quiet=True)
    train_dsft(recipe.dsft, locate(recipe.model), rows.items, recipe=recipe, out=tmp_path / "ours", progress=quiet)
    rows = [{"prompt": row["messages"][:1], "completion": row["messages"][1:]} for row in DIALOGUES]
    trainer = trl.SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model_dir),
        args=trl.SFTConfig(**arguments(tmp_path, "cosine")),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(tiny_model_dir),
    )
    assert_same(ours(tmp_path / "ours"), theirs(trainer))


def test_ddpo_walks_as_trls_dpo_trainer(
    make_recipe: Callable[..., Recipe], tmp_path: Path, tiny_model_dir: Path
) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    recipe = make_recipe(
        ddpo={**SETTINGS, "data": [{"file": "pairs.jsonl"}], "schedule": "linear", "beta": 0.1, "micro_batch": 4}
    )
    assert recipe.ddpo is not None
    pairs = read_pairs(*recipe.ddpo.data, recipe=recipe).items
    train_ddpo(
        recipe.ddpo, locate(recipe.model), pairs, recipe=recipe, out=tmp_path / "ours", progress=Progress(quiet=True)
    )
    rows = [
        {"prompt": row["chosen"][:1], "chosen": row["chosen"][1:], "rejected": row["rejected"][1:]} for row in PAIRS
    ]
    trainer = trl.DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model_dir),
        args=trl.DPOConfig(beta=0.1, **arguments(tmp_path, "linear")),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(tiny_model_dir),
    )
    assert_same(ours(tmp_path / "ours"), theirs(trainer))
