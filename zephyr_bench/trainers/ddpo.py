"""Distilled direct preference optimisation against the frozen starting model (arXiv 2310.16944, section 3.3).

The reference's log-probabilities are taken before training (reference.py): the reference never moves, so it need not
stay in memory. With adapters it is the model without them. Of each pair the prompt is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_bench.engines.loading import end_tokens_of
from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError, ZephyrBenchError
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import DdpoStage, Recipe
from zephyr_bench.trainers.reference import ReferenceLogProbs, reference_log_probs
from zephyr_bench.trainers.stage import StageJob, learn
from zephyr_bench.training_data.contract import FIRST, check_beginnings, check_ends
from zephyr_bench.training_data.data import Pair
from zephyr_bench.training_data.tokens import PairExample, encode_pair, pad_token
from zephyr_bench.training_runs.adapters import adapters_off, arithmetic
from zephyr_bench.training_runs.checkpoint import StageRecord, finished_before
from zephyr_bench.training_runs.group import Group
from zephyr_bench.training_runs.parallel import SILENT, together
from zephyr_bench.training_runs.watching import Observers

if TYPE_CHECKING:
    from torch import Tensor

    from zephyr_bench.trainers.forward import Predictor
    from zephyr_bench.trainers.loop import Task
    from zephyr_bench.trainers.losses import Ratios
    from zephyr_bench.training_runs.step import Step

_COMPARED = 32  # pairs on whose answers the KL to the reference is taken


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
    held_out: Sequence[Pair] = (),
    observers: Observers = Observers(),  # noqa: B008 frozen
    include: tuple[Path, ...] = (),
    compared: Mapping[str, Any] | None = None,
) -> ModelSource:
    """The checkpoint in `out`, trained unless the same stage with the same pairs and parent is there already.

    `held_out` only measure, where the recipe names them or asks for looks in between (`held_out_every`). `compared`:
    with which evaluation questions the pairs were, for the lineage.
    """
    if not pairs:
        raise UserError("ddpo: no preference pairs; the judge found no difference between any two answers.")
    pairs = _with_what_the_loss_needs(pairs, stage)
    record = StageRecord.of("ddpo", stage, recipe=recipe, parent=start, data=pairs, device=device, compared=compared)
    if done := finished_before(out, record, resume=resume, progress=progress):
        return done
    progress.say(f"ddpo: {len(pairs)} pairs from {start.name}")
    job = StageJob(stage, record, recipe, out, device, resume, include)
    return together(partial(_train, job, stage, pairs, held_out), progress=progress, observers=observers)


def _train(
    job: StageJob,
    stage: DdpoStage,
    pairs: Sequence[Pair],
    held_out: Sequence[Pair],
    *,
    group: Group,
    progress: Progress = SILENT,
    observers: Observers = Observers(),  # noqa: B008 frozen
) -> ModelSource:
    """In all processes of the group."""
    from zephyr_bench.trainers.forward import Predictor
    from zephyr_bench.trainers.loop import Task, autocast, in_bfloat16

    model, tokenizer = job.load(group)
    switch_dropout_off(model)
    model.train()
    mixed = in_bfloat16(model, stage)
    predictor = Predictor(model, pad=pad_token(tokenizer), group=group)
    known = ReferenceLogProbs(job.record.parent, dtype=arithmetic(stage.lora, mixed=mixed), group=group)

    whole = (encode_pair(tokenizer, pair, max_length=None).tree for pair in pairs[:FIRST])
    first = (one.stem for tree in whole for one in tree.unrolled())
    check_ends(first, tokenizer, end_tokens_of(model, tokenizer), what="ddpo")

    def referenced(pairs: Sequence[Pair]) -> list[Referenced]:
        encoded = _encoded(tokenizer, pairs, stage, progress)
        beginnings = ((name, (*prompt, *answer)) for one, name in encoded for prompt, answer in one.sides)
        check_beginnings(beginnings, tokenizer, what="ddpo")
        rows = stage.micro_batch or stage.global_batch
        with adapters_off(model), autocast(model, stage):
            log_probs = reference_log_probs(
                predictor, [example for example, _ in encoded], known, rows=rows, progress=progress
            )
        return [Referenced(example, both, name) for (example, name), both in zip(encoded, log_probs, strict=True)]

    items = referenced(pairs)
    if not items:
        raise UserError(f"ddpo: no prompt leaves an answer room within max_length {stage.max_length}; raise it.")
    task = Task(
        items=items,
        loss=partial(preference_loss, predictor, stage=stage),
        weight=lambda _: 1,
        length=lambda item: item.example.tree.size,
        name=lambda item: item.name,
    )
    check = partial(_check_first_loss, stage=stage, tolerance=1.0 if mixed else 0.02)
    look = None
    if stage.held_out or stage.held_out_every:
        aside = replace(task, items=referenced(_with_what_the_loss_needs(held_out, stage)) if held_out else ())
        look = _look(predictor, aside, aside.items or task.items, stage)
    return learn(
        model,
        tokenizer,
        task,
        job,
        group=group,
        progress=progress,
        observers=observers,
        look=look,
        check=check,
    )


def _encoded(
    tokenizer: Any, pairs: Sequence[Pair], stage: DdpoStage, progress: Progress
) -> list[tuple[PairExample, str]]:
    """(example, the pair's name) of each whose answers have a token left; what is left out is told, as what is odd."""
    encode = partial(
        encode_pair,
        tokenizer,
        max_length=stage.max_length,
        max_prompt_length=stage.max_prompt_length,
        truncation_mode=stage.truncation_mode,
    )
    examples = [(encode(pair), pair.id) for pair in pairs]
    found = [(example, name) for example, name in examples if all(example.answers)]
    if len(found) < len(examples):
        left = len(examples) - len(found)
        progress.warn(f"ddpo: {left} pairs are left out: their prompts leave no room for an answer within max_length")
    if merged := sum(example.merged for example, _ in found):
        progress.warn(
            f"ddpo: of {merged} pairs a token joins the end of the prompt with an answer's beginning; the model is "
            "asked without that token, so end the prompt's part of the chat template where a token ends"
        )
    return found


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
    policy = found.sums.view(len(batch), -1)  # (pairs, answers)
    tokens = policy.new_tensor([list(map(len, item.example.answers)) for item in batch])  # (pairs, answers)
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


def _look(
    predictor: Predictor, aside: Task[Referenced], compared: Sequence[Referenced], stage: DdpoStage
) -> Callable[[], dict[str, float]]:
    """Means over the pairs held out, where there are any, and the KL to the reference on some of `compared`."""
    from zephyr_bench.trainers.held_out import Divergence, held_out_means

    some = compared[:: -(-len(compared) // _COMPARED)]
    with adapters_off(predictor.model):
        divergence = Divergence(predictor, [item.example.tree for item in some], stage)

    def look() -> dict[str, float]:
        means = held_out_means(predictor.model, aside, stage, group=predictor.group) if aside.items else {}
        return {**means, "kl": divergence.mean()}

    return look


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
