"""The order of a leaderboard: which column comes first, which model, which metric. Pure.

Also the records that machines get: one for each score, in that order, at full precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from zephyr_bench.records import Score
from zephyr_bench.reports.render import render_json, render_records
from zephyr_bench.reports.standings import Standing

_RIVALS_NAMED = 2  # more are counted
_KEYS = ("model", "benchmark", "metric", "value", "stderr", "n", "judge", "run", "published")
_KEYS_OF_SOME = ("references", "rivals", "rank_low", "rank_high")  # only where a run has such

Headlines = Mapping[str, str]  # benchmark -> metric


class Column(NamedTuple):
    """Figures of one column can be compared: one benchmark, graded alike."""

    benchmark: str
    judge: str | None
    rivals: tuple[str, ...] = ()
    references: str | None = None


def records(standings: Sequence[Standing], headlines: Headlines) -> list[dict[str, Any]]:
    """One record a score: benchmark by benchmark, judge by judge, best model and headline metric first.

    What the judge was shown, or the answers were compared with, stands only in records of a run that has such; the
    ranks that a model may have only beside the headline of a model that could be ranked among others.
    """
    return [
        {
            "model": standing.model,
            "benchmark": standing.benchmark,
            "metric": score.metric,
            "value": score.value,
            "stderr": score.stderr,
            "n": score.n or None if standing.published else score.n,
            "judge": standing.judge,
            "run": standing.run,
            "published": standing.published,
            **({"references": standing.references} if standing.references else {}),
            **({"rivals": list(standing.rivals)} if standing.rivals else {}),
            **(_ranks(standing) if score.metric == headline_of(column.benchmark, standings, headlines) else {}),
        }
        for column in columns_of(standings, headlines)
        for standing in ranked(standings, column, headlines)
        for score in standing.scores
    ]


def _ranks(standing: Standing) -> dict[str, int]:
    return {"rank_low": standing.rank.low, "rank_high": standing.rank.high} if standing.rank else {}


def render_standings(standings: Sequence[Standing], headlines: Headlines, format: str) -> str:
    """The records as json or csv text."""
    rows = records(standings, headlines)
    if format == "json":
        return render_json(rows)
    some = [key for key in _KEYS_OF_SOME if any(key in row for row in rows)]
    return render_records([{**dict.fromkeys(some), **row} for row in rows], (*_KEYS, *some), format)


def column_of(standing: Standing) -> Column:
    return Column(standing.benchmark, standing.judge, standing.rivals, standing.references)


def graded_how(column: Column, columns: Sequence[Column]) -> str:
    """What tells the column from others of its benchmark: ` by gpt-4, references gpt-4`; rivals always."""
    others = [other for other in columns if other.benchmark == column.benchmark]
    told = [f" against {rivals_told(column.rivals)}"] if column.rivals else []
    if len({other.judge for other in others}) > 1:
        told.append(f" by {column.judge}" if column.judge else " (judge not told)")
    if len({other.references for other in others}) > 1:
        told.append(f" references {column.references}" if column.references else " (references not told)")
    return ",".join(told)


def rivals_told(models: Sequence[str]) -> str:
    """Their names, or how many they are."""
    return ", ".join(models) if len(models) <= _RIVALS_NAMED else f"{len(models)} models"


def columns_of(standings: Sequence[Standing], headlines: Headlines) -> list[Column]:
    """Benchmarks in the order of `headlines`, others after them by name; judges by name, unnamed last.

    What was measured here comes before what only others published.
    """
    order = {name: index for index, name in enumerate(headlines)}
    ours = {standing.benchmark for standing in standings if not standing.published}

    def place(column: Column) -> tuple[Any, ...]:
        benchmark, judge, rivals, references = column
        rank = order.get(benchmark, len(order))
        told = (judge is None, judge or "", rivals, references is None, references or "")
        return benchmark not in ours, rank, benchmark, *told

    return sorted({column_of(standing) for standing in standings}, key=place)


def headline_of(benchmark: str, standings: Sequence[Standing], headlines: Headlines) -> str:
    """The caller's, or for a benchmark it doesn't know the first metric of a run: runs put it first."""
    if benchmark in headlines:
        return headlines[benchmark]
    scores = (score.metric for entry in standings if entry.benchmark == benchmark for score in entry.scores)
    return next(scores, "")


def ranked(standings: Sequence[Standing], column: Column, headlines: Headlines) -> list[Standing]:
    metric = headline_of(column[0], standings, headlines)
    group = [standing for standing in standings if column_of(standing) == column]
    return sorted(group, key=lambda s: (descending(s.score(metric)), s.model, s.source, s.run or ""))


def descending(score: Score | None) -> tuple[bool, float]:
    """Sorts high values first and missing ones last."""
    return (True, 0.0) if score is None or score.value is None else (False, -score.value)
