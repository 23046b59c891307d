"""The learning rate of each step: linear warm-up, then cosine or linear decay to zero, or constant. Pure."""

from __future__ import annotations

import math
from typing import Literal


def learning_rate_share(
    step: int, *, steps: int, warmup_ratio: float, schedule: Literal["cosine", "linear", "constant"]
) -> float:
    """Share of the peak at `step` (0-based) of `steps`.

    As transformers' get_scheduler: warm-up over ceil(warmup_ratio x steps) steps, the first at zero.
    """
    warmup = math.ceil(warmup_ratio * steps)
    if step < warmup:
        return step / max(1, warmup)
    done = (step - warmup) / max(1, steps - warmup)
    if schedule == "cosine":
        return max(0.0, 0.5 * (1 + math.cos(math.pi * done)))
    if schedule == "linear":
        return max(0.0, 1 - done)
    return 1.0
