"""Attention masks of our own, as transformers' models take them: who sees whom, whatever stands in between.

In: which key each query may see, and where both stand in their own sequence. Out: what a model takes for
`attention_mask`. Windows are folded in; layers of several kinds get one mask a kind.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_KINDS = {"full_attention", "sliding_attention"}  # of layers; others look at more than a mask says
_BY_LENGTH = {"longrope", "dynamic"}  # kinds of rotary positions


def may_take_masks(model: Any) -> bool:
    """Not where an architecture looks at distances between columns by itself."""
    config = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ())
    return kinds <= _KINDS and not hasattr(config, "attention_layers") and not turns_by_length(model)


def turns_by_length(model: Any) -> bool:
    """Whether positions are encoded by the longest of a pass, so that what is computed beside a sequence changes it."""
    config = model.config.get_text_config(decoder=True)
    declared = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    several = declared.values() if all(isinstance(one, dict) for one in declared.values()) else [declared]
    return any(one.get("rope_type", one.get("type")) in _BY_LENGTH for one in several)


def masks(model: Any, seen: Tensor, queries: Tensor, keys: Tensor, *, dtype: torch.dtype | None = None) -> Any:
    """`seen` (rows, queries, keys), bool; positions of queries and of keys; `dtype` is that of the attention scores."""
    config = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    dtype = dtype or model.dtype
    if not kinds:
        return _added(seen if window is None else _within(seen, queries, keys, window), dtype)
    slides = {"sliding_attention"} if window is not None else set()
    made = {kind: _added(_within(seen, queries, keys, window) if kind in slides else seen, dtype) for kind in kinds}
    return made if len(made) > 1 else made.popitem()[1]


def _within(seen: Tensor, queries: Tensor, keys: Tensor, window: Any) -> Tensor:
    return seen & (queries[:, :, None] - keys[:, None] < int(window))


def _added(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """Added to attention scores (rows, 1, queries, keys)."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
