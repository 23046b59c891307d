"""The losses of dDPO, from log-probabilities of whole answers. Pure functions; natural logarithms.

A ratio is log pi(y|x) - log pi_ref(y|x), (pairs,) as all here. Each loss is (pairs,), and its value where policy and
reference agree is known (`at_start`): what the first step of a training must show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Ratios:
    """Of both answers of each pair, with their lengths in tokens; `sampled` is of an answer of the reference's own."""

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    sampled: Tensor | None = None


def sigmoid(ratios: Ratios, *, beta: float, label_smoothing: float) -> Tensor:
    """-log sigmoid(beta (chosen - rejected)): arXiv 2305.18290, eq. 7; 2310.16944, eq. 1.

    With label smoothing e the pair is taken to be the wrong way round with probability e: Mitchell's cDPO
    (https://ericmitchell.ai/cdpo.pdf, eq. 3).
    """
    margin = beta * (ratios.chosen - ratios.rejected)
    return -(1 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)


def hinge(ratios: Ratios, *, beta: float) -> Tensor:
    """max(0, 1 - beta (chosen - rejected)): SLiC's rank loss on DPO's margin (arXiv 2309.06657, section 3.2)."""
    return torch.relu(1 - beta * (ratios.chosen - ratios.rejected))


def ipo(ratios: Ratios, *, beta: float) -> Tensor:
    """(chosen - rejected - 1 / (2 beta))^2 of ratios a token (arXiv 2310.12036, eq. 17).

    A token, as the paper's authors confirmed to TRL (1.16, dpo_trainer.py); the formula alone grows with the length.
    """
    margin = ratios.chosen / ratios.chosen_tokens - ratios.rejected / ratios.rejected_tokens
    return (margin - 1 / (2 * beta)) ** 2


def sppo(ratios: Ratios, *, beta: float) -> Tensor:
    """(chosen - 1 / (2 beta))^2 + (rejected + 1 / (2 beta))^2: arXiv 2405.00675, eq. 4.7, 1 / beta being its eta.

    The winner is taken to win with probability 1, as in TRL's sppo_hard.
    """
    return (ratios.chosen - 0.5 / beta) ** 2 + (ratios.rejected + 0.5 / beta) ** 2


def selm(ratios: Ratios, *, beta: float, optimism: float) -> Tensor:
    """DPO's loss + optimism x beta x the ratio of an answer that the reference gave: arXiv 2405.19332, section 4.

    Minimised, it takes probability from what the reference says anyway, so that other answers of high reward are tried.
    """
    if ratios.sampled is None:
        raise ValueError("SELM's loss needs an answer of the reference for every pair")
    return sigmoid(ratios, beta=beta, label_smoothing=0.0) + optimism * beta * ratios.sampled


def at_start(name: str, *, beta: float) -> float:
    """A loss where all ratios are 0."""
    return {"sigmoid": math.log(2), "hinge": 1.0, "ipo": 0.25 / beta**2, "sppo": 0.5 / beta**2, "selm": math.log(2)}[
        name
    ]
