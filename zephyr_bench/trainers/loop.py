"""The training loop: global batches cut into micro-batches, AdamW, warm-up and decay, clipping.

In: a model, items, and a function that gives the summed loss of a few items. Out: the model, updated, and
a log of every step. Knows no dialogues and no pairs. One process, one device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from zephyr_bench.errors import UserError
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Training
from zephyr_bench.trainers.restart import RestartPoints
from zephyr_bench.trainers.schedule import learning_rate_share

Item = TypeVar("Item")
_DIVERGED = 10  # times the first loss
_TOLD = 8  # rows that a message names


@dataclass(frozen=True)
class Step:
    """What one optimiser step did. `loss` is before it, per unit of weight (token or pair)."""

    step: int  # from 1
    epoch: int  # from 1
    loss: float
    learning_rate: float
    grad_norm: float  # before clipping
    watched: Mapping[str, float] = field(default_factory=dict)  # per unit of weight


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
    check: Callable[[Step], None] = lambda _: None,
    restart: RestartPoints | None = None,
) -> list[Step]:
    """Update the model in place. The result depends on `micro_batch` by rounding only.

    Gradients are of the mean over the whole global batch (sum over micro-batches / total weight), not a
    mean of means: short and long micro-batches count by their tokens. With restart points the training goes on where
    the newest stands. Raises UserError for a loss or
    gradient that is not finite, and what `check` raises on seeing a step.
    """
    batches = list(_batches(task.items, settings, seed))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    steps = restart.restore(model, optimizer) if restart else []
    if steps:
        progress.say(f"{what}: going on after step {len(steps)} of {len(batches)}")
    rest = batches[len(steps) :]
    tracked = progress.track(rest, what=what, total=len(rest), unit="steps")
    for number, (epoch, batch) in enumerate(tracked, start=len(steps)):
        share = learning_rate_share(
            number, steps=len(batches), warmup_ratio=settings.warmup_ratio, schedule=settings.schedule
        )
        rate = settings.learning_rate * share
        for group in optimizer.param_groups:
            group["lr"] = rate
        weight = sum(map(task.weight, batch))
        total, watched = 0.0, dict[str, float]()
        for part in _micro_batches(batch, task, settings.micro_batch or settings.global_batch):
            with autocast(model, settings):
                loss, sums = task.loss(part)
            value = float(loss.detach())
            _check_finite(value, what, "loss", number + 1, map(task.name, part))
            (loss / weight).backward()
            total += value / weight
            for name, summed in sums.items():
                watched[name] = watched.get(name, 0.0) + float(summed) / weight
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm))
        _check_finite(norm, what, "gradient norm", number + 1, map(task.name, batch))
        steps.append(Step(number + 1, epoch, total, rate, norm, watched))
        check(steps[-1])
        if total > _DIVERGED * max(1.0, steps[0].loss):
            rows = _told(map(task.name, batch))
            told = f"{what}: the loss is {total:.4g} at step {number + 1}, of {steps[0].loss:.4g} at the first"
            raise UserError(f"{told}: it diverges, in rows {rows}; lower learning_rate.")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if restart and restart.due():
            restart.save(model, optimizer, steps)
    return steps


def _check_finite(value: float, what: str, of: str, step: int, rows: Iterable[str]) -> None:
    if not math.isfinite(value):
        told = f"{what}: the {of} is {value} at step {step}, in rows {_told(rows)}"
        raise UserError(f"{told}; lower learning_rate, or look at the rows.")


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


def _micro_batches(batch: Sequence[Item], task: Task[Item], rows: int) -> Iterator[list[Item]]:
    """Items of like length together, so that little is padded."""
    by_length = sorted(batch, key=task.length, reverse=True)
    for start in range(0, len(by_length), rows):
        yield by_length[start : start + rows]
