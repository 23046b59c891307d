"""How work is cut so that several processes can take it piece by piece.

In: requests. Out: the same in groups. Pure; knows no process and no model.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise

from zephyr_bench.engines.prefix_plan import common_prefix
from zephyr_bench.engines.protocol import CompletionRequest
from zephyr_bench.records import ScoreRequest

_LARGEST = 500_000  # tokens: results of a piece come as they are made, but the piece is one message
_TURNS = 4  # pieces a process at least, however little there is
_FEWEST = 1024  # tokens that are worth a message
_LEEWAY = 4  # a cut may move by a quarter of a piece to where little is shared


def cut(requests: Sequence[ScoreRequest], *, ranks: int, at_once: int) -> list[list[ScoreRequest]]:
    """Contiguous pieces in sorted order, so that what shares a beginning mostly stays together.

    `at_once` is how many tokens a forward pass takes. What counts is the tokens that are left to compute once shared
    beginnings are. Pieces get smaller towards the end: few cuts, and nobody waits long for the last one.
    """
    order = sorted(requests, key=lambda request: (request.context, request.continuation))
    shared = [0, *(_shared(before, after) for before, after in pairwise(order)), 0]
    sums = [0, *accumulate(_length(one) - same + 1 for one, same in zip(order, shared, strict=False))]
    smallest = max(_FEWEST, min(at_once, sums[-1] // (ranks * _TURNS)))
    pieces: list[list[ScoreRequest]] = []
    begin = 0
    while begin < len(order):
        left = sums[-1] - sums[begin]
        wanted = min(max(left // (2 * ranks), smallest), _LARGEST)
        end = len(order)
        if left > wanted + smallest // 2:
            first, last = (
                bisect_left(sums, sums[begin] + wanted + way * wanted // _LEEWAY, begin + 1, len(order))
                for way in (-1, 1)
            )
            end = min(range(first, last + 1), key=lambda place: shared[place])
        pieces.append(order[begin:end])
        begin = end
    return pieces


def _length(request: ScoreRequest) -> int:
    return len(request.context) + len(request.continuation)


def _shared(before: ScoreRequest, after: ScoreRequest) -> int:
    if before.context == after.context:
        return len(after.context) + common_prefix(before.continuation, after.continuation)
    return common_prefix(before.context, after.context)


def shares(requests: Sequence[CompletionRequest], *, ranks: int) -> list[list[CompletionRequest]]:
    """One share a process, of like prompt lengths. The same requests give the same shares, whoever takes which.

    Answers that are known already count like others, so that a run taken up again computes the rest in the batches
    that it would have had; a share of known ones alone is left out.
    """
    by_length = sorted(range(len(requests)), key=lambda number: len(requests[number].prompt))
    found = [[requests[number] for number in sorted(by_length[rank::ranks])] for rank in range(ranks)]
    return [share for share in found if any(request.made is None for request in share)]
