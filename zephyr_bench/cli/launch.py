"""A command that torchrun or `accelerate launch` starts in several processes runs once, in rank 0.

Where it evaluates, the other processes help its engines (engines/data_parallel.py); else they end at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from zephyr_bench.errors import ServiceError

_EVALUATING = {"mtbench", "alpaca-eval", "open-llm", "train-and-eval", "judge"}
_ONE_END_SECONDS = 5.0  # the terminal and the launcher each send a signal for one Ctrl-C


def in_one_process(program: Callable[[], Any], words: Sequence[str]) -> None:
    """Runs the program, unless another process does."""
    if "WORLD_SIZE" not in os.environ:  # at once: importing engines takes a moment
        program()
        return
    from zephyr_bench.engines.launch import launched

    launch = launched()
    evaluates = next(iter(words), None) in _EVALUATING and not {"--help", "-h"} & set(words)
    if launch is None:
        program()
    elif not evaluates:
        if launch.rank == 0:
            others = f"the other {launch.world - 1} of this launch have" if launch.world > 2 else "the other has"
            sys.stderr.write(f"{next(iter(words), 'this')} runs in one process; {others} nothing to do\n")
            program()
    elif launch.rank > 0:
        from zephyr_bench.engines.helper import serve

        serve(launch)
    else:
        from zephyr_bench.engines.data_parallel import crew_of

        with _ends_once(), crew_of(launch):
            program()


@contextmanager
def _ends_once() -> Iterator[None]:
    """Ctrl-C, and the SIGTERM by which a launcher ends all when one has died, as exceptions; not one in another."""
    ended = -_ONE_END_SECONDS

    def end(number: int, _: FrameType | None) -> None:
        nonlocal ended
        if time.monotonic() - ended < _ONE_END_SECONDS:
            return
        ended = time.monotonic()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise ServiceError(
            "told to end (SIGTERM): another process of this launch has died, as the launcher's messages say, or "
            "somebody ended the run; what was done is stored, run the same command again to go on."
        )

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
