"""Attention of a long block, part by part: each part of the queries over the columns that they see, not over all.

In: masks of one row, as tree_masks.py makes them. A model whose attention is torch's scaled dot product is lent this
attention for a pass; others keep their own. Long blocks multiply faster, and what stands between branches costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

_NAME = "zephyr_bench_parts"
_CPU_QUERIES = 256
_GPU_QUERIES = 1024


@dataclass(frozen=True)
class _Part:
    rows: slice  # of queries
    columns: Tensor  # (seen,) that one of them sees at least
    mask: Tensor  # (1, 1, rows, seen), added to scores


_parts: dict[int, list[_Part]] = {}  # by the identity of the mask that a pass under way is given


def takes_parts(model: Any) -> bool:
    return bool(model.config.get_text_config(decoder=True)._attn_implementation in ("sdpa", _NAME))


@contextmanager
def in_parts(model: Any, masks: Any) -> Iterator[None]:
    """For a pass that is given these masks: one, or one a kind of layers, each (1, 1, queries, columns)."""
    config = model.config.get_text_config(decoder=True)
    own = config._attn_implementation
    every: list[Tensor] = list(masks.values()) if isinstance(masks, Mapping) else [masks]
    config._attn_implementation = _NAME
    _parts.update({id(mask): list(_cut(mask)) for mask in every})
    try:
        yield
    finally:
        config._attn_implementation = own
        for mask in every:
            del _parts[id(mask)]


def _cut(mask: Tensor) -> Iterator[_Part]:
    queries = _GPU_QUERIES if mask.is_cuda else _CPU_QUERIES
    for begin in range(0, mask.shape[2], queries):
        rows = slice(begin, begin + queries)
        columns = (mask[0, 0, rows] == 0).any(dim=0).nonzero().squeeze(1)
        yield _Part(rows, columns, mask[:, :, rows, columns])


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """query (1, heads, n, width), key and value (1, key heads, columns, width) -> (1, n, heads, width)."""
    times = query.shape[1] // key.shape[1]
    found = torch.empty_like(query)
    for part in _parts[id(attention_mask)]:
        seen = key[:, :, part.columns], value[:, :, part.columns]
        keys, values = (some.repeat_interleave(times, dim=1) for some in seen) if times > 1 else seen
        found[:, :, part.rows] = torch.nn.functional.scaled_dot_product_attention(
            query[:, :, part.rows], keys, values, attn_mask=part.mask, scale=scaling
        )
    return found.transpose(1, 2).contiguous(), None


AttentionInterface.register(_NAME, _attention)
