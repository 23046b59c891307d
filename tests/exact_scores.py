"""Who is right, where two float32 scores differ: a plain forward pass in float64."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any


class Exact:
    """Of a model in float32. A copy is made once it is needed."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @cached_property
    def _double(self) -> Any:
        return copy.deepcopy(self._model).double()

    def __call__(self, context: Sequence[int], continuation: Sequence[int]) -> tuple[float, float]:
        """(log-probability, how near the nearest tie between a place's two likeliest tokens is)."""
        import torch

        with torch.inference_mode():
            ids = torch.tensor([[*context, *continuation]])[:, :-1]
            log_probs = self._double(ids).logits[0, -len(continuation) :].log_softmax(-1)  # (tokens, vocabulary)
        top = log_probs.topk(2).values  # (tokens, 2)
        total = log_probs.gather(1, torch.tensor(continuation)[:, None]).sum()
        return float(total), float((top[:, 0] - top[:, 1]).min())
