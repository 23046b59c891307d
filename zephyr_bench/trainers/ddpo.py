"""Distilled direct preference optimisation against the frozen starting model (arXiv 2310.16944, section 3.3).

The reference's log-probabilities are taken once, before training: the reference never moves, so it need not
stay in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError, ZephyrBenchError
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import DdpoStage, Recipe
from zephyr_bench.trainers.checkpoint import StageRecord, finished_before, load_for_training, save
from zephyr_bench.trainers.data import Pair
from zephyr_bench.trainers.tokens import PairExample, encode_pair, pad_token

if TYPE_CHECKING:
    from torch import Tensor

    from zephyr_bench.trainers.loop import Step


@dataclass(frozen=True)
class _Referenced:
    """A pair with what the reference thinks of both answers."""

    example: PairExample
    chosen: float  # log-probability
    rejected: float


def train_ddpo(
    stage: DdpoStage,
    start: ModelSource,
    pairs: Sequence[Pair],
    *,
    recipe: Recipe,
    out: Path,
    progress: Progress,
    device: str = "auto",
    resume: bool = True,
) -> ModelSource:
    """The checkpoint in `out`, trained unless the same stage with the same pairs and parent is there already."""
    if not pairs:
        raise UserError("ddpo: no preference pairs; the judge found no difference between any two answers.")
    record = StageRecord.of("ddpo", stage, recipe=recipe, parent=start, data=pairs)
    if done := finished_before(out, record, resume=resume, progress=progress):
        return done
    from zephyr_bench.trainers.loop import Task, train

    progress.say(f"ddpo: {len(pairs)} pairs from {start.name}")
    model, tokenizer = load_for_training(start, stage, recipe=recipe, device=device)
    _switch_dropout_off(model)
    pad = pad_token(tokenizer)
    examples = [
        encode_pair(tokenizer, pair, max_length=stage.max_length, max_prompt_length=stage.max_prompt_length)
        for pair in pairs
    ]
    model.train()
    items = list(_with_reference(model, examples, stage, pad=pad, progress=progress))

    def loss(batch: Sequence[_Referenced]) -> Tensor:
        return _loss(model, batch, beta=stage.beta, pad=pad).sum()

    task = Task(
        items=items,
        loss=loss,
        weight=lambda _: 1,
        length=lambda item: len(item.example.prompt) + max(len(item.example.chosen), len(item.example.rejected)),
    )
    check = partial(_check_first_loss, tolerance=_tolerance(model, stage))
    steps = train(model, task, stage, seed=recipe.seed, what="ddpo", progress=progress, check=check)
    return save(model, tokenizer, out, record, steps)


def _with_reference(
    model: Any, examples: Sequence[PairExample], stage: DdpoStage, *, pad: int, progress: Progress
) -> Iterator[_Referenced]:
    import torch

    from zephyr_bench.trainers.loop import autocast

    rows = stage.micro_batch or stage.global_batch
    by_length = sorted(examples, key=lambda example: len(example.prompt) + len(example.chosen))
    found: dict[int, _Referenced] = {}
    starts = range(0, len(by_length), rows)
    for first in progress.track(starts, what="ddpo: reference", total=len(starts), unit="batches"):
        batch = by_length[first : first + rows]
        with torch.no_grad(), autocast(model, stage):
            log_probs = _log_probs(model, batch, pad=pad).tolist()  # (2 x pairs)
        for index, example in enumerate(batch):
            found[id(example)] = _Referenced(example, log_probs[index], log_probs[len(batch) + index])
    return (found[id(example)] for example in examples)


def _loss(model: Any, batch: Sequence[_Referenced], *, beta: float, pad: int) -> Tensor:
    """Each pair's loss: (pairs,)."""
    from zephyr_bench.trainers.losses import dpo_loss, implicit_rewards

    policy = _log_probs(model, [item.example for item in batch], pad=pad)  # (2 x pairs)
    reference = policy.new_tensor([item.chosen for item in batch] + [item.rejected for item in batch])
    rewards = implicit_rewards(policy, reference, beta=beta)
    chosen, rejected = rewards.chunk(2)
    return dpo_loss(chosen, rejected)


def _log_probs(model: Any, examples: Sequence[PairExample], *, pad: int) -> Tensor:
    """log p(answer | prompt), summed over tokens: (2 x pairs), all chosen first, then all rejected."""
    from zephyr_bench.trainers.forward import predict
    from zephyr_bench.trainers.losses import sequence_log_probs, token_log_probs

    rows = [example.row(example.chosen) for example in examples]
    rows += [example.row(example.rejected) for example in examples]
    found = predict(model, rows, pad=pad)
    return sequence_log_probs(token_log_probs(found.logits, found.targets), found.rows, len(rows))


def _switch_dropout_off(model: Any) -> None:
    """Policy and reference must differ by training only (TRL: disable_dropout)."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout_p"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def _tolerance(model: Any, stage: DdpoStage) -> float:
    """How far rounding may move the first loss: log-probabilities of long answers, times beta."""
    from zephyr_bench.trainers.loop import in_bfloat16

    return (0.5 if in_bfloat16(model, stage) else 0.01) * max(stage.beta, 0.1)


def _check_first_loss(step: Step, *, tolerance: float) -> None:
    """Before the first update policy and reference are the same model, so every pair's loss is ln 2."""
    if step.step == 1 and abs(step.loss - math.log(2)) > tolerance:
        raise ZephyrBenchError(
            f"ddpo: the first loss is {step.loss:.4f}, not ln 2 = 0.6931: policy and reference differ before training. "
            f"Please report this, with the recipe."
        )
