"""The curve of a training: each benchmark's headline score against the step, as a picture and as CSV.

In: points. Out: two files. matplotlib comes with the extra `plots`, and is imported when a picture is drawn.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zephyr_bench.written_file import write_bytes, write_text

_NORMAL_95 = 1.96  # standard errors on either side
_COLUMNS = 3  # panels side by side at most
_WIDTH, _HEIGHT = 4.2, 3.2  # of a panel, in inches
_INK, _GREY = "#1f4e79", "#8a8a8a"


@dataclass(frozen=True)
class Point:
    """A headline score of the model at one step; step 0 is the model that the stage started from."""

    benchmark: str
    metric: str
    step: int
    value: float | None  # on the benchmark's own scale
    stderr: float | None
    n: int
    model: str
    run: str


def missing_plots() -> Iterator[str]:
    """What drawing lacks here."""
    if find_spec("matplotlib") is None:
        yield "matplotlib, for the curve of evaluate_every: run `pip install 'zephyr-bench[plots]'`"


def write_curve(points: Sequence[Point], place: Path, *, title: str) -> None:
    """PLACE.csv and PLACE.png, each whole or not at all. Raises UserError where they can't be written."""
    write_text(place.with_name(f"{place.name}.csv"), as_csv(points))
    write_bytes(place.with_name(f"{place.name}.png"), drawn(points, title=title))


def as_csv(points: Sequence[Point]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Point)])
    writer.writerows(astuple(point) for point in points)
    return text.getvalue()


def drawn(points: Sequence[Point], *, title: str) -> bytes:
    """A PNG with a panel for each benchmark, in the order of the points."""
    from matplotlib.figure import Figure

    known = [point for point in points if point.value is not None]
    names = list(dict.fromkeys(point.benchmark for point in points))
    columns = min(_COLUMNS, max(1, len(names)))
    rows = -(-max(1, len(names)) // columns)
    figure = Figure(figsize=(columns * _WIDTH, rows * _HEIGHT + 0.5), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=12)
    before = "; dotted: before training" if any(point.step == 0 for point in known) else ""
    figure.supxlabel(f"step\nbars: 95 % (1.96 standard errors){before}", fontsize=9)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, name in zip(panels, names, strict=False):
        _panel(panel, [point for point in known if point.benchmark == name], name)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def _panel(panel: Any, points: Sequence[Point], name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    panel.set_title(name, fontsize=10)
    panel.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    panel.grid(axis="y", alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    if not points:
        panel.text(0.5, 0.5, "no score yet", ha="center", va="center", transform=panel.transAxes, color=_GREY)
        return
    panel.set_ylabel(points[0].metric, fontsize=9)
    steps = [point.step for point in points]
    values = [point.value for point in points]
    bars = [_NORMAL_95 * (point.stderr or 0.0) for point in points]
    panel.errorbar(steps, values, yerr=bars, color=_INK, marker="o", markersize=4, capsize=3, linewidth=1.5)
    if points[0].step == 0:
        panel.axhline(points[0].value, color=_GREY, linestyle=":", linewidth=1)
