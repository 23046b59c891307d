"""Tables as text: for a terminal, as markdown, as CSV, as JSON. The same table gives the same bytes.

Cells are text already rounded for people; machines get full precision from `render_records`. Knows
nothing of what the numbers mean.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from zephyr_bench.errors import UserError
from zephyr_bench.escaping import csv_text, markdown, visible

MISSING = "-"  # in a cell: there is no such number
_GAP = 3  # blanks that rich puts between two columns
_NARROWEST = 12  # of a column of names on a narrow terminal
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
Cells = Sequence[Sequence[str]]


def render_table(
    columns: Sequence[str],
    cells: Cells,
    format: str,
    *,
    numeric: Collection[int] = (),
    title: str = "",
    notes: Sequence[str] = (),
) -> str:
    """A table of text cells, ending in a newline. `numeric` columns are aligned to the right.

    `title` stands above the table and `notes` below, each on a line of its own, only where people read:
    "table" and "markdown". The other formats are "csv" and "json" (a list of objects). Raises UserError
    for another.
    """
    below = render_notes(notes, format)
    if format == "table":
        above = f"{visible(title)}\n\n" if title else ""
        return above + terminal_table(columns, cells, numeric=numeric, width=_screen_width()) + below
    if format == "markdown":
        above = f"{markdown(title)}\n\n" if title else ""
        return above + _markdown(columns, cells, numeric) + (f"\n{below}" if below else "")
    return render_records([dict(zip(columns, row, strict=True)) for row in cells], columns, format)


def render_notes(notes: Sequence[str], format: str) -> str:
    """A line each, where people read; what stands in them may come from outside."""
    shown = {"table": lambda note: f"{visible(note)}\n", "markdown": lambda note: f"{markdown(note)}  \n"}
    return "".join(shown[format](note) for note in notes) if format in shown else ""


def render_records(records: Sequence[Mapping[str, Any]], columns: Sequence[str], format: str) -> str:
    """Records for machines: "json", or "csv" with a header line. Numbers keep their full precision."""
    if format == "json":
        return render_json([{column: record[column] for column in columns} for record in records])
    if format == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_csv_cell(record[column]) for column in columns] for record in records)
        return text.getvalue()
    raise UserError(f"unknown format '{format}': expected table, markdown, csv or json.")


def render_json(value: Any) -> str:
    # GitHub's runner would take ##[ for a command; within a JSON text the escape is the same character
    return json.dumps(value, indent=2, allow_nan=False).replace("##[", "##\\u005b") + "\n"


def number(value: float | None, *, signed: bool = False) -> str:
    """A score for people: two decimals, so that a column's points stand in line."""
    if value is None:
        return MISSING
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    return text.removeprefix("-").removeprefix("+") if text in ("-0.00", "+0.00") else text


def with_error(value: float | None, stderr: float | None) -> str:
    """`6.19 ±0.31`; without the second part where the error isn't known."""
    return number(value) if value is None or stderr is None else f"{number(value)} ±{stderr:.2f}"


class Notes:
    """Footnotes of one table, numbered as they are first needed; the same text has one number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, text: str) -> str:
        """The mark that goes behind a cell or name, with its blank."""
        known = self._numbers.setdefault(text, len(self._numbers) + 1)
        return " " + str(known).translate(_SUPERSCRIPT)

    def lines(self) -> list[str]:
        return [f"{str(known).translate(_SUPERSCRIPT)} {text}" for text, known in self._numbers.items()]


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        value = ", ".join(value)
    return csv_text(value) if isinstance(value, str) else value


def _markdown(columns: Sequence[str], cells: Cells, numeric: Collection[int]) -> str:
    rule = ["---:" if index in numeric else ":---" for index in range(len(columns))]
    rows = [[markdown(name) for name in columns], rule, *([markdown(cell) for cell in row] for row in cells)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def terminal_table(
    columns: Sequence[str], cells: Cells, *, numeric: Collection[int] = (), width: int | None = None
) -> str:
    """Aligned by rich, without colours. As wide as it needs; no number is ever cut or shortened.

    `width` is a terminal's: names fold to fit it, and a number's error goes below the number. Where
    even that is too wide, so is the table.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = [[visible(cell) for cell in row] for row in cells]
    heads = [visible(name) for name in columns]
    natural = [max(1, *(cell_len(text) for text in (head, *column))) for head, column in _by_column(heads, shown)]
    widths = natural if width is None else _fitted(heads, shown, natural, numeric, width)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, head in enumerate(heads):
        justify: Literal["right", "left"] = "right" if index in numeric else "left"
        table.add_column(Text(head), justify=justify, overflow="fold", width=widths[index])
    for row in shown:
        table.add_row(*(Text(cell) for cell in row))
    text = io.StringIO()
    whole = sum(widths) + _GAP * (len(columns) - 1)
    Console(file=text, width=whole, color_system=None, legacy_windows=False).print(table)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _by_column(heads: Sequence[str], cells: Cells) -> list[tuple[str, list[str]]]:
    return [(head, [row[index] for row in cells]) for index, head in enumerate(heads)]


def _fitted(
    heads: Sequence[str], cells: Cells, natural: Sequence[int], numeric: Collection[int], width: int
) -> list[int]:
    """Column widths for a terminal: numbers fold at blanks only, names get what is left."""
    from rich.cells import cell_len

    widths = list(natural)
    room = width - _GAP * (len(heads) - 1)
    for index, (head, column) in enumerate(_by_column(heads, cells)):
        if index in numeric and sum(widths) > room:
            widths[index] = max(cell_len(word) for text in (head, *column) for word in (text.split() or [" "]))
    names = [index for index in range(len(heads)) if index not in numeric]
    while names and sum(widths) > room:  # the widest name column gives way first
        widest = max(names, key=lambda index: widths[index])
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    return widths


def _screen_width() -> int | None:
    """The terminal's columns, or None where stdout is none: a file gets the same bytes everywhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
