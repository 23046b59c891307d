"""A command that torchrun or `accelerate launch` starts in several processes runs once, in rank 0.

Where it runs models, the other processes help its engines (engines/data_parallel.py) and train with it
(training_runs/parallel.py); else they end at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import typer

from zephyr_bench.errors import ServiceError

_ONE_END_SECONDS = 5.0  # the terminal and the launcher each send a signal for one Ctrl-C


def in_one_process(program: typer.Typer, words: Sequence[str]) -> None:
    """Runs the program, unless another process does."""
    if "WORLD_SIZE" not in os.environ:  # at once: importing engines takes a moment
        program()
        return
    from zephyr_bench.engines.launch import idle_others, launched

    launch = launched()
    if launch is None:
        program()
    elif not _runs_models(program, words):
        if launch.rank == 0:
            sys.stderr.write(idle_others(launch, next(iter(words), "this")))
            program()
    elif launch.rank > 0:
        from zephyr_bench.engines.helper import serve
        from zephyr_bench.training_runs.parallel import join

        serve(launch, join)
    else:
        from zephyr_bench.engines.data_parallel import crew_of

        with _ends_once(), crew_of(launch):
            program()


def _runs_models(program: typer.Typer, words: Sequence[str]) -> bool:
    """Whether the command has a --device to run models on, and is not only asked for help or a plan."""
    commands = getattr(typer.main.get_command(program), "commands", {})
    command = commands.get(next(iter(words), None))
    named = {parameter.name for parameter in command.params} if command else set()
    return "device" in named and not {"--help", "-h", "--dry-run"} & set(words)


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
