"""Which token sequences are computed together, so that what they begin with is computed once.

In: sequences of token ids. Out: groups of them with the length of the prefix each group shares. Pure:
knows no model. See docs/design/engine.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

CALL_OVERHEAD = 16  # what one more forward pass costs, in tokens
_WIDEST = 256  # sequences in a group; bounds the planning time, and the gain flattens before


@dataclass(frozen=True)
class Group:
    """Sequences (by their number) whose first `prefix` tokens are the same; 0 where nothing is shared."""

    prefix: int
    members: tuple[int, ...]


def plan(sequences: Sequence[tuple[int, ...]]) -> list[Group]:
    """Groups that hold every sequence once and cost the fewest tokens, found over the sorted sequences.

    For scoring no sequence may be a prefix of another (see `absorb`). Sequences that share nothing worth it form
    one last group.
    """
    order = sorted(range(len(sequences)), key=lambda number: sequences[number])
    shared = [0] + [common_prefix(sequences[before], sequences[after]) for before, after in pairwise(order)]
    # least[n]: cost of the first n sequences in order; start[n]: where the last of their groups begins
    least, start = [0], [0]
    for end in range(1, len(order) + 1):
        best, begin = least[end - 1] + len(sequences[order[end - 1]]), end - 1
        prefix, tokens = shared[end - 1], len(sequences[order[end - 1]])
        for first in range(end - 2, max(-1, end - 1 - _WIDEST), -1):
            if prefix == 0:
                break
            tokens += len(sequences[order[first]])
            cost = least[first] + tokens - prefix * (end - first - 1) + 2 * CALL_OVERHEAD
            if cost < best:
                best, begin = cost, first
            prefix = min(prefix, shared[first])
        least.append(best)
        start.append(begin)
    return _groups(order, shared, start)


def _groups(order: list[int], shared: list[int], start: list[int]) -> list[Group]:
    """Walks back from the end of the order."""
    groups: list[Group] = []
    alone: list[int] = []
    end = len(order)
    while end:
        begin = start[end]
        if end - begin == 1:
            alone.append(order[begin])
        else:
            groups.append(Group(min(shared[begin + 1 : end]), tuple(order[begin:end])))
        end = begin
    if alone:
        groups.append(Group(0, tuple(alone)))
    return groups


def tokens_computed(groups: Sequence[Group], sequences: Sequence[tuple[int, ...]]) -> int:
    """Tokens that go through the model."""
    return sum(
        group.prefix + sum(len(sequences[member]) - group.prefix for member in group.members) for group in groups
    )


def absorb(sequences: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], tuple[int, ...]]:
    """Each sequence -> a sequence that begins with it and is no prefix of another (often itself)."""
    order = sorted(set(sequences))
    longest: dict[tuple[int, ...], tuple[int, ...]] = {}
    for number in range(len(order) - 1, -1, -1):
        sequence = order[number]
        following = order[number + 1] if number + 1 < len(order) else None
        # in sorted order, what begins with a sequence comes right after it
        is_prefix = following is not None and following[: len(sequence)] == sequence
        longest[sequence] = longest[following] if is_prefix and following is not None else sequence
    return longest


def common_prefix(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """Length of the longest common prefix, by bisection: slices are compared in C."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
