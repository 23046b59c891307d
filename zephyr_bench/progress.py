"""Progress on stderr: a rich bar with rate and ETA on a terminal, silence elsewhere; for training one line.

stdout is for results only; nothing here writes to it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from zephyr_bench.escaping import visible

Item = TypeVar("Item")
Part = tuple[str, str]  # what it is ("" where the value says it), and how much
_PLAIN_SECONDS = 30.0  # between two lines where there is no terminal


def _shown(message: str) -> str:
    """As literal text: no markup, no control codes; line breaks stay."""
    return escape("\n".join(visible(line) for line in message.split("\n")))


def clock(seconds: float) -> str:
    """4:05, or 2:04:05 from an hour on."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Line:
    """One line of parts, the most important first: rewritten in place on a terminal, where what has no room is left
    out; elsewhere printed now and then.
    """

    def __init__(self, console: Console, *, live: bool, quiet: bool) -> None:
        self._console, self._on_terminal, self._quiet = console, live, quiet
        self._parts: Callable[[], Sequence[Part]] = lambda: ()
        self._live: Live | None = None
        self._printed = float("-inf")

    def show(self, parts: Callable[[], Sequence[Part]]) -> None:
        """`parts` is asked again as time goes on, for what hangs on the clock."""
        self._parts = parts
        if self._quiet:
            return
        if not self._on_terminal:
            if time.monotonic() - self._printed >= _PLAIN_SECONDS:
                self._printed = time.monotonic()
                self._console.print(_shown(" ".join(f"{label} {value}".strip() for label, value in parts())))
        elif self._live is None:
            self._live = Live(get_renderable=self._fitted, console=self._console, transient=True, refresh_per_second=2)
            self._live.start()

    def hide(self) -> None:
        """Gives the terminal free; the next `show` takes it again."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _fitted(self) -> Text:
        line = Text(no_wrap=True, overflow="crop")
        for label, value in self._parts():
            part = Text.assemble((f"{label} " if label else "", "dim"), visible(value))
            if line and len(line) + 2 + len(part) > self._console.width:
                break
            line = Text.assemble(line, "  " if line else "", part, no_wrap=True, overflow="crop")
        return line


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

    def line(self) -> Line:
        """For work whose steps have more to tell than their number."""
        return Line(self.console, live=self.bars, quiet=self.quiet)

    def track(self, items: Iterable[Item], *, what: str, total: int | None, unit: str = "it") -> Iterator[Item]:
        """The items as they come, with a bar where stderr is a terminal."""
        if not self.bars or total == 0:
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
