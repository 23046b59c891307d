"""Calls to a server, many at once: as many as it takes, each tried again where that may help.

In: what to ask, pulled as calls may begin, and how to ask it. Out: each reply as it comes. Knows no protocol; a client
says what its errors mean by the three classes below. The event loop turns in the caller's thread, while it waits.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from zephyr_bench.engines.concurrency import Concurrency, Pace
from zephyr_bench.engines.straight_on import straight_on
from zephyr_bench.errors import ServiceError

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0  # seconds between two tries, doubling; the server may ask for more
_LONGEST_ASKED = 600.0  # seconds that a server may ask to wait
_TURNS = 8  # of the event loop; a call needs them until a new line is open and its request is sent

In = TypeVar("In")
Out = TypeVar("Out")


class TryAgain(Exception):
    """This call failed, and may succeed later."""

    def __init__(self, error: ServiceError, *, overloaded: bool = False, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error  # raised when it was tried often enough
        self.overloaded = overloaded
        self.after = after  # seconds that the server asks to wait


class Refused(Exception):
    """The server won't take this call, ever; it may take the others."""

    def __init__(self, error: ServiceError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass
class _Asked(Generic[In]):
    """One thing to ask, and how often that failed."""

    item: In
    failures: int = 0
    successes: int = 0  # of all calls, when it failed last


@dataclass(order=True)
class _Waiting(Generic[In]):
    """To be tried again."""

    ready: float
    number: int
    asked: _Asked[In] = field(compare=False)


class Calls(Generic[In, Out]):
    """One server's calls. What it learns of the server's limits stays from one `run` to the next.

    Asking fails for good in two ways: a `Refused` call alone, or, by any other error, all that has not begun. Either
    is raised by `run` once everything else that was under way has been yielded.
    """

    def __init__(
        self,
        ask: Callable[[In], Coroutine[Any, Any, Out]],
        *,
        concurrency: Concurrency,
        pace: Pace,
        tries: int,
        tokens_of: Callable[[In], int] = lambda _: 0,
    ) -> None:
        self._ask = ask
        self._concurrency = concurrency
        self._pace = pace
        self._tries = tries
        self._tokens_of = tokens_of
        self._chance = random.Random()  # only spreads retries in time

    def run(
        self, pull: Callable[[], In | None], *, closing: Callable[[], Coroutine[Any, Any, None]]
    ) -> Iterator[tuple[In, Out]]:
        """Each reply with what was asked. `pull` gives what to ask next, None while there is nothing.

        It is asked again after each reply, so that a reply may lead to another question. Meanwhile no garbage is looked
        for among what is there already: with all packages loaded that holds up every call, by 60 ms.
        """
        running = _Run(self, pull)
        loop = asyncio.new_event_loop()
        gc.freeze()
        try:
            while loop.run_until_complete(running.turn()):
                while running.done:
                    yield running.done.popleft()
        except KeyboardInterrupt:  # what came is paid for
            while running.done:
                yield running.done.popleft()
            raise
        finally:
            try:
                loop.run_until_complete(running.stop())
                loop.run_until_complete(closing())
                loop.run_until_complete(loop.shutdown_asyncgens())
            finally:
                loop.close()
                gc.unfreeze()
        if failure := running.failure or running.refusal:
            raise failure


class _Run(Generic[In, Out]):
    """One `run` of calls: what is under way, what waits, what is done."""

    def __init__(self, calls: Calls[In, Out], pull: Callable[[], In | None]) -> None:
        self._calls = calls
        self._pull = pull
        self._under_way: set[asyncio.Task[None]] = set()
        self._waiting: list[_Waiting[In]] = []
        self._numbers = 0
        self._successes = 0
        self._not_before = 0.0  # the server asked for a pause until then
        self._news = asyncio.Event()
        self.done: deque[tuple[In, Out]] = deque()
        self.failure: Exception | None = None
        self.refusal: ServiceError | None = None

    async def turn(self) -> bool:
        """Begins what may begin and waits for a reply. False when nothing is left to do."""
        while True:
            wait = await self._begin()
            if self.done:
                return True
            if not self._under_way and wait is None:
                return False
            self._news.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def stop(self) -> None:
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _begin(self) -> float | None:
        """Begins calls. Seconds until more may begin without news; None if only news can tell.

        One after the other is sent: begun together they would be answered together, and nothing be under way meanwhile.
        A reply goes first: where replies come as fast as calls begin, the caller would get none before the last.
        """
        while not self.done and len(self._under_way) < self._calls._concurrency.limit:
            asked, wait = self._take()
            if asked is None:
                return wait
            self._under_way.add(asyncio.get_running_loop().create_task(self._work(asked)))
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        return None

    def _take(self) -> tuple[_Asked[In] | None, float | None]:
        """What may begin now; where nothing may, the seconds until something may, None if only news can tell."""
        if self.failure is not None:
            return None, None
        now = asyncio.get_running_loop().time()
        pause = max(self._not_before - now, self._calls._pace.wait(now))
        if pause > 0:
            return None, pause
        if self._waiting and self._waiting[0].ready <= now:
            asked = heapq.heappop(self._waiting).asked
        elif (new := self._next()) is not None:
            asked = _Asked(new)
        elif self._waiting and self.failure is None:
            return None, max(0.0, self._waiting[0].ready - now)
        else:
            return None, None
        self._calls._pace.begins(now, tokens=self._calls._tokens_of(asked.item))
        return asked, None

    def _next(self) -> In | None:
        """What is asked next. Where that can't be told, what is under way is waited for before the error is raised."""
        try:
            return self._pull()
        except Exception as error:  # noqa: BLE001 - raised where the replies are read
            self.failure = error
            return None

    async def _work(self, asked: _Asked[In] | None) -> None:
        """One call after the other: the next one is under way before the reply is looked at."""
        task = asyncio.current_task()
        assert task is not None
        try:
            while asked is not None:
                await self._call(asked)
                may = len(self._under_way) <= self._calls._concurrency.limit
                asked = self._take()[0] if may else None
        finally:
            self._under_way.discard(task)
            self._news.set()

    async def _call(self, asked: _Asked[In]) -> None:
        calls, began = self._calls, asyncio.get_running_loop().time()
        try:
            reply = await straight_on(calls._ask(asked.item))
        except TryAgain as again:
            self._failed(asked, again, began=began)
        except Refused as refused:
            self.refusal = self.refusal or refused.error
        except Exception as error:  # noqa: BLE001 - raised where the replies are read
            self.failure = self.failure or error
        else:
            self._successes += 1
            calls._concurrency.succeeded(under_way=len(self._under_way))
            self.done.append((asked.item, reply))
        self._news.set()

    def _failed(self, asked: _Asked[In], again: TryAgain, *, began: float) -> None:
        """Puts it aside, to be tried again when that may help.

        A busy server that answers others is no failure of this call: it waits its turn.
        """
        calls, now = self._calls, asyncio.get_running_loop().time()
        if again.overloaded:
            calls._concurrency.overloaded(began=began, now=now)
        counts = not again.overloaded or self._successes == asked.successes
        asked.failures += counts
        asked.successes = self._successes
        if asked.failures >= calls._tries:
            self.failure = self.failure or again.error
            return
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** max(0, asked.failures - 1)) * calls._chance.uniform(0.5, 1.0)
        if again.after is not None:
            wait = min(again.after, _LONGEST_ASKED)
            self._not_before = max(self._not_before, now + wait)
        self._numbers += 1
        heapq.heappush(self._waiting, _Waiting(now + wait, self._numbers, asked))
