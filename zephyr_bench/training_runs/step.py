"""One step of a training, as it is logged, stored and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Step:
    """What one optimiser step did. `loss` is before it, per unit of weight (token or pair)."""

    step: int  # from 1
    epoch: int  # from 1
    loss: float
    learning_rate: float
    grad_norm: float  # before clipping
    watched: Mapping[str, float] = field(default_factory=dict)  # per unit of weight
    tokens: int = 0  # that the model ran over, without padding; of a pair the prompt once
    look: Mapping[str, float] = field(default_factory=dict)  # what a look after it showed: held_out/loss, ..., kl
