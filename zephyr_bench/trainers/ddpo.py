"""Distilled direct preference optimisation against the frozen starting model (arXiv 2310.16944, section 3.3).

The reference's log-probabilities are taken before training (reference.py): the reference never moves, so it need not
stay in memory. Of each pair the prompt is computed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError, ZephyrBenchError
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import DdpoStage, Recipe
from zephyr_bench.trainers.checkpoint import StageRecord, finished_before, load_for_training, restart_points, save
from zephyr_bench.trainers.data import Pair
from zephyr_bench.trainers.reference import ReferenceLogProbs, reference_log_probs
from zephyr_bench.trainers.tokens import PairExample, encode_pair, pad_token

if TYPE_CHECKING:
    from torch import Tensor

    from zephyr_bench.trainers.forward import Predictor
    from zephyr_bench.trainers.loop import Step
    from zephyr_bench.trainers.losses import Ratios


@dataclass(frozen=True)
class Referenced:
    """A pair with what the reference thinks of each answer."""

    example: PairExample
    log_probs: tuple[float, ...]
    name: str = ""  # the pair's


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
    pairs = _with_what_the_loss_needs(pairs, stage)
    record = StageRecord.of("ddpo", stage, recipe=recipe, parent=start, data=pairs)
    if done := finished_before(out, record, resume=resume, progress=progress):
        return done
    from zephyr_bench.trainers.forward import Predictor
    from zephyr_bench.trainers.loop import Task, autocast, in_bfloat16, train

    progress.say(f"ddpo: {len(pairs)} pairs from {start.name}")
    model, tokenizer = load_for_training(start, stage, recipe=recipe, device=device)
    switch_dropout_off(model)
    examples = [
        encode_pair(tokenizer, pair, max_length=stage.max_length, max_prompt_length=stage.max_prompt_length)
        for pair in pairs
    ]
    model.train()
    predictor = Predictor(model, pad=pad_token(tokenizer))
    mixed = in_bfloat16(model, stage)
    known = ReferenceLogProbs(start, dtype="bfloat16" if mixed else "float32")
    with autocast(model, stage):
        log_probs = reference_log_probs(
            predictor, examples, known, rows=stage.micro_batch or stage.global_batch, progress=progress
        )
    task = Task(
        items=[
            Referenced(example, both, pair.id) for example, both, pair in zip(examples, log_probs, pairs, strict=True)
        ],
        loss=partial(preference_loss, predictor, stage=stage),
        weight=lambda _: 1,
        length=lambda item: item.example.tree.size,
        name=lambda item: item.name,
    )
    check = partial(_check_first_loss, stage=stage, tolerance=1.0 if mixed else 0.02)
    restart = restart_points(out, record, stage, resume=resume)
    steps = train(model, task, stage, seed=recipe.seed, what="ddpo", progress=progress, check=check, restart=restart)
    made = save(model, tokenizer, out, record, steps)
    restart.clear()
    return made


def _with_what_the_loss_needs(pairs: Sequence[Pair], stage: DdpoStage) -> list[Pair]:
    """With the reference's own answers where the loss asks for them, without them elsewhere."""
    if stage.loss != "selm":
        return [replace(pair, sampled=None) for pair in pairs]
    for pair in pairs:
        if pair.sampled is None:
            raise UserError(f"ddpo: pair {pair.id} has no 'sampled'; loss selm needs an answer of the starting model.")
    return list(pairs)


def preference_loss(
    predictor: Predictor, batch: Sequence[Referenced], *, stage: DdpoStage
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Summed over the pairs (), with sums of what is watched."""
    from zephyr_bench.trainers.losses import Ratios

    found = predictor([item.example.tree for item in batch])
    policy, tokens = found.sums.view(len(batch), -1), found.tokens.view(len(batch), -1)  # (pairs, answers)
    each = (policy - policy.new_tensor([item.log_probs for item in batch])).unbind(1)
    ratios = Ratios(each[0], each[1], *tokens.unbind(1)[:2], *each[2:])
    chosen, rejected = ratios.chosen.detach(), ratios.rejected.detach()
    watched = {
        "margin": stage.beta * (chosen - rejected),
        "accuracy": (chosen > rejected).float(),
        "log_ratio": (chosen + rejected) / 2,  # how far the policy has moved from the reference on these answers
    }
    return _losses(ratios, stage).sum(), {name: values.sum() for name, values in watched.items()}


def _losses(ratios: Ratios, stage: DdpoStage) -> Tensor:
    from zephyr_bench.trainers import losses

    if stage.loss == "sigmoid":
        return losses.sigmoid(ratios, beta=stage.beta, label_smoothing=stage.label_smoothing)
    if stage.loss == "selm":
        return losses.selm(ratios, beta=stage.beta, optimism=stage.optimism or 0.0)
    return {"hinge": losses.hinge, "ipo": losses.ipo, "sppo": losses.sppo}[stage.loss](ratios, beta=stage.beta)


def switch_dropout_off(model: Any) -> None:
    """Policy and reference must differ by training only (TRL: disable_dropout)."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout_p"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def _check_first_loss(step: Step, *, stage: DdpoStage, tolerance: float) -> None:
    """Before the first update policy and reference are the same model, so every pair's loss is known: ln 2 for DPO.

    `tolerance`: how far rounding may move the log-probability of an answer, in the mean over the batch.
    """
    from zephyr_bench.trainers.losses import at_start

    apart = max(abs(step.watched["margin"]) / stage.beta, abs(step.watched["log_ratio"]))
    if step.step == 1 and not apart <= tolerance:
        expected = at_start(stage.loss, beta=stage.beta)
        raise ZephyrBenchError(
            f"ddpo: the first loss is {step.loss:.4f}, not {expected:.4f}: policy and reference differ before "
            f"training. Please report this, with the recipe."
        )
