"""How many calls a server takes at once, found out by calling it; and how many a minute, where that is known.

Pure bookkeeping: told what happened, says what may begin. Knows no network and no clock but what it is given.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_FIRST = 4  # calls at once, before anything is known
_MOST = 256


@dataclass
class Concurrency:
    """Slow start, additive growth, and a cut by half where the server asks for less (as TCP finds a line's width).

    `fixed` calls at once never change. Otherwise the limit grows by one with each success until the first cut, from
    then on by one in `limit` successes; never while it is not being used. What one overload answers to many calls is
    one cut: a call that began before the last cut says nothing new.
    """

    fixed: int | None = None
    _limit: float = field(init=False)
    _cut_at: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self._limit = float(self.fixed or _FIRST)

    @property
    def limit(self) -> int:
        return int(self._limit)

    def succeeded(self, *, under_way: int) -> None:
        """A call was answered; so many were under way, itself included."""
        if self.fixed is None and under_way >= self.limit:
            step = 1.0 if self._cut_at == float("-inf") else 1 / self.limit
            self._limit = min(float(_MOST), self._limit + step)

    def overloaded(self, *, began: float, now: float) -> None:
        """The server asked for less, or kept a call waiting for too long."""
        if self.fixed is None and began > self._cut_at:
            self._limit, self._cut_at = max(1.0, self._limit / 2), now


@dataclass
class Pace:
    """At most so many requests and tokens a minute, evenly. None: no such limit is known."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    _next: float = field(init=False, default=0.0)

    def wait(self, now: float) -> float:
        """Seconds until the next call may begin."""
        return max(0.0, self._next - now)

    def begins(self, now: float, *, tokens: int) -> None:
        """A call begins, of so many tokens at most."""
        seconds = 0.0
        if self.requests_per_minute:
            seconds = 60 / self.requests_per_minute
        if self.tokens_per_minute:
            seconds = max(seconds, 60 * tokens / self.tokens_per_minute)
        self._next = max(self._next, now) + seconds
