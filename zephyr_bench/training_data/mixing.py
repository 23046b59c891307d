"""Rows of a recipe's source as they lie there: JSON lines, parquet or a hub data set; the first ones, or a share.

In: a DataSource. Out: objects that nothing has checked, each with its place; a line that holds none is a UserError
in its row's stead, so that who reads on can tell of all of them. Raises UserError where there is no such source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from zephyr_bench.errors import UserError, first_line
from zephyr_bench.recipe import DataSource, Recipe
from zephyr_bench.yaml_file import object_in


@dataclass(frozen=True)
class RawRow:
    number: int  # in its source, from 1
    place: str
    content: dict[str, Any] | UserError


def where(source: DataSource, recipe: Recipe) -> str:
    """A source, for a message."""
    return str(recipe.resolve(source.file)) if source.file else source.where


def rows_of(source: DataSource, *, recipe: Recipe) -> Iterator[RawRow]:
    """The first `limit` rows, in their order; of a `weight` below 1 that share of them, shuffled by the recipe's seed.

    The shuffle is numpy's, and the share is rounded down: the rows that alignment-handbook's `get_dataset` takes
    (src/alignment/data.py, 2025: `ds.shuffle(seed).select(range(int(len(ds) * weight)))`).
    """
    rows = islice(_all_rows(source, recipe), source.limit)
    if source.weight == 1:
        yield from rows
        return
    import numpy as np

    known = list(rows)
    share = int(len(known) * source.weight)
    if known and not share:
        raise UserError(
            f"{where(source, recipe)}: weight {source.weight} of its {len(known)} rows is none; raise weight."
        )
    yield from (known[place] for place in np.random.default_rng(recipe.seed).permutation(len(known))[:share])


def _all_rows(source: DataSource, recipe: Recipe) -> Iterator[RawRow]:
    """Raises UserError, after the last of them, where the recipe declares another number."""
    count = 0
    for count, row in enumerate(_rows_there(source, recipe), start=1):  # noqa: B007 told below
        yield row
    if source.rows not in (None, count):
        mend = "name the revision that had so many, or set rows to what there is" if source.hub else "set rows to that"
        raise UserError(
            f"{where(source, recipe)}: holds {count} rows, and the recipe declares {source.rows}, so it was written "
            f"for other data; {mend}."
        )


def _rows_there(source: DataSource, recipe: Recipe) -> Iterator[RawRow]:
    if source.hub is not None:
        return _hub_rows(source.hub, source)
    assert source.file is not None
    path = recipe.resolve(source.file)
    return _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path)


def _json_rows(path: Path) -> Iterator[RawRow]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}.") from None
    with file:
        lines = (line for chunk in file for line in chunk.splitlines())
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield RawRow(number, f"{path} line {number}", _object_or_error(line, path, number))


def _object_or_error(line: bytes, path: Path, number: int) -> dict[str, Any] | UserError:
    try:
        return object_in(line, path, number)
    except UserError as error:
        return error


def _parquet_rows(path: Path) -> Iterator[RawRow]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: can't be read as parquet: {str(error).splitlines()[0]}.") from None
    with file:
        rows = (row for batch in file.iter_batches() for row in batch.to_pylist())
        number = 0
        try:
            for number, row in enumerate(rows, start=1):
                yield RawRow(number, f"{path} row {number}", row)
        except (OSError, pyarrow.ArrowException) as error:
            raise UserError(f"{path} row {number + 1}: can't be read: {first_line(error)}") from None


def _hub_rows(name: str, source: DataSource) -> Iterator[RawRow]:
    import datasets

    try:
        loaded = datasets.load_dataset(name, source.config, split=source.split, revision=source.revision)
    except (OSError, ValueError, RuntimeError) as error:  # what datasets and the hub's client raise
        config = f", configuration {source.config}" if source.config else ""
        revision = f", revision {source.revision}" if source.revision else ""
        raise UserError(
            f"data set {name}{revision}{config}, split {source.split}, can't be loaded from the hub: "
            f"{first_line(error)}"
        ) from None
    for number, row in enumerate(loaded, start=1):
        yield RawRow(number, f"{source.where} row {number}", row)
