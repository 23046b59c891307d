"""Scores and samples as pandas DataFrames, for people who go on in Python.

Every row has its run's columns beside it: run, model, model_fingerprint, benchmark, judge, judge_fingerprint, status,
created (datetime64[ns, UTC]), tags (a tuple), recipe, stage (of the model's lineage), seed, version, part (`limit`,
`sequential`, ...: why the run is no result of the whole benchmark; else ""). Texts are Python's, and of them what is
missing is None, of numbers NaN: isna() finds both. Loads pandas only when asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Column, Connection, Integer, Row, Select, select, type_coerce
from sqlalchemy.types import Float, Text

from zephyr_bench.store import rows
from zephyr_bench.store.exact_text import ExactText, unescape
from zephyr_bench.store.queries import WRITER, in_numbers, lineages_of, tags_of
from zephyr_bench.store.run_info import PARTS, part_of
from zephyr_bench.store.schema import runs, samples, scores

if TYPE_CHECKING:
    import pandas

SCORES = ("metric", "position", "value", "stderr", "n", "missing")  # position 0 is the headline
SAMPLES = ("metric", "question", "category", "turn", "rival", "replicate", "value", "reason")
RUN_COLUMNS = (
    *("run", "model", "model_fingerprint", "benchmark", "judge", "judge_fingerprint"),
    *("status", "created", "tags", "recipe", "stage", "seed", "version", "part"),
)
_OF_RUN = (
    *(runs.c.number, runs.c.id, runs.c.model, runs.c.model_fingerprint, runs.c.benchmark, runs.c.judge),
    *(runs.c.judge_fingerprint, runs.c.created, runs.c.seed, runs.c.version, *WRITER),
)
StatusOf: TypeAlias = Callable[[Row[Any]], str]


def scores_frame(
    connection: Connection, numbers: Sequence[int], status_of: StatusOf, *, metric: str | None
) -> pandas.DataFrame:
    """Of the runs of those numbers, in their order; of each headline first."""
    return _frame(connection, numbers, status_of, [scores.c[name] for name in SCORES], metric)


def samples_frame(
    connection: Connection, numbers: Sequence[int], status_of: StatusOf, *, metric: str | None
) -> pandas.DataFrame:
    """Of the runs of those numbers, in their order, and in order of arrival."""
    return _frame(connection, numbers, status_of, [samples.c[name] for name in SAMPLES], metric)


def _frame(
    connection: Connection,
    numbers: Sequence[int],
    status_of: StatusOf,
    columns: Sequence[Column[Any]],
    metric: str | None,
) -> pandas.DataFrame:
    import numpy as np
    import pandas as pd

    table = columns[0].table
    # texts as they are stored: a metric's name stands in a million rows, and is unescaped once
    plain = [type_coerce(column, Text) if isinstance(column.type, ExactText) else column for column in columns]
    query = select(table.c.run, *plain).order_by(table.c.run, table.c.position)
    if metric is not None:
        query = query.where(table.c.metric == metric)
    found: list[Row[Any]] = []
    for batch in rows.in_batches(numbers):
        found += connection.execute(query.where(in_numbers(table.c.run, batch))).all()
    of_run, *values = zip(*found, strict=True) if found else [()] * (1 + len(columns))
    places = {number: place for place, number in enumerate(numbers)}
    place = np.array([places[number] for number in of_run], dtype=np.intp)  # (rows,): of its run in `numbers`
    order = np.argsort(place, kind="stable")
    own = {column.name: _cells(column, cells)[order] for column, cells in zip(columns, values, strict=True)}
    about = {name: cells[place[order]] for name, cells in _about(connection, numbers, status_of).items()}
    first = ("run", "model", "benchmark", "judge", *own)
    whole = {**about, **own}
    # of texts pandas 3 would make Arrow's, which hold no lone surrogate
    series = {name: pd.Series(whole[name], dtype=whole[name].dtype) for name in dict.fromkeys((*first, *RUN_COLUMNS))}
    frame = pd.DataFrame(series)
    frame["created"] = pd.to_datetime(frame["created"], utc=True, format="ISO8601").astype("datetime64[ns, UTC]")
    return frame


def _cells(column: Column[Any], cells: Sequence[Any]) -> Any:
    import numpy as np

    if isinstance(column.type, Float):
        return np.array(cells, dtype=np.float64)  # None becomes NaN
    if isinstance(column.type, Integer):
        return np.array(cells, dtype=np.int64)
    return _objects([*map(_once(unescape), cells)])


def _once(change: Callable[[str], str]) -> Callable[[str | None], str | None]:
    known: dict[str | None, str | None] = {None: None}

    def changed(cell: str | None) -> str | None:
        if cell not in known:
            known[cell] = change(str(cell))
        return known[cell]

    return changed


def _objects(cells: Sequence[Any]) -> Any:
    """As an array of Python objects; a tuple is one of them."""
    import numpy as np

    array = np.empty(len(cells), dtype=object)
    for place, cell in enumerate(cells):
        array[place] = cell
    return array


def _about(connection: Connection, numbers: Sequence[int], status_of: StatusOf) -> dict[str, Any]:
    """The columns of RUN_COLUMNS, a place a run."""
    import numpy as np

    by_number: dict[int, Row[Any]] = {}
    tagged = tags_of(connection, numbers)
    parts: dict[int, str] = {}
    for batch in rows.in_batches(numbers):
        query: Select[Any] = select(*_OF_RUN).where(in_numbers(runs.c.number, batch))
        by_number.update((run.number, run) for run in connection.execute(query))
        told = select(runs.c.number, *(runs.c.protocol[name] for name in PARTS))
        for number, *values in connection.execute(told.where(in_numbers(runs.c.number, batch))):
            parts[number] = part_of(dict(zip(PARTS, values, strict=True)))
    chosen = [by_number[number] for number in numbers]
    lineages = lineages_of(connection, (run.model_fingerprint for run in chosen))
    columns = zip(*chosen, strict=True) if chosen else [()] * len(_OF_RUN)
    found = {column.name: _objects(cells) for column, cells in zip(_OF_RUN, columns, strict=True)}
    found["run"] = found["id"]
    found["status"] = _objects([status_of(run) for run in chosen])
    found["tags"] = _objects([tuple(tagged.get(number, ())) for number in numbers])
    found["part"] = _objects([parts[number] for number in numbers])
    for name in ("recipe", "stage"):
        found[name] = _objects([lineages[run.model_fingerprint].get(name) for run in chosen])
    found["seed"] = found["seed"].astype(np.int64)
    return {name: found[name] for name in RUN_COLUMNS}
