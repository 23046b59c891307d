from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from zephyr_bench.engines.straight_on import straight_on

Out = TypeVar("Out")


async def through(steps: Coroutine[Any, Any, Out]) -> Out:
    return await straight_on(steps)


async def in_steps(name: str, steps: int, told: list[str]) -> str:
    for step in range(steps):
        told.append(f"{name}{step}")
        await asyncio.sleep(0)
    return name


def test_what_gives_way_at_every_step_is_done_before_others() -> None:
    async def both(told: list[str]) -> list[str]:
        return await asyncio.gather(*(through(in_steps(name, 3, told)) for name in "ab"))

    told: list[str] = []
    assert asyncio.run(both(told)) == ["a", "b"]
    assert told == ["a0", "a1", "a2", "b0", "b1", "b2"]


def test_who_waits_for_another_by_giving_way_gets_it() -> None:
    async def wait_for(others: list[str]) -> int:
        turns = 0
        while not others:
            await asyncio.sleep(0)
            turns += 1
        return turns

    async def both() -> int:
        others: list[str] = []
        return (await asyncio.gather(through(wait_for(others)), in_steps("b", 1, others)))[0]

    assert asyncio.run(asyncio.wait_for(both(), 5)) > 0


def test_a_real_wait_is_one() -> None:
    async def late(told: list[str]) -> None:
        await asyncio.sleep(0.01)
        told.append("late")

    async def both(told: list[str]) -> None:
        await asyncio.gather(through(late(told)), in_steps("b", 2, told))

    told: list[str] = []
    asyncio.run(both(told))
    assert told == ["b0", "b1", "late"]


def test_an_error_passes_both_ways() -> None:
    async def timed() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(5)
        except TimeoutError:
            await asyncio.sleep(0)
            return "timed out"
        return "not"

    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    assert asyncio.run(through(timed())) == "timed out"
    with pytest.raises(KeyError):
        asyncio.run(through(fails()))


def test_a_cancelled_task_ends_where_it_waits() -> None:
    async def ended(told: list[str]) -> None:
        try:
            await asyncio.sleep(5)
        finally:
            told.append("ended")

    async def cancelled(told: list[str]) -> None:
        task = asyncio.create_task(through(ended(told)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    told: list[str] = []
    asyncio.run(cancelled(told))
    assert told == ["ended"]
