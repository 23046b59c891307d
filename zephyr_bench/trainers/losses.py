"""The losses of dSFT and dDPO. Pure functions from logits and log-probabilities; natural logarithms."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def token_log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """log p of each target token. logits (rows, vocabulary), targets (rows,) -> (rows,), in float32."""
    return -F.cross_entropy(logits.float(), targets, reduction="none")


def sft_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood summed over tokens (arXiv 2310.16944, section 3.1). Shapes as above -> ()."""
    return F.cross_entropy(logits.float(), targets, reduction="sum")


def sequence_log_probs(log_probs: Tensor, rows: Tensor, count: int) -> Tensor:
    """Sum per sequence: log_probs (tokens,) of sequences rows (tokens,) -> (count,)."""
    return torch.zeros(count, dtype=log_probs.dtype, device=log_probs.device).index_add(0, rows, log_probs)


def implicit_rewards(policy: Tensor, reference: Tensor, *, beta: float) -> Tensor:
    """beta (log pi(y|x) - log pi_ref(y|x)), up to a term of x alone (arXiv 2305.18290, eq. 5). Any one shape."""
    return beta * (policy - reference)


def dpo_loss(chosen_rewards: Tensor, rejected_rewards: Tensor) -> Tensor:
    """-log sigmoid(r_chosen - r_rejected) of each pair (arXiv 2305.18290, eq. 7; 2310.16944, eq. 1).

    Rewards (pairs,) -> (pairs,). ln 2 where policy and reference are the same.
    """
    return -F.logsigmoid(chosen_rewards - rejected_rewards)
