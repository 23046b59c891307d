"""Several sequences in one row, none of which sees another: dialogues side by side, and pairs whose prompt stands once.

In: trees of tokens. Out: which share a row, and what stands where in it. Pure; knows no model.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zephyr_bench.training_data.tokens import Tree

Ints = NDArray[np.int64]
NO_TREE = -1  # padding's


@dataclass(frozen=True)
class Rows:
    """Padded on the right (rows, columns). What is read: after the flat place `places[i]` the token `targets[i]`."""

    ids: Ints
    positions: Ints  # within each sequence
    trees: Ints  # which tree a token belongs to
    branches: Ints  # which of its branches, from 1; 0: the stem
    places: Ints  # (reads,)
    targets: Ints  # (reads,)
    sequences: Ints  # (reads,) numbered over the trees as they were given
    count: int  # of sequences

    @property
    def present(self) -> NDArray[np.bool_]:
        """(rows, columns), False for padding."""
        return self.trees != NO_TREE

    @property
    def plain(self) -> bool:
        """One sequence a row, so that a model's own causal mask is right."""
        same = (self.trees == self.trees[:, :1]) | ~self.present
        return bool((self.branches == 0).all() and same.all())


def laid_out(trees: Sequence[Tree], rows: Sequence[Sequence[int]], *, pad: int) -> Rows:
    """`rows` says which trees, by number, stand in each; `fitted` finds some that waste little."""
    first = np.cumsum([0, *(tree.sequences for tree in trees)])  # number of each tree's first sequence
    width = max(sum(trees[number].size for number in row) for row in rows)
    ids = np.full((len(rows), width), pad, dtype=np.int64)
    positions = np.zeros_like(ids)
    owners, branches = np.full_like(ids, NO_TREE), np.zeros_like(ids)
    reads: list[tuple[int, int, int]] = []  # place, target, sequence
    for row, members in enumerate(rows):
        column = 0
        for number in members:
            tree = trees[number]
            stem = column, len(tree.stem.ids)
            for branch, part in enumerate((tree.stem, *tree.branches)):
                end = column + len(part.ids)
                before = stem[1] if branch else 0
                ids[row, column:end] = part.ids
                positions[row, column:end] = np.arange(before, before + len(part.ids))
                owners[row, column:end], branches[row, column:end] = number, branch
                for offset, (token, learn) in enumerate(zip(part.ids, part.learn, strict=True)):
                    if learn and before + offset:
                        place = column + offset - 1 if offset else stem[0] + stem[1] - 1
                        reads.append((row * width + place, token, int(first[number]) + max(0, branch - 1)))
                column = end
    places, targets, sequences = np.array(reads, dtype=np.int64).reshape(-1, 3).T
    return Rows(ids, positions, owners, branches, places, targets, sequences, int(first[-1]))


def fitted(sizes: Sequence[int], *, length: int) -> list[list[int]]:
    """Numbers that share a row of `length`: best fit, the longest first (as TRL's packing strategy bfd)."""
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), ascending
    for number in sorted(range(len(sizes)), key=lambda number: (-sizes[number], number)):
        at = bisect_left(room, (sizes[number], -1))
        if at < len(room):
            left, row = room.pop(at)
        else:
            left, row = length, len(rows)
            rows.append([])
        rows[row].append(number)
        insort(room, (left - sizes[number], row))
    return rows
