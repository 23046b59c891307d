"""Log-probabilities read along a token tree: each of its tokens is computed once, in blocks of one row, unpadded.

In: a tree and what is read after which of its nodes. Out: the values, block by block. A token attends to its own
beginning only, by a mask over the path kept from earlier blocks and the block itself. Not every architecture takes
such a mask: `takes_trees` tries it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size
from numpy.typing import NDArray
from transformers import Cache

from zephyr_bench.engines.kv_cache import GrowingLayer
from zephyr_bench.engines.loading import LoadedModel, free_memory
from zephyr_bench.engines.part_attention import in_parts, takes_parts
from zephyr_bench.engines.token_scores import Head
from zephyr_bench.engines.token_tree import Block, Ints, TokenTree, planted
from zephyr_bench.engines.tree_masks import masks, may_take_masks

_LIKE = {torch.float32: 1e-3, torch.float64: 1e-6}  # of states computed in two ways, relative; others are coarser
_COARSE = 0.1
_WHOLE = 256  # tokens of a block where attention can't be cut: it looks at all of the block
_PROBED = 256  # tokens of the block that memory is measured by
# what architectures raise that don't take a mask of ours, positions or a cache
_REFUSALS = (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError, NotImplementedError)
_TRIED = ((1, 2, 3, 4, 5, 6), (1, 2, 3, 7, 8, 9))
_TRIED_BLOCK = 4  # so that one block branches, and one continues what an earlier one began


@dataclass(frozen=True)
class Reads:
    """What is read: after node `nodes[i]`, the token `targets[i]`. Ascending by node."""

    nodes: Ints
    targets: Ints

    def within(self, first: int, stop: int) -> slice:
        begin, end = np.searchsorted(self.nodes, (first, stop))
        return slice(int(begin), int(end))


@dataclass(frozen=True)
class Values:
    """Of the reads in `which`: log-probabilities, and whether each was the likeliest. All before `node` is done."""

    node: int
    which: slice
    log_probs: NDArray[np.float64]
    likeliest: NDArray[np.bool_]


def tree_values(loaded: LoadedModel, tree: TokenTree, reads: Reads) -> Iterator[Values]:
    """Every read once, in order. Where memory runs out, blocks are halved, and stay so."""
    walk = _Walk(loaded.model)
    size = _most_tokens(loaded, walk, tree)
    first = 0
    while first < tree.size:
        stop = min(tree.size, first + size)
        values = _values(walk, tree, reads, first, stop)
        if values is None:
            walk.again(tree.depth(first))
            free_memory(on_gpu=loaded.device.type == "cuda")
            size = (stop - first) // 2
        else:
            yield values
            first = stop


def _values(walk: _Walk, tree: TokenTree, reads: Reads, first: int, stop: int) -> Values | None:
    """None where there is no memory for a block of more than one token."""
    block, which = tree.block(first, stop), reads.within(first, stop)
    rows, back = np.unique(reads.nodes[which] - first, return_inverse=True)
    try:
        log_probs, likeliest = walk.head.read(walk.states(block, rows), back, reads.targets[which])
    except RuntimeError as error:
        if stop - first == 1 or not should_reduce_batch_size(error):
            raise
        return None
    walk.keep(block)
    return Values(stop, which, log_probs, likeliest)


@torch.inference_mode()
def _most_tokens(loaded: LoadedModel, walk: _Walk, tree: TokenTree) -> int:
    """Of a block; on a GPU no more than half of what is free holds, by what a small one takes."""
    most = loaded.batching.tree_tokens
    if not takes_parts(loaded.model):
        most = min(most, _WHOLE)
    if loaded.device.type != "cuda":
        return most
    few = min(_PROBED, most, tree.size)
    torch.cuda.reset_peak_memory_stats(loaded.device)
    held = torch.cuda.memory_allocated(loaded.device)
    try:
        walk.states(tree.block(0, few), np.arange(few))
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        return max(1, few // 2)
    finally:
        walk.again(0)
    took = torch.cuda.max_memory_allocated(loaded.device) - held
    free = torch.cuda.mem_get_info(loaded.device)[0] + torch.cuda.memory_reserved(loaded.device) - held
    return min(most, max(1, few * free // (2 * took)))


class _Walk:
    """Runs the model over one block after the other, and keeps the keys and values of the path."""

    def __init__(self, model: Any) -> None:
        self.head = Head(model)
        self._model = model
        self._cache = Cache(layer_class_to_replicate=_PathLayer)

    @torch.inference_mode()
    def states(self, block: Block, rows: Ints) -> torch.Tensor:
        """What the head reads, of these tokens of the block (rows, width)."""
        device = self._model.device
        parts = (block.tokens, block.positions, block.depths, block.seen)
        tokens, positions, depths, seen = (torch.from_numpy(part)[None].to(device) for part in parts)
        mask = masks(self._model, seen, positions, depths)
        with in_parts(self._model, mask) if takes_parts(self._model) else nullcontext():
            return self.head.states_at(
                torch.from_numpy(rows).to(device),
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=self._cache,
                use_cache=True,
            )

    @torch.inference_mode()
    def keep(self, block: Block) -> None:
        """Of the keys and values of the path and the block, those that the next block continues."""
        columns = torch.from_numpy(block.kept).to(self._model.device)
        in_place = int((block.kept == np.arange(len(block.kept))).sum())
        for layer in self._cache.layers:
            layer.keep(columns, in_place)

    def again(self, columns: int) -> None:
        """As it was before a block that broke off."""
        for layer in self._cache.layers:
            if layer.is_initialized:
                layer.cut(columns)


class _PathLayer(GrowingLayer):
    """One layer's keys and values of a path, then those of the block under way."""

    def keep(self, columns: torch.Tensor, in_place: int) -> None:
        """Only these columns, the first of which stay in place. They ascend, so none is overwritten unread."""
        if in_place < len(columns):
            moved = columns[in_place:]
            for tensor in (self.keys, self.values):
                tensor[:, :, in_place : len(columns)] = tensor[:, :, moved]
        self.cut(len(columns))

    def cut(self, columns: int) -> None:
        """Only the first columns."""
        self.keys, self.values = self.keys[:, :, :columns], self.values[:, :, :columns]


@torch.inference_mode()
def takes_trees(model: Any) -> bool:
    """Whether the model gives along a tree the states that it gives of plain sequences.

    A few tokens show that; not what an architecture makes of distances between columns, so those that may are left out.
    """
    if not may_take_masks(model):
        return False
    rooted = planted(_TRIED, [0] * len(_TRIED))
    try:
        walk = _Walk(model)
        parts: list[torch.Tensor] = []
        for first in range(0, rooted.tree.size, _TRIED_BLOCK):
            block = rooted.tree.block(first, min(rooted.tree.size, first + _TRIED_BLOCK))
            parts.append(walk.states(block, np.arange(len(block.tokens))))
            walk.keep(block)
        found = torch.cat(parts).float()
        for sequence, nodes in zip(_TRIED, rooted.nodes, strict=True):
            ids = torch.tensor([sequence], device=model.device)
            plain = walk.head.body(input_ids=ids, use_cache=False)[0][0].float()
            apart = (found[torch.from_numpy(nodes).to(model.device)] - plain).norm() / plain.norm()
            if not apart <= _LIKE.get(model.dtype, _COARSE):
                return False
    except _REFUSALS as error:
        if isinstance(error, RuntimeError) and should_reduce_batch_size(error):
            raise
        return False
    return True
