"""Distilled supervised fine-tuning: learn a teacher's dialogues (arXiv 2310.16944, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import DsftStage, Recipe
from zephyr_bench.trainers.checkpoint import StageRecord, finished_before, load_for_training, save
from zephyr_bench.trainers.data import read_dialogues
from zephyr_bench.trainers.packing import fitted
from zephyr_bench.trainers.tokens import Example, Tree, encode_dialogue, pad_token

if TYPE_CHECKING:
    from torch import Tensor

    from zephyr_bench.trainers.forward import Predictor


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
    from zephyr_bench.trainers.forward import Predictor
    from zephyr_bench.trainers.loop import Task, train

    progress.say(f"dsft: {len(dialogues)} dialogues from {start.name}")
    model, tokenizer = load_for_training(start, stage, recipe=recipe, device=device)
    encode = partial(encode_dialogue, tokenizer, max_length=stage.max_length, loss_on=stage.loss_on)
    examples = [encode(dialogue.messages) for dialogue in dialogues]
    learned = [example for example in examples if example.targets]
    if not learned:
        raise UserError(f"dsft: no token with loss is left after cutting at max_length {stage.max_length}; raise it.")
    if len(learned) < len(examples):
        progress.warn(f"dsft: {len(examples) - len(learned)} dialogues have no token with loss within max_length")
    rows = _rows(learned, stage)
    model.train()
    task = Task(
        items=rows,
        loss=partial(
            _loss, Predictor(model, pad=pad_token(tokenizer)), length=stage.max_length if stage.packing else 0
        ),
        weight=lambda row: sum(example.targets for example in row),
        length=lambda row: sum(len(example.ids) for example in row),
    )
    steps = train(model, task, stage, seed=recipe.seed, what="dsft", progress=progress)
    return save(model, tokenizer, out, record, steps)


def _rows(examples: Sequence[Example], stage: DsftStage) -> list[tuple[Example, ...]]:
    """What counts as one of a global batch: a dialogue, or a row filled with several."""
    if not stage.packing:
        return [(example,) for example in examples]
    packed = fitted([len(example.ids) for example in examples], length=stage.max_length)
    return [tuple(examples[number] for number in row) for row in packed]


def _loss(
    predictor: Predictor, rows: Sequence[tuple[Example, ...]], *, length: int
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Negative log-likelihood summed over learned tokens (arXiv 2310.16944, section 3.1)."""
    return -predictor([Tree(example) for row in rows for example in row], length=length).log_probs.sum(), {}
