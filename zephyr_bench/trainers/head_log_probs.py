"""log p of chosen tokens from a model's last states, a chunk of the vocabulary's logits at a time, with gradients.

Logits are made twice, forward and backward, and never kept: a vocabulary of 50,000 is most of a small model's memory.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_LOGITS = 1 << 24  # held at once: 64 MiB in float32


def rows_at_once(vocabulary: int) -> int:
    """Tokens whose logits are held together."""
    return max(1, _LOGITS // vocabulary)


def head_log_probs(head: Any, states: Tensor, targets: Tensor) -> Tensor:
    """states (n, width), targets (n,) -> (n,), in float32. `head` makes logits (n, vocabulary) of states."""
    if isinstance(head, torch.nn.Linear) and head.bias is None:
        weight = head.weight
        if torch.is_autocast_enabled(states.device.type):
            dtype = torch.get_autocast_dtype(states.device.type)
            states, weight = states.to(dtype), weight.to(dtype)
        with torch.autocast(states.device.type, enabled=False):
            return _LinearLogProbs.apply(states, weight, targets)
    vocabulary = len(head.weight) if isinstance(head, torch.nn.Linear) else states.shape[-1]
    rows = rows_at_once(vocabulary)
    parts = zip(states.split(rows), targets.split(rows), strict=True)
    return torch.cat([checkpoint(_plain, head, *part, use_reentrant=False) for part in parts])


def _plain(head: Any, states: Tensor, targets: Tensor) -> Tensor:
    return -F.cross_entropy(head(states).float(), targets, reduction="none")


class _LinearLogProbs(torch.autograd.Function):
    """d log p_t / d logits = onehot(target) - softmax; the softmax is made again from logits and their log-sum."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        rows = rows_at_once(len(weight))
        log_sums, log_probs = [], []
        for part, wanted in zip(states.split(rows), targets.split(rows), strict=True):
            logits = (part @ weight.T).float()  # (rows, vocabulary)
            log_sums.append(logits.logsumexp(-1))
            log_probs.append(logits.gather(1, wanted[:, None]).squeeze(1) - log_sums[-1])
        ctx.rows = rows
        ctx.save_for_backward(states, weight, targets, torch.cat(log_sums))
        return torch.cat(log_probs)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        states, weight, targets, log_sums = ctx.saved_tensors
        of_states = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for begin in range(0, len(states), ctx.rows):
            which = slice(begin, begin + ctx.rows)
            logits = (states[which] @ weight.T).float()
            share = logits.sub_(log_sums[which, None]).exp_().mul_(-upstream[0][which, None])  # (rows, vocabulary)
            share[torch.arange(len(share), device=share.device), targets[which]] += upstream[0][which]
            share = share.to(weight.dtype)
            if of_states is not None:
                of_states[which] = share @ weight
            if of_weight is not None:
                of_weight += share.T @ states[which]  # in float32: bfloat16 sums lose a digit with every chunk
        return of_states, None if of_weight is None else of_weight.to(weight.dtype), None
