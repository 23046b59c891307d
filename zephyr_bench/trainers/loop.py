"""The training loop: global batches cut into micro-batches, an optimiser, warm-up and decay, clipping.

In: a model, items, and a function that gives the summed loss of a few items. Out: the model, updated, and
a log of every step. Knows no dialogues and no pairs. Of several processes each runs a part of every batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from zephyr_bench.errors import UserError
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Training
from zephyr_bench.trainers.schedule import learning_rate_share
from zephyr_bench.training_runs.group import ALONE, Group, dealt
from zephyr_bench.training_runs.optimizers import optimizer_of
from zephyr_bench.training_runs.restart import RestartPoints
from zephyr_bench.training_runs.step import Step
from zephyr_bench.training_runs.watching import Watch

Item = TypeVar("Item")
_DIVERGED = 10  # times the first loss
_TOLD = 8  # rows that a message names


@dataclass(frozen=True)
class Task(Generic[Item]):
    """What is learned: the items, and how to take their loss."""

    items: Sequence[Item]
    # summed over the items: a scalar that carries gradients, and what is watched beside it
    loss: Callable[[Sequence[Item]], tuple[Tensor, Mapping[str, Tensor]]]
    weight: Callable[[Item], int]  # what an item counts for in the mean: its tokens, or 1
    length: Callable[[Item], int]  # tokens, so that items of like length share a forward pass
    name: Callable[[Item], str]  # for messages: the row that it came from


def train(
    model: Any,
    task: Task[Item],
    settings: Training,
    *,
    seed: int,
    what: str,
    progress: Progress,
    watch: Watch,
    check: Callable[[Step], None] = lambda _: None,
    restart: RestartPoints | None = None,
    group: Group = ALONE,
) -> list[Step]:
    """Update the model in place. The result depends on `micro_batch` and on the number of processes by rounding only.

    Gradients are of the mean over the whole global batch (sum over micro-batches of all processes / total weight), not
    a mean of means: short and long micro-batches count by their tokens. With restart points the training goes on where
    the newest stands. Raises UserError for a loss or gradient that is not finite, and what `check` raises on seeing a
    step; in all processes alike.
    """
    batches = list(_batches(task.items, settings, seed))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = optimizer_of(parameters, settings)
    steps = restart.restore(model, optimizer) if restart else []
    if steps:
        progress.say(f"{what}: going on after step {len(steps)} of {len(batches)}")
    watch.began(steps, total=len(batches))
    for number, (epoch, batch) in enumerate(batches[len(steps) :], start=len(steps)):
        share = learning_rate_share(
            number, steps=len(batches), warmup_ratio=settings.warmup_ratio, schedule=settings.schedule
        )
        rate = settings.learning_rate * share
        for learned in optimizer.param_groups:
            learned["lr"] = rate
        total, watched = _gradients(model, task, batch, settings, group, what=what, step=number + 1)
        clipped = torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        norm = float(clipped.full_tensor() if group.sharded else clipped)
        if trouble := _not_finite(norm, what, "gradient norm", number + 1, map(task.name, batch)):
            raise UserError(trouble)
        steps.append(Step(number + 1, epoch, total, rate, norm, watched, sum(map(task.length, batch))))
        check(steps[-1])
        if total > _DIVERGED * max(1.0, steps[0].loss):
            rows = _told(map(task.name, batch))
            told = f"{what}: the loss is {total:.4g} at step {number + 1}, of {steps[0].loss:.4g} at the first"
            raise UserError(f"{told}: it diverges, in rows {rows}; lower learning_rate.")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steps[-1] = watch.stepped(steps[-1])
        if restart and restart.due(early=watch.evaluates(number + 1)):
            restart.save(model, optimizer, steps)
        watch.evaluate(steps)
    return steps


def _gradients(
    model: Any, task: Task[Item], batch: Sequence[Item], settings: Training, group: Group, *, what: str, step: int
) -> tuple[float, dict[str, float]]:
    """Leaves in the parameters those of the mean loss. That loss, and what is watched, per unit of weight."""
    weight = sum(map(task.weight, batch))
    rows = settings.micro_batch or settings.global_batch
    parts = [parts[group.rank] for parts in dealt(batch, rows=rows, world=group.world, length=task.length)]
    total, watched, trouble = 0.0, dict[str, float](), ""
    for number, part in enumerate(parts, start=1):
        with group.accumulating(more=number < len(parts)):
            with autocast(model, settings):
                # whoever has nothing left keeps step, by a pass that counts for nothing
                loss, sums = task.loss(part or [min(batch, key=task.length)])
            (loss * (group.world if part else 0) / weight).backward()  # torch takes the mean of the processes'
        if not part:
            continue
        value = float(loss.detach())
        trouble = trouble or _not_finite(value, what, "loss", step, map(task.name, part))
        total += value / weight
        for name, summed in sums.items():
            watched[name] = watched.get(name, 0.0) + float(summed) / weight
    told = group.all((total, watched, trouble))
    for trouble in (trouble for *_, trouble in told if trouble):
        raise UserError(trouble)
    return sum(total for total, *_ in told), {
        name: sum(watched.get(name, 0.0) for _, watched, _ in told) for name in told[0][1]
    }


def _not_finite(value: float, what: str, of: str, step: int, rows: Iterable[str]) -> str:
    """The sentence for such a value; empty for any other."""
    if math.isfinite(value):
        return ""
    told = f"{what}: the {of} is {value} at step {step}, in rows {_told(rows)}"
    return f"{told}; lower learning_rate, or look at the rows."


def _told(rows: Iterable[str]) -> str:
    names = list(rows)
    return ", ".join(names[:_TOLD]) + (f" and {len(names) - _TOLD} more" if len(names) > _TOLD else "")


def autocast(model: Any, settings: Training) -> Any:
    """The context of a forward pass: bfloat16 arithmetic over float32 weights, or float32 throughout."""
    mixed = in_bfloat16(model, settings)
    return torch.autocast(model.device.type, dtype=torch.bfloat16) if mixed else nullcontext()


def in_bfloat16(model: Any, settings: Training) -> bool:
    """Where the recipe asks for it, or leaves the choice and the model is on a GPU."""
    return settings.dtype == "bfloat16" or (settings.dtype == "auto" and model.device.type == "cuda")


def _batches(items: Sequence[Item], settings: Training, seed: int) -> Iterator[tuple[int, list[Item]]]:
    """(epoch, global batch), each epoch in an order of its own; the last batch of an epoch may be smaller."""
    order = torch.Generator().manual_seed(seed)
    for epoch in range(1, settings.epochs + 1):
        shuffled = torch.randperm(len(items), generator=order).tolist()
        for start in range(0, len(items), settings.global_batch):
            yield epoch, [items[index] for index in shuffled[start : start + settings.global_batch]]
