"""Token sequences as one tree: what several begin with stands in it once.

In: sequences of token ids. Out: their distinct tokens in one row, each after those that it continues, and blocks of
that row with what each token attends to. Pure: knows no model. See docs/design/engine.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_STORED = ">u4"  # sorts as bytes as it does as numbers

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Tokens `first` to `first + n` of a tree's row, and the path of `columns` tokens that the first one continues."""

    tokens: Ints  # (n,)
    positions: Ints  # (n,) tokens before each in its own sequence
    seen: NDArray[np.bool_]  # (n, columns + n): what each attends to, first the path, then the block's own tokens
    depths: Ints  # (columns + n,) position of each column
    kept: Ints  # columns, ascending: the path of the block that follows; none after the last


@dataclass(frozen=True)
class TokenTree:
    """A branch is what one sequence adds to those before it; branches follow each other in `tokens`."""

    tokens: NDArray[np.int32]  # (size,)
    starts: Ints  # (branches + 1,) where each begins in `tokens`; last the size
    depths: Ints  # (branches,) tokens of its sequence before each branch

    @property
    def size(self) -> int:
        return len(self.tokens)

    def depth(self, node: int) -> int:
        """Tokens that the node continues."""
        branch = int(np.searchsorted(self.starts, node, side="right")) - 1
        return int(self.depths[branch] + node - self.starts[branch])

    def block(self, first: int, stop: int) -> Block:
        """Nodes `first` to `stop`. The path to the first is what the block before it kept."""
        columns, count = self.depth(first), stop - first
        seen = np.zeros((count, columns + count), dtype=np.bool_)
        depths = np.arange(columns + count)
        path = np.arange(columns + count)  # the column of the token at each depth
        branch = int(np.searchsorted(self.starts, first, side="right")) - 1
        triangle = np.tri(count, dtype=np.bool_)
        row, depth = 0, columns
        while row < count:
            new = min(count, int(self.starts[branch + 1]) - first) - row
            own = columns + row
            seen[row : row + new, path[:depth]] = True
            seen[row : row + new, own : own + new] = triangle[:new, :new]
            depths[own : own + new] = np.arange(depth, depth + new)
            path[depth : depth + new] = np.arange(own, own + new)
            row, branch = row + new, branch + 1
            depth = int(self.depths[branch]) if row < count else depth + new
        kept = path[: self.depth(stop)] if stop < self.size else path[:0]
        return Block(self.tokens[first:stop].astype(np.int64), depths[columns:], seen, depths, kept)


@dataclass(frozen=True)
class Planted:
    """A tree, and where each sequence's tokens are in it."""

    tree: TokenTree
    order: Ints  # (sequences,) their numbers, as the walk ends them
    nodes: tuple[Ints, ...]  # by sequence: the nodes of its tokens from the asked one on


def planted(sequences: Sequence[tuple[int, ...]], read_from: Sequence[int]) -> Planted:
    """The tree of the sequences; of each, the nodes of its tokens from `read_from` on. None may be empty.

    A sequence costs 4 bytes a token here until the tree stands, and in it what it shares costs nothing.
    """
    stored = [np.array(sequence, dtype=_STORED).tobytes() for sequence in sequences]
    order = sorted(range(len(stored)), key=stored.__getitem__)
    nodes: list[Ints] = [np.empty(0, np.int64)] * len(stored)
    pieces: list[NDArray[np.uint32]] = []
    starts, depths = [0], []
    path = np.empty(max(map(len, sequences), default=0), dtype=np.int64)  # the node at each depth
    before = np.empty(0, dtype=_STORED)
    for number in order:
        tokens = np.frombuffer(stored[number], dtype=_STORED)
        shared = _common_prefix(before, tokens)
        new = len(tokens) - shared
        if new:
            path[shared : len(tokens)] = np.arange(starts[-1], starts[-1] + new)
            pieces.append(tokens[shared:])
            depths.append(shared)
            starts.append(starts[-1] + new)
        nodes[number] = path[read_from[number] : len(tokens)].copy()
        before = tokens
    tokens = np.concatenate(pieces) if pieces else np.empty(0, dtype=_STORED)
    tree = TokenTree(tokens.astype(np.int32), np.array(starts), np.array(depths, dtype=np.int64))
    return Planted(tree, np.array(order, dtype=np.int64), tuple(nodes))


def _common_prefix(first: NDArray[np.uint32], second: NDArray[np.uint32]) -> int:
    size = min(len(first), len(second))
    different = np.flatnonzero(first[:size] != second[:size])
    return int(different[0]) if len(different) else size
