from __future__ import annotations

import io

import pytest
from rich.console import Console

from zephyr_bench.progress import Line, Part, clock

PARTS: list[Part] = [("ddpo", "12/5700 0%"), ("ETA", "2:31:05"), ("loss", "0.6312"), ("margin", "+0.312")]


@pytest.mark.parametrize(("seconds", "told"), [(-3, "0:00"), (59.6, "1:00"), (185, "3:05"), (9065, "2:31:05")])
def test_a_time_is_told_in_hours_only_where_it_has_some(seconds: float, told: str) -> None:
    assert clock(seconds) == told


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (80, "ddpo 12/5700 0%  ETA 2:31:05  loss 0.6312  margin +0.312"),
        (45, "ddpo 12/5700 0%  ETA 2:31:05  loss 0.6312"),
        (20, "ddpo 12/5700 0%"),
        (8, "ddpo 12/5700 0%"),
    ],
)
def test_what_has_no_room_is_left_out_from_the_end(width: int, shown: str) -> None:
    line = Line(Console(width=width), live=True, quiet=True)
    line.show(lambda: PARTS)
    assert line._fitted().plain == shown


def test_a_terminal_shows_one_line_that_goes_again() -> None:
    out = io.StringIO()
    line = Line(Console(file=out, force_terminal=True, width=80), live=True, quiet=False)
    line.show(lambda: PARTS)
    line.hide()
    line.show(lambda: [("ddpo", "13/5700 0%")])
    line.hide()
    shown = out.getvalue()
    assert "ETA" in shown
    assert "13/5700" in shown
    assert shown.rstrip().endswith("\x1b[2K")  # the line was erased


def test_elsewhere_a_line_is_printed_now_and_then() -> None:
    out = io.StringIO()
    line = Line(Console(file=out, width=40, soft_wrap=True), live=False, quiet=False)
    for _ in range(5):
        line.show(lambda: PARTS)
    assert out.getvalue() == "ddpo 12/5700 0% ETA 2:31:05 loss 0.6312 margin +0.312\n"


def test_quiet_prints_nothing() -> None:
    out = io.StringIO()
    Line(Console(file=out), live=False, quiet=True).show(lambda: PARTS)
    assert out.getvalue() == ""
