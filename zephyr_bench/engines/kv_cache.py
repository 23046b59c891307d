"""Keys and values of a batch whose rows come and go.

A transformers cache whose layers grow in steps (torch.cat at every token copies everything each
time). Rows end at the same column, so batches are joined by padding on the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

_SLACK = 64  # columns of room made when a layer grows


class GrowingLayer(DynamicLayer):
    """One layer's keys and values (rows, heads, columns, width), views of buffers with room to the right."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Appends columns and returns all of them."""
        if self._buffers is None:
            self.lazy_initialization(key_states, value_states)
            self.set(key_states, value_states)
            return self.keys, self.values
        old, new = self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        if new > self._buffers[0].shape[-2]:
            room = new + _SLACK + new // 8
            self._buffers = _grown(self.keys, room), _grown(self.values, room)
        keys, values = self._buffers
        keys[:, :, old:new] = key_states
        values[:, :, old:new] = value_states
        self.keys, self.values = keys[:, :, :new], values[:, :, :new]
        return self.keys, self.values

    def set(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Replaces the content. The tensors are never written to: the next update copies them."""
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.keys, self.values = keys, values
        self._buffers = keys, values

    def drop(self) -> None:
        """Gives the memory back."""
        self.keys = self.values = self.keys.new_empty(0)
        self._buffers = None


def _grown(tensor: torch.Tensor, columns: int) -> torch.Tensor:
    rows, heads, used, width = tensor.shape
    grown = tensor.new_empty(rows, heads, columns, width)
    grown[:, :, :used] = tensor
    return grown


def new_cache() -> Cache:
    return Cache(layer_class_to_replicate=GrowingLayer)


@torch.inference_mode()
def keep(cache: Cache, rows: torch.Tensor, *, columns: int) -> None:
    """Only these rows, and only the last `columns` columns."""
    for layer in cache.layers:
        layer.set(layer.keys[rows][:, :, -columns:], layer.values[rows][:, :, -columns:])


@torch.inference_mode()
def joined(caches: Sequence[Cache]) -> Cache:
    """The rows of all, in their order; the shorter ones are padded on the left. The caches given are emptied."""
    layers = [GrowingLayer() for _ in caches[0].layers]
    for whole, *parts in zip(layers, *(cache.layers for cache in caches), strict=True):
        columns = max(part.keys.shape[-2] for part in parts)
        keys = torch.cat([_padded(part.keys, columns) for part in parts])
        values = torch.cat([_padded(part.values, columns) for part in parts])
        for part in parts:  # layer by layer, so that not all is there twice
            part.drop()
        whole.set(keys, values)
    return Cache(layers=layers)


def _padded(tensor: torch.Tensor, columns: int) -> torch.Tensor:
    return torch.nn.functional.pad(tensor, (0, 0, columns - tensor.shape[-2], 0))


@dataclass(frozen=True)
class Columns:
    """Some columns of one row: each layer's keys and values (heads, columns, width)."""

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    def first(self, columns: int) -> Columns:
        return Columns(tuple((keys[:, :columns], values[:, :columns]) for keys, values in self.layers))


@torch.inference_mode()
def columns_of(cache: Cache, row: int, start: int, count: int) -> Columns:
    """A copy of `count` columns of a row."""
    cut = slice(start, start + count)
    return Columns(
        tuple((layer.keys[row, :, cut].clone(), layer.values[row, :, cut].clone()) for layer in cache.layers)
    )


@torch.inference_mode()
def begun_with(beginnings: Sequence[Columns | None], lengths: Sequence[int]) -> Cache:
    """A row of the first `length` columns of each, padded on the left; zeros for None. One at least isn't None."""
    columns = max(lengths)
    layers: list[GrowingLayer] = []
    for number, (keys, values) in enumerate(next(some for some in beginnings if some).layers):
        both = [part.new_zeros(len(lengths), len(part), columns, part.shape[-1]) for part in (keys, values)]
        for row, (beginning, length) in enumerate(zip(beginnings, lengths, strict=True)):
            if beginning and length > 0:
                for whole, part in zip(both, beginning.layers[number], strict=True):
                    whole[row, :, columns - length :] = part[:, :length]
        layer = GrowingLayer()
        layer.set(both[0], both[1])
        layers.append(layer)
    return Cache(layers=layers)


@torch.inference_mode()
def blank(like: Cache, rows: int, *, columns: int) -> Cache:
    """Zeros, in layers of the same kind."""
    layers = [GrowingLayer() for _ in like.layers]
    for empty, layer in zip(layers, like.layers, strict=True):
        _, heads, _, width = layer.keys.shape
        zeros = layer.keys.new_zeros(rows, heads, columns, width)
        empty.set(zeros, layer.values.new_zeros(rows, heads, columns, layer.values.shape[-1]))
    return Cache(layers=layers)


@torch.inference_mode()
def expanded(cache: Cache, rows: int) -> Cache:
    """A cache of `rows` copies of a single row; the copy is made when it first grows."""
    copies = [GrowingLayer() for _ in cache.layers]
    for copy, layer in zip(copies, cache.layers, strict=True):
        copy.set(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1))
    return Cache(layers=copies)
