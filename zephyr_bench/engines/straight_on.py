"""A coroutine that gives way to others at many steps, awaited as if it gave way only where it has to wait.

The layers below an SDK's call give way half a dozen times (`sleep(0)`) between a reply and the next request. Where
replies come close together, all of them would go that way in step, and every next request be sent late.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from functools import partial
from types import coroutine
from typing import Any, TypeVar

Out = TypeVar("Out")

_MOST = 32  # times in a row: it may give way until another has done something


@coroutine
def straight_on(steps: Coroutine[Any, Any, Out]) -> Generator[Any, Any, Out]:
    """Its result, or what it raises. A cancellation reaches it where it waits."""
    go_on = step = partial(steps.send, None)
    passed = 0
    while True:
        try:
            awaited = step()
        except StopIteration as end:
            result: Out = end.value
            return result
        step = go_on
        if awaited is None and passed < _MOST:  # what sleep(0) yields to its task
            passed += 1
            continue
        passed = 0
        try:
            yield awaited
        except BaseException as error:  # noqa: BLE001 - it is the coroutine's to handle
            step = partial(steps.throw, error)
