"""Attention of a long block, part by part: each part of the queries over the columns that they see, not over all.

In: masks of one row, as tree_masks.py makes them. A model whose attention is torch's scaled dot product is lent this
attention for a pass; others keep their own. Long blocks multiply faster; what stands between branches costs nothing.
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
_CPU_QUERIES = 128
_GPU_QUERIES = 1024


@dataclass(frozen=True)
class _Part:
    rows: slice  # of queries
    columns: slice | Tensor  # that one of them sees at least
    mask: Tensor  # (1, 1, heads that share keys x rows, seen), added to scores


_parts: dict[int, list[_Part]] = {}  # by the identity of the mask that a pass under way is given


def takes_parts(model: Any) -> bool:
    return bool(model.config.get_text_config(decoder=True)._attn_implementation == "sdpa")


@contextmanager
def in_parts(model: Any, masks: Any) -> Iterator[None]:
    """For a pass that is given these masks: one, or one a kind of layers, each (1, 1, queries, columns)."""
    config = model.config.get_text_config(decoder=True)
    own, heads = config._attn_implementation, _heads_of_each_key(config)
    every: list[Tensor] = list(masks.values()) if isinstance(masks, Mapping) else [masks]
    cut = {id(mask): list(_cut(mask, heads)) for mask in every}  # may find no memory: nothing is changed by then
    try:
        _parts.update(cut)
        config._attn_implementation = _NAME
        yield
    finally:
        config._attn_implementation = own
        for mask in every:
            _parts.pop(id(mask), None)


def _heads_of_each_key(config: Any) -> int:
    heads = int(config.num_attention_heads)
    return heads // int(getattr(config, "num_key_value_heads", None) or heads)


def _cut(mask: Tensor, heads: int) -> Iterator[_Part]:
    queries = _GPU_QUERIES if mask.is_cuda else _CPU_QUERIES
    for begin in range(0, mask.shape[2], queries):
        rows = slice(begin, begin + queries)
        seen = (mask[0, 0, rows] == 0).any(dim=0).nonzero().squeeze(1)
        stop = int(seen[-1]) + 1
        columns = slice(0, stop) if len(seen) == stop else seen  # a slice is not copied
        yield _Part(rows, columns, mask[:, :, rows, columns].repeat(1, 1, heads, 1))


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """query (1, heads, n, width), key and value (1, key heads, columns, width) -> (1, n, heads, width of a value).

    Heads that share keys stand below each other as queries of one head, so keys are not repeated.
    """
    _, heads, count, width = query.shape
    own = key.shape[1]
    found = query.new_empty(1, count, heads, value.shape[-1])
    grouped = query.view(own, heads // own, count, width)
    for part in _parts[id(attention_mask)]:
        rows = grouped[:, :, part.rows]  # (key heads, heads of each, rows, width)
        answer = torch.nn.functional.scaled_dot_product_attention(
            rows.flatten(1, 2)[None],
            key[:, :, part.columns],
            value[:, :, part.columns],
            attn_mask=part.mask,
            scale=scaling,
        )
        found[0, part.rows] = answer.view(heads, -1, value.shape[-1]).transpose(0, 1)
    return found, None


AttentionInterface.register(_NAME, _attention)
