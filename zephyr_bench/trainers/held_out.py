"""Looks at rows that are not learned from, while others are: their loss, and how far a policy is from its reference.

In: a task over such rows, or pairs of answers. Out: means. No gradients, no dropout, no random numbers: training goes
on to the same bits as without a look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from zephyr_bench.recipe import Training
from zephyr_bench.trainers.head_log_probs import rows_at_once
from zephyr_bench.trainers.loop import Task, autocast
from zephyr_bench.training_runs.group import ALONE, Group, dealt

if TYPE_CHECKING:
    from zephyr_bench.trainers.forward import Predictor
    from zephyr_bench.training_data.tokens import Tree

Item = TypeVar("Item")
T = TypeVar("T")
_LIKELIEST = 64  # of the reference's tokens, each an event of its own


@contextmanager
def _looking(model: Any, settings: Training) -> Iterator[None]:
    was = model.training
    model.eval()
    try:
        with torch.no_grad(), autocast(model, settings):
            yield
    finally:
        model.train(was)


def held_out_means(model: Any, task: Task[Item], settings: Training, *, group: Group = ALONE) -> dict[str, float]:
    """The loss, and what is watched beside it, per unit of weight over all the items, shared out among processes."""
    rows = settings.micro_batch or settings.global_batch
    weight = sum(map(task.weight, task.items))
    means: dict[str, float] = {}
    with _looking(model, settings):
        for parts in dealt(task.items, rows=rows, world=group.world, length=task.length):
            part = parts[group.rank]
            loss, sums = task.loss(part or [min(task.items, key=task.length)])  # to keep step
            for name, summed in {"loss": loss, **sums}.items() if part else ():
                means[name] = means.get(name, 0.0) + float(summed) / weight
    told = group.all(means)
    return {f"held_out/{name}": sum(one.get(name, 0.0) for one in told) for name in told[0]}


class Divergence:
    """KL(policy || reference) of the next token, in nats, in the mean over the learned tokens of some trees.

    Of answers as they are given, not of the policy's own, so it is no estimate of the KL that RLHF's reward subtracts.
    Of the reference's distributions the 64 likeliest tokens are kept and all the rest as one event. Both distributions
    so coarsened are never further apart than they were (the log sum inequality; Cover and Thomas, Elements of
    Information Theory, section 2.7): a lower bound, and close where 64 tokens are nearly all that both think possible.
    """

    def __init__(self, predictor: Predictor, trees: Sequence[Tree], settings: Training) -> None:
        """Takes the reference's distributions: while `predictor` still runs the reference."""
        rows = settings.micro_batch or settings.global_batch
        self._predictor, self._settings = predictor, settings
        self._batches = [trees[start : start + rows] for start in range(0, len(trees), rows)]
        self._reference: list[tuple[Tensor, Tensor]] = []  # tokens (n, 64), log-probabilities (n, 65): the rest last
        with _looking(predictor.model, settings):
            self._reference.extend(self._each(_likeliest))

    def mean(self) -> float:
        """Of the policy as it stands."""
        total, count = 0.0, 0
        with _looking(self._predictor.model, self._settings):
            known = iter(self._reference)
            for apart, tokens in self._each(lambda logits: _apart(logits, *next(known))):
                total += apart
                count += tokens
        return max(0.0, total / max(1, count))  # rounding may leave -1e-9

    def _each(self, what: Callable[[Tensor], T]) -> Iterator[T]:
        """Of logits (n, vocabulary) of some learned tokens at a time, in float32, always in the same order."""
        rows = rows_at_once(self._predictor.model.config.get_text_config(decoder=True).vocab_size)
        for trees in self._batches:
            yield from self._predictor.read(
                trees, lambda head, states: [what(head(part).float()) for part in states.split(rows)]
            )


def _likeliest(logits: Tensor) -> tuple[Tensor, Tensor]:
    tokens = logits.topk(min(_LIKELIEST, logits.shape[-1] - 1), dim=-1).indices  # one at least is left for the rest
    return tokens.int().cpu(), _coarse(logits, tokens).cpu()


def _apart(logits: Tensor, tokens: Tensor, reference: Tensor) -> tuple[float, int]:
    """(KL summed over the n tokens, n)."""
    policy = _coarse(logits, tokens.long().to(logits.device))  # (n, 65)
    return float((policy.exp() * (policy - reference.to(logits.device))).sum()), len(policy)


def _coarse(logits: Tensor, tokens: Tensor) -> Tensor:
    """log p of each of `tokens` (n, k) and of all others together: (n, k + 1)."""
    others = logits.scatter(1, tokens, float("-inf")).logsumexp(-1, keepdim=True)
    return torch.cat([logits.gather(1, tokens), others], dim=1) - logits.logsumexp(-1, keepdim=True)
