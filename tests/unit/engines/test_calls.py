"""Calls whose replies come as fast as calls begin: the caller gets each before more is asked than it must be."""

from __future__ import annotations

import asyncio

from zephyr_bench.engines.calls import Calls
from zephyr_bench.engines.concurrency import Concurrency, Pace


async def nothing() -> None:
    pass


def test_the_first_reply_comes_before_everything_is_asked() -> None:
    async def reply(item: int) -> int:
        await asyncio.sleep(1e-6)
        return item

    asked: list[int] = []

    def pull() -> int | None:
        asked.append(len(asked))
        return asked[-1] if len(asked) <= 1000 else None

    calls = Calls(reply, concurrency=Concurrency(), pace=Pace(), tries=1)
    replies = calls.run(pull, closing=nothing)
    next(replies)
    replies.close()  # type: ignore[attr-defined]
    assert len(asked) < 100


def test_everything_is_answered() -> None:
    async def reply(item: int) -> int:
        await asyncio.sleep(1e-6)
        return -item

    items = iter(range(1000))
    calls = Calls(reply, concurrency=Concurrency(), pace=Pace(), tries=1)
    found = list(calls.run(lambda: next(items, None), closing=nothing))
    assert sorted(found) == [(item, -item) for item in range(1000)]
