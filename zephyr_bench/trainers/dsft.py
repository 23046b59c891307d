"""Distilled supervised fine-tuning: learn a teacher's dialogues (arXiv 2310.16944, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import DsftStage, Recipe
from zephyr_bench.trainers.checkpoint import StageRecord, finished_before, load_for_training, restart_points, save
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
    learned = [_Numbered(number, example) for number, example in enumerate(examples, start=1) if example.targets]
    if not learned:
        raise UserError(f"dsft: no token with loss is left after cutting at max_length {stage.max_length}; raise it.")
    if len(learned) < len(examples):
        progress.warn(f"dsft: {len(examples) - len(learned)} dialogues have no token with loss within max_length")
    model.train()
    length = stage.max_length if stage.packing else None
    task = Task(
        items=_rows(learned, stage),
        loss=partial(_loss, Predictor(model, pad=pad_token(tokenizer)), length=length),
        weight=lambda row: sum(one.example.targets for one in row),
        length=lambda row: sum(len(one.example.ids) for one in row),
        name=lambda row: "+".join(str(one.number) for one in row),
    )
    restart = restart_points(out, record, stage, resume=resume)
    steps = train(model, task, stage, seed=recipe.seed, what="dsft", progress=progress, restart=restart)
    made = save(model, tokenizer, out, record, steps)
    restart.clear()
    return made


@dataclass(frozen=True)
class _Numbered:
    number: int  # of the dialogue, from 1
    example: Example


_Row = tuple[_Numbered, ...]  # what counts as one of a global batch


def _rows(learned: Sequence[_Numbered], stage: DsftStage) -> list[_Row]:
    """A dialogue each, or rows filled with several."""
    if not stage.packing:
        return [(one,) for one in learned]
    packed = fitted([len(one.example.ids) for one in learned], length=stage.max_length)
    return [tuple(learned[number] for number in row) for row in packed]


def _loss(predictor: Predictor, rows: Sequence[_Row], *, length: int | None) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Negative log-likelihood summed over learned tokens (arXiv 2310.16944, section 3.1)."""
    found = predictor([Tree(one.example) for row in rows for one in row], length=length)
    return -found.log_probs.sum(), {}
