"""What is to be decoded: rows, the queue they wait in, and which of them follow from which.

In: requests, and what to ask after a result. Out: rows in the order of their start. Rows whose result is known already
keep their place and their length, and are read only where a row that isn't known begins with what they read. Knows
tokens and lengths; computes nothing.
"""

from __future__ import annotations

import random
from bisect import insort_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from zephyr_bench.engines.kv_cache import Columns
from zephyr_bench.engines.prefix_plan import plan
from zephyr_bench.engines.protocol import CompletionRequest
from zephyr_bench.errors import UserError
from zephyr_bench.records import Generation

_LEAST_SHARED = 64  # tokens; a chat template's own beginning is shorter

Follow = Callable[[Generation], Iterable[CompletionRequest]]


@dataclass
class Begun:
    """The beginning of a prompt, read apart: that of the prompt that this one follows, or one that several share."""

    tokens: int
    columns: Columns | None = None  # None: nobody will read them, or they aren't there yet
    shared: tuple[int, ...] = ()  # what several share, read once, for the first of them that needs it


@dataclass
class Row:
    request: CompletionRequest
    limit: int  # new tokens at most
    follows: bool = False  # from the result of another
    begun: Begun | None = None
    following: list[Row] = field(default_factory=list)  # of a known row; of others nobody can tell yet
    kept: Columns | None = None  # of a known row's prompt, for what follows
    made: list[int] = field(init=False)
    likeliest: list[dict[int, float]] = field(init=False)  # at each token's place, where that is asked
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.begin_again()

    def begin_again(self) -> None:
        """As it was before its first token."""
        self.made, self.likeliest = [], []
        self.chance = random.Random(self.request.sampling.seed)

    @property
    def known(self) -> Generation | None:
        return self.request.made

    @property
    def begins_others(self) -> bool:
        """Known, but its prompt must be read for a row that isn't."""
        return any(row.known is None or row.begins_others for row in self.following)

    @property
    def prompt(self) -> tuple[int, ...]:
        return self.request.prompt

    @property
    def unread(self) -> int:
        """Tokens of the prompt that are still to be read."""
        return len(self.prompt) - (self.begun.tokens if self.begun else 0)

    @property
    def length(self) -> int:
        """Tokens of this row in the cache, once its last token is read."""
        return len(self.prompt) + len(self.made)

    @property
    def longest(self) -> int:
        return len(self.prompt) + self.limit


class Rows:
    """Makes rows of requests; those of known results at once, with all that follows from them.

    What `then` raises of a user's mistake is kept in `refused`: what is under way is finished first.
    """

    def __init__(self, then: Follow, max_length: int) -> None:
        self.refused: UserError | None = None
        self._then = then
        self._max_length = max_length

    def row(self, request: CompletionRequest, *, follows: bool = False) -> Row:
        limit = min(request.sampling.max_new_tokens, self._max_length - len(request.prompt))
        row = Row(request, limit, follows)
        if row.known:
            row.following = self._asked_after(row.known)
        return row

    def after(self, row: Row, result: Generation) -> list[Row]:
        return row.following if row.known else self._asked_after(result)

    def _asked_after(self, result: Generation) -> list[Row]:
        try:
            return [self.row(request, follows=True) for request in self._then(result)]
        except UserError as error:
            self.refused = self.refused or error
            return []


class Queue:
    """Rows that wait: those that others may follow from, then those that follow; of equals the earliest.

    A dialogue begun late would end alone, its second turn beside nothing. The shortest of the first and the longest of
    those that follow come first, so that what shares a batch at the change is of like length.
    """

    def __init__(self) -> None:
        self._rows: list[Row] = []  # the next one stands last

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Row) -> None:
        insort_left(self._rows, row, key=_turn_to_start)

    @property
    def begun(self) -> int:
        """Tokens that are read already, or will be, and held for the rows that wait."""
        return sum({id(row.begun): row.begun.tokens for row in self._rows if row.begun}.values())

    @property
    def next(self) -> Row:
        return self._rows[-1]

    def take(self) -> Row:
        return self._rows.pop()


def _turn_to_start(row: Row) -> tuple[bool, int]:
    return not row.follows, len(row.prompt) if row.follows else -len(row.prompt)


def common_beginning(before: Row, after: Row) -> int:
    """Tokens with which both prompts begin; of `after` at least one is left to read."""
    most = min(len(before.prompt), len(after.prompt) - 1)
    return next((n for n in range(most) if before.prompt[n] != after.prompt[n]), most)


def share_beginnings(rows: Sequence[Row], *, room: int) -> None:
    """Lets rows that begin with the same tokens, few-shot examples say, have those read once; `room` tokens at most.

    Short beginnings are left alone: reading one apart costs as much as it saves. What is shared hangs on all prompts,
    whether their results are known or not.
    """
    prompts = [row.prompt for row in rows]
    for group in sorted(plan(prompts), key=lambda group: -group.prefix * len(group.members)):
        tokens = min([group.prefix, *(len(prompts[member]) - 1 for member in group.members)])
        if _LEAST_SHARED <= tokens <= room:
            room -= tokens
            begun = Begun(tokens, shared=prompts[group.members[0]][:tokens])
            for member in group.members:
                rows[member].begun = begun


def groups(rows: Iterable[Row], most_tokens: int) -> Iterator[list[Row]]:
    """Rows whose prompts are read together: those of like length, so that little is padding.

    Each group has `most_tokens` at most, padding included. Rows whose prompt is begun are kept apart.
    """
    for begun in (False, True):
        waiting = sorted((row for row in rows if bool(row.begun) is begun), key=lambda row: -row.unread)
        start = 0
        while start < len(waiting):
            fit = max(1, most_tokens // waiting[start].unread)
            yield waiting[start : start + fit]
            start += fit
