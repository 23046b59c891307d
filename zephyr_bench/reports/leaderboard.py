"""The leaderboard: models ranked by the runs that count, every number with its standard error.

Standings (standings.py) come in; records for machines and tables for people go out. A run that isn't
complete has no row: it is named below the table. Published figures are marked and never mixed in unasked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.escaping import visible
from zephyr_bench.reports.counted import ODD_ANSWERS, value_told
from zephyr_bench.reports.published import Published, load_published
from zephyr_bench.reports.rank_ranges import NOTE as RANKED
from zephyr_bench.reports.rank_ranges import with_rank_ranges
from zephyr_bench.reports.ranking import (
    Column,
    Headlines,
    column_of,
    columns_of,
    descending,
    graded_how,
    headline_of,
    ranked,
    render_standings,
    rivals_told,
)
from zephyr_bench.reports.render import MISSING, Notes, render_table
from zephyr_bench.reports.standings import (
    Standing,
    checkpoint_labels,
    from_published,
    left_out,
    measured,
    runs_that_count,
    with_the_only_references,
)
from zephyr_bench.reports.store_length_control import METRIC as STORE_LENGTH_CONTROLLED
from zephyr_bench.reports.store_length_control import NOTE, with_store_length_control

if TYPE_CHECKING:
    from zephyr_bench.store import RunInfo, Store

# what one benchmark's figures may differ in, and how a column tells it
_WAYS: Mapping[str, Callable[[Column], str]] = {
    "judged by": lambda column: column.judge or "",
    "against": lambda column: rivals_told(column.rivals),
    "references": lambda column: column.references or "",
}


def render_leaderboard(
    store: Store,
    headlines: Headlines,
    *,
    format: str,
    benchmark: str | None = None,
    published: bool = False,
    include: Sequence[Path] = (),
) -> str:
    """The leaderboard as table, markdown, csv or json text; the same store gives the same bytes.

    `headlines` maps a benchmark to its headline metric and gives the order of columns. Without
    `benchmark` people see a headline column each; machines always get every metric. Raises UserError
    for a benchmark that nobody knows, and for people where there is nothing to show.
    """
    every_run = store.runs()
    runs = [run for run in every_run if benchmark in (None, run.benchmark)]
    # reading the sources takes longer than a small leaderboard
    known = benchmark is None or benchmark in headlines or bool(runs)
    sources = load_published(include) if published or not known else []
    if benchmark is not None and not known:
        _check_known(benchmark, headlines, every_run, sources)
    scores = store.scores_of([run.id for run in runs_that_count(runs)])
    found = measured(runs, scores, checkpoint_labels(every_run))
    if published:
        found += [entry for entry in from_published(sources) if benchmark in (None, entry.benchmark)]
    found = with_rank_ranges(store, runs, with_the_only_references(found), headlines)
    if benchmark is not None or format in ("json", "csv"):
        found = with_store_length_control(store, found)
    if format in ("json", "csv"):
        return render_standings(found, headlines, format)
    unfinished = [_unfinished(run) for run in left_out(runs)]
    if not found:
        raise UserError(_nothing(benchmark, runs, unfinished))
    if benchmark is None:
        return headline_table(found, headlines, format, more_notes=unfinished)
    return metric_table(found, headlines, format, more_notes=unfinished)


def headline_table(
    standings: Sequence[Standing],
    headlines: Headlines,
    format: str,
    *,
    more_notes: Sequence[str] = (),
) -> str:
    """A row a model, a column a benchmark's headline metric (and judge, where several graded).

    Sorted by the first column, then the next, then the name; who has no number there comes last. What was
    measured here stands above what others published.
    """
    notes = Notes()
    rows: dict[tuple[str, str, str], dict[Column, Standing]] = {}  # by name, note and published source
    for standing in standings:
        if standing.score(headline_of(standing.benchmark, standings, headlines)) is not None:
            name = (standing.model, standing.model_note, standing.source)
            rows.setdefault(name, {})[column_of(standing)] = standing
    columns = [c for c in columns_of(standings, headlines) if any(c in row for row in rows.values())]
    metrics = {column: headline_of(column.benchmark, standings, headlines) for column in columns}

    def place(key: tuple[str, str, str]) -> tuple[Any, ...]:
        scores = [rows[key][c].score(metrics[c]) if c in rows[key] else None for c in columns]
        return (key[2] != "", *(descending(score) for score in scores), key)

    cells = []
    for key in sorted(rows, key=place):
        entries = [rows[key].get(column) for column in columns]
        label = _name(next(entry for entry in entries if entry is not None), notes)
        numbers = [_cell(e, metrics[c], notes) for c, e in zip(columns, entries, strict=True)]
        cells.append([label, *numbers])
    heads = [f"{column.benchmark} {metrics[column]}{graded_how(column, columns)}" for column in columns]
    below = [*_key_to_marks(standings), *notes.lines(), *_only_by_metric(standings, rows), *more_notes]
    numeric = range(1, len(heads) + 1)
    return render_table(["model", *heads], cells, format, numeric=numeric, notes=below)


def metric_table(
    standings: Sequence[Standing],
    headlines: Headlines,
    format: str,
    *,
    more_notes: Sequence[str] = (),
) -> str:
    """One benchmark: a row a model, a column a metric; sorted by the headline metric.

    What was graded in another way (judge, rivals, references) stands in a block of its own.
    """
    notes = Notes()
    columns = columns_of(standings, headlines)
    benchmark = columns[0].benchmark
    in_order = [(column, standing) for column in columns for standing in ranked(standings, column, headlines)]
    # whose run has the most metrics gives their order, so that it doesn't hang on who is first
    fullest = sorted((tuple(s.metric for s in standing.scores) for _, standing in in_order), key=lambda m: (-len(m), m))
    every = (metric for own in fullest for metric in own)
    metrics = [metric for metric in dict.fromkeys(every) if metric not in ODD_ANSWERS]  # remarks say those
    headline = headline_of(benchmark, standings, headlines)
    metrics.sort(key=lambda metric: metric != headline)
    ways = {how: {tell(column) for column in columns} for how, tell in _WAYS.items()}
    ways["references"] -= {""} if len(ways["references"]) == 2 else set()  # one set, and a run that tells none
    apart = [how for how, told in ways.items() if len(told) > 1]
    with_ranks = any(standing.rank for standing in standings)
    cells = [
        [
            _name(standing, notes) + "".join(map(notes.mark, standing.remarks)),
            *(_WAYS[how](column) or MISSING for how in apart),
            *([str(standing.rank or MISSING)] if with_ranks else []),
            *(_number(standing, metric, notes) for metric in metrics),
        ]
        for column, standing in in_order
    ]
    heads = ["model", *apart, *(["rank"] if with_ranks else []), *metrics]
    alike = [f", {how} {next(iter(told))}" for how, told in ways.items() if how not in apart and told != {""}]
    title = benchmark + "".join(alike)
    told = [NOTE] if STORE_LENGTH_CONTROLLED in metrics else []
    below = [*_key_to_marks(standings), *notes.lines(), *told, *more_notes]
    numeric = range(1 + len(apart), len(heads))
    return render_table(heads, cells, format, numeric=numeric, title=title, notes=below)


def _name(standing: Standing, notes: Notes) -> str:
    name = f"{standing.model} ({standing.model_note})" if standing.model_note else standing.model
    return f"{name} †{notes.mark(standing.source)}" if standing.published else name


def _cell(standing: Standing | None, metric: str, notes: Notes) -> str:
    """A number with all that is to be known of it, where its row holds other standings, too."""
    text = _number(standing, metric, notes)
    if standing is None or text == MISSING:
        return text
    return text + (f" ({standing.rank})" if standing.rank else "") + "".join(map(notes.mark, standing.remarks))


def _number(standing: Standing | None, metric: str, notes: Notes) -> str:
    score = standing.score(metric) if standing else None
    if standing is None or score is None:
        return MISSING
    text = value_told(metric, score.value, score.stderr)
    if score.missing:
        text += notes.mark(f"no score for {score.missing} of {score.n + score.missing}; left out of the mean")
    for noted, remark in standing.figure_notes:
        if noted == metric:
            text += notes.mark(remark)
    return text


def _key_to_marks(standings: Sequence[Standing]) -> list[str]:
    lines = []
    if any(score.stderr is not None for standing in standings for score in standing.scores):
        lines.append("± standard error")
    if any(standing.rank for standing in standings):
        lines.append(RANKED)
    if any(standing.published for standing in standings):
        lines.append("† published by others, not measured here")
    return lines


def _only_by_metric(standings: Sequence[Standing], shown: Mapping[tuple[str, str, str], Any]) -> list[str]:
    """Names benchmarks with figures that this table has no column for."""
    columns = {column for row in shown.values() for column in row}
    hidden = {s.benchmark for s in standings if s.scores and column_of(s) not in columns}
    return [f"more figures with --benchmark {name}" for name in sorted(hidden)]


def _unfinished(run: RunInfo) -> str:
    """A line for a run that is left out."""
    states = {"running": "is still running or was killed", "failed": "failed"}
    state = states.get(run.status, f"is {run.status}")
    what = f"run {run.id} of {visible(run.model)} on {run.benchmark}"
    return f"left out: {what} {state}; the same command again finishes it"


def _check_known(benchmark: str, headlines: Headlines, runs: Sequence[RunInfo], sources: Sequence[Published]) -> None:
    printed = {table.benchmark for source in sources for table in source.tables}
    known = {*headlines, *(run.benchmark for run in runs), *printed}
    if benchmark not in known:
        raise UserError(f"unknown benchmark '{benchmark}'.{did_you_mean(benchmark, known)}")


def _nothing(benchmark: str | None, runs: Sequence[RunInfo], unfinished: Sequence[str]) -> str:
    what = f" of {benchmark}" if benchmark else ""
    if runs:
        return f"the store holds no complete run{what}:" + "".join(f"\n  - {line}" for line in unfinished)
    return (
        f"the store holds no run{what} yet: make one with `zephyr-bench mtbench --model MODEL` (alpaca-eval, "
        f"open-llm) or `zephyr-bench train-and-eval --recipe RECIPE`; --published shows others' figures."
    )
