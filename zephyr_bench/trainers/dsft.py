"""Distilled supervised fine-tuning: learn a teacher's dialogues (arXiv 2310.16944, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_bench.engines.loading import end_tokens_of
from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import DsftStage, Recipe
from zephyr_bench.records import Message
from zephyr_bench.trainers.packing import fitted
from zephyr_bench.trainers.stage import StageJob, learn
from zephyr_bench.training_data.contract import FIRST, check_beginnings, check_ends
from zephyr_bench.training_data.data import Dialogue
from zephyr_bench.training_data.tokens import Example, Tree, encode_dialogue, pad_token
from zephyr_bench.training_runs.checkpoint import StageRecord, finished_before
from zephyr_bench.training_runs.group import Group
from zephyr_bench.training_runs.parallel import SILENT, together
from zephyr_bench.training_runs.watching import Observers

if TYPE_CHECKING:
    from torch import Tensor

    from zephyr_bench.trainers.forward import Predictor


def train_dsft(
    stage: DsftStage,
    start: ModelSource,
    dialogues: Sequence[Dialogue],
    *,
    recipe: Recipe,
    out: Path,
    progress: Progress,
    device: str = "auto",
    resume: bool = True,
    what: str = "dsft",
    places: Sequence[str] = (),
    held_out: Sequence[Dialogue] = (),
    observers: Observers = Observers(),  # noqa: B008 frozen
    include: tuple[Path, ...] = (),
    compared: Mapping[str, Any] | None = None,
) -> ModelSource:
    """The checkpoint in `out`, trained unless the same stage with the same data and parent is there already.

    `what`: the stage's name; a recipe may have two of them. `places`: where each dialogue stands, for messages.
    `held_out` only measure the loss. `compared`: with which evaluation questions the dialogues were, for the lineage.
    """
    record = StageRecord.of(what, stage, recipe=recipe, parent=start, data=dialogues, device=device, compared=compared)
    if done := finished_before(out, record, resume=resume, progress=progress):
        return done
    progress.say(f"{what}: {len(dialogues)} dialogues from {start.name}")
    named = places or [f"dialogue {number}" for number in range(1, len(dialogues) + 1)]
    job = StageJob(stage, record, recipe, out, device, resume, include)
    training = partial(_train, job, stage, dialogues, named, held_out)
    return together(training, progress=progress, observers=observers)


def _train(
    job: StageJob,
    stage: DsftStage,
    dialogues: Sequence[Dialogue],
    places: Sequence[str],
    held_out: Sequence[Dialogue],
    *,
    group: Group,
    progress: Progress = SILENT,
    observers: Observers = Observers(),  # noqa: B008 frozen
) -> ModelSource:
    """In all processes of the group."""
    from zephyr_bench.trainers.forward import Predictor
    from zephyr_bench.trainers.held_out import held_out_means
    from zephyr_bench.trainers.loop import Task

    what = job.record.stage
    model, tokenizer = job.load(group)
    encode = partial(encode_dialogue, tokenizer, max_length=stage.max_length, loss_on=stage.loss_on)
    first = (encode(_answered(dialogue), max_length=None) for dialogue in dialogues[:FIRST])
    check_ends(first, tokenizer, end_tokens_of(model, tokenizer), what=what)
    examples = [encode(dialogue.messages) for dialogue in dialogues]
    check_beginnings(((place, one.ids) for place, one in zip(places, examples, strict=True)), tokenizer, what=what)
    learned = [_Placed(place, example) for place, example in zip(places, examples, strict=True) if example.targets]
    if not learned:
        raise UserError(f"{what}: no token with loss is left after cutting at max_length {stage.max_length}; raise it.")
    if len(learned) < len(examples):
        progress.warn(f"{what}: {len(examples) - len(learned)} dialogues have no token with loss within max_length")
    model.train()
    length = stage.max_length if stage.packing else None
    predictor = Predictor(model, pad=pad_token(tokenizer), group=group)
    task = Task(
        items=_rows(learned, stage),
        loss=partial(_loss, predictor, length=length),
        weight=lambda row: sum(one.example.targets for one in row),
        length=lambda row: sum(len(one.example.ids) for one in row),
        name=lambda row: " + ".join(one.place for one in row),
    )
    shown = [_Placed("", encode(dialogue.messages)) for dialogue in held_out]
    aside = replace(task, items=_rows([one for one in shown if one.example.targets], stage))
    look = partial(held_out_means, model, aside, stage, group=group) if aside.items else None
    return learn(
        model,
        tokenizer,
        task,
        job,
        group=group,
        progress=progress,
        observers=observers,
        look=look,
    )


def _answered(dialogue: Dialogue) -> Sequence[Message]:
    """Up to its last answer."""
    last = max(number for number, message in enumerate(dialogue.messages) if message["role"] == "assistant")
    return dialogue.messages[: last + 1]


@dataclass(frozen=True)
class _Placed:
    place: str  # of the dialogue
    example: Example


_Row = tuple[_Placed, ...]  # what counts as one of a global batch


def _rows(learned: Sequence[_Placed], stage: DsftStage) -> list[_Row]:
    """A dialogue each, or rows filled with several."""
    if not stage.packing:
        return [(one,) for one in learned]
    packed = fitted([len(one.example.ids) for one in learned], length=stage.max_length)
    return [tuple(learned[number] for number in row) for row in packed]


def _loss(predictor: Predictor, rows: Sequence[_Row], *, length: int | None) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Negative log-likelihood summed over learned tokens (arXiv 2310.16944, section 3.1)."""
    found = predictor([Tree(one.example) for row in rows for one in row], length=length)
    return -found.log_probs.sum(), {}
