"""What becomes of a command whose output nobody reads any more, as `head` stops reading."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

from zephyr_bench.errors import EXIT_UNREAD


class Commands(TyperGroup):
    """Typer would end with 1 where the reader went away, which is a regression to who asked for a gate."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            nowhere(sys.stdout)
            raise typer.Exit(EXIT_UNREAD) from None


def nowhere(stream: TextIO) -> None:
    """What is written to it from now on, and what it still holds, is dropped, so that ending can't fail by it."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # no file is behind it
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
