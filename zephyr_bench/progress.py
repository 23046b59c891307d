"""Progress on stderr: a rich bar with rate and ETA on a terminal, silence elsewhere.

stdout is for results only; nothing here writes to it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from zephyr_bench.escaping import visible

Item = TypeVar("Item")


def _shown(message: str) -> str:
    """As literal text: no markup, no control codes; line breaks stay."""
    return escape("\n".join(visible(line) for line in message.split("\n")))


class Progress:
    """Shows how far slow work is, and says things beside it. Quiet: nothing but warnings."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.quiet = quiet
        self.bars = not quiet and sys.stderr.isatty()

    def say(self, message: str) -> None:
        """A line for people, on stderr. Markup in it is shown, not obeyed."""
        if not self.quiet:
            self.console.print(_shown(message))

    def warn(self, message: str) -> None:
        self.console.print(f"[yellow]warning:[/] {_shown(message)}")

    def track(self, items: Iterable[Item], *, what: str, total: int | None, unit: str = "it") -> Iterator[Item]:
        """The items as they come, with a bar where stderr is a terminal."""
        if not self.bars:
            yield from items
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(_shown(what), total=total, rate="")
            for item in items:
                yield item
                bar.advance(task)
                speed = bar.tasks[0].speed
                bar.update(task, rate=f"{speed:.1f} {unit}/s" if speed else "")
