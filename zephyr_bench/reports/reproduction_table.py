"""Published figures beside ours, as text: what `zephyr-bench reproduce` prints. In: rows of reproduce.py. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from zephyr_bench.recipe import Recipe
from zephyr_bench.reports.render import MISSING, Notes, number, render_records, render_table
from zephyr_bench.reports.reproduce import Row, Verdict

if TYPE_CHECKING:
    from zephyr_bench.store import RunInfo


def render_reproduction(rows: Sequence[Row], recipe: Recipe, format: str) -> str:
    """As table, markdown, csv or json; machines get full precision."""
    if format in ("json", "csv"):
        records = [_record(recipe, row) for row in rows]
        return render_records(records, _COLUMNS, format)
    notes = Notes()
    cells = [list(_cells(row, notes)) for row in rows]
    heads = ["figure", "published", "ours", "difference", "90 % interval", "margin", "verdict"]
    below = [*_reading(rows), *notes.lines()]
    title = f"published figures that recipe {recipe.name} stands for"
    return render_table(heads, cells, format, numeric=(1, 2, 3, 4, 5), title=title, notes=below)


def _cells(row: Row, notes: Notes) -> Iterator[str]:
    figure, ours, test = row.published, row.ours, row.test
    source = f"{figure.source}, {figure.where}, {figure.url}" + (f": {figure.note}" if figure.note else "")
    yield f"{row.stage}: {figure.benchmark} {figure.metric}{notes.mark(source)}"
    if figure.stderr is not None:
        error = f" ±{figure.stderr:.2f}"
    else:
        assumed = ours.score.stderr if ours and test and test.published_stderr_assumed else None
        error = "" if assumed is None else f" ±{assumed:.2f} assumed"
    yield f"{number(figure.value)}{error} ({_judged(figure.judge, figure.year)})"
    if ours is None:
        yield MISSING
    else:
        error = "" if ours.score.stderr is None else f" ±{ours.score.stderr:.2f}"
        told = _judged(ours.run.judge, _year(ours.run))
        yield f"{number(ours.score.value)}{error} ({told}){''.join(map(notes.mark, row.remarks))}"
    difference = _difference(row)
    yield MISSING if difference is None else number(difference, signed=True)
    ends = (None, None) if test is None else (test.low, test.high)
    yield " to ".join(number(end, signed=True) for end in ends if end is not None) or MISSING
    yield MISSING if row.margin is None else f"{row.margin:g}"
    yield row.verdict.value + (notes.mark(row.why) if row.why else "")


def _judged(judge: str | None, year: int) -> str:
    return f"{judge}, {year}" if judge else str(year)


def _year(run: RunInfo) -> int:
    return int(run.created[:4])


def _difference(row: Row) -> float | None:
    """None where it would mean nothing."""
    return row.test.difference if row.test else None


def _reading(rows: Sequence[Row]) -> Iterator[str]:
    yield (
        "difference: ours minus the published figure; reproduced: its 90 % interval lies within the margin (two "
        "one-sided t-tests at 5 %)"
    )
    if any(row.test and row.test.published_stderr_assumed for row in rows):
        yield "assumed: no standard error was published; it is taken to be ours"
    counts = {verdict: sum(row.verdict is verdict for row in rows) for verdict in Verdict}
    yield ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)


_COLUMNS = (
    *("recipe", "stage", "model", "benchmark", "metric", "source", "where", "url", "year", "note"),
    *("published", "published_stderr", "published_stderr_assumed", "published_n", "published_judge"),
    *("run", "our_model", "ours", "stderr", "n", "judge", "our_year"),
    *("difference", "low", "high", "p_equivalent", "p_apart", "margin", "power"),
    *("questions_needed", "margin_needed", "verdict", "why", "remarks"),
)


def _record(recipe: Recipe, row: Row) -> dict[str, Any]:
    figure, ours, test = row.published, row.ours, row.test
    return {
        "recipe": recipe.name,
        "stage": row.stage,
        "model": figure.model,
        "benchmark": figure.benchmark,
        "metric": figure.metric,
        "source": figure.source,
        "where": figure.where,
        "url": figure.url,
        "year": figure.year,
        "note": figure.note,
        "published": figure.value,
        "published_stderr": figure.stderr,
        "published_stderr_assumed": bool(test and test.published_stderr_assumed),
        "published_n": figure.n,
        "published_judge": figure.judge,
        "run": ours and ours.run.id,
        "our_model": ours and ours.run.model,
        "ours": ours and ours.score.value,
        "stderr": ours and ours.score.stderr,
        "n": ours and ours.questions,
        "judge": ours and ours.run.judge,
        "our_year": ours and _year(ours.run),
        "difference": _difference(row),
        "low": test and test.low,
        "high": test and test.high,
        "p_equivalent": test and test.p_equivalent,
        "p_apart": test and test.p_apart,
        "margin": row.margin,
        "power": test and test.power,
        "questions_needed": row.questions_needed,
        "margin_needed": row.margin_needed,
        "verdict": row.verdict.value,
        "why": row.why,
        "remarks": list(row.remarks),
    }
