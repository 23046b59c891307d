"""Attention masks of our own, as transformers' models take them: who sees whom, whatever stands in between.

In: which key each query may see, and how far apart they are in their own sequence. Out: what a model takes for
`attention_mask`. Windows are folded in; layers of several kinds get one mask a kind.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_KINDS = {"full_attention", "sliding_attention"}  # of layers; others look at more than a mask says


def may_take_masks(model: Any) -> bool:
    """Not where an architecture looks at distances between columns by itself."""
    config = model.config.get_text_config(decoder=True)
    return set(getattr(config, "layer_types", None) or ()) <= _KINDS and not hasattr(config, "attention_layers")


def masks(model: Any, seen: Tensor, apart: Tensor, *, dtype: torch.dtype | None = None) -> Any:
    """`seen` and `apart` (rows, queries, keys), bool and whole numbers; `dtype` is that of the attention scores."""
    config = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    dtype = dtype or model.dtype
    if not kinds:
        return _added(seen, apart, window, dtype)
    made = {kind: _added(seen, apart, window if kind == "sliding_attention" else None, dtype) for kind in kinds}
    return made if len(made) > 1 else made.popitem()[1]


def _added(seen: Tensor, apart: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    """Added to attention scores (rows, 1, queries, keys)."""
    if window is not None:
        seen = seen & (apart < window)
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
