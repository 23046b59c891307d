"""Distilled supervised fine-tuning: learn a teacher's dialogues (arXiv 2310.16944, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import DsftStage, Recipe
from zephyr_bench.trainers.checkpoint import StageRecord, finished_before, load_for_training, save
from zephyr_bench.trainers.data import read_dialogues
from zephyr_bench.trainers.tokens import Example, encode_dialogue, pack, pad_token


def train_dsft(
    stage: DsftStage,
    start: ModelSource,
    *,
    recipe: Recipe,
    out: Path,
    progress: Progress,
    device: str = "auto",
    resume: bool = True,
) -> ModelSource:
    """The checkpoint in `out`, trained unless the same stage with the same data and parent is there already."""
    dialogues = [dialogue for source in stage.data for dialogue in read_dialogues(source, recipe=recipe)]
    record = StageRecord.of("dsft", stage, recipe=recipe, parent=start, data=dialogues)
    if done := finished_before(out, record, resume=resume, progress=progress):
        return done
    from zephyr_bench.trainers.loop import Task, train

    progress.say(f"dsft: {len(dialogues)} dialogues from {start.name}")
    model, tokenizer = load_for_training(start, stage, recipe=recipe, device=device)
    longest = None if stage.packing else stage.max_length  # packed rows are cut where they are full
    encode = partial(encode_dialogue, tokenizer, max_length=longest, loss_on=stage.loss_on)
    examples = [encode(dialogue.messages) for dialogue in dialogues]
    if stage.packing:
        examples = pack(examples, length=stage.max_length)
    learned = [example for example in examples if example.targets]
    if not learned:
        raise UserError(f"dsft: no token with loss is left after cutting at max_length {stage.max_length}; raise it.")
    if len(learned) < len(examples):
        progress.warn(f"dsft: {len(examples) - len(learned)} rows have no token with loss within max_length")
    task = Task(
        items=learned,
        loss=partial(_loss, model, pad=pad_token(tokenizer)),
        weight=lambda example: example.targets,
        length=lambda example: len(example.ids),
    )
    model.train()
    steps = train(model, task, stage, seed=recipe.seed, what="dsft", progress=progress)
    return save(model, tokenizer, out, record, steps)


def _loss(model: Any, examples: Sequence[Example], *, pad: int) -> Any:
    from zephyr_bench.trainers.forward import predict
    from zephyr_bench.trainers.losses import sft_loss

    found = predict(model, examples, pad=pad)
    return sft_loss(found.logits, found.targets)
