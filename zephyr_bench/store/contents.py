"""All that a store holds, table by table, in batches and in one order; nothing is held whole.

Values are as the columns store them (texts with their DLE escapes). What counts rows of one database only (a run's
number) is counted from 1 again, so that equal stores have equal contents in whichever database.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Column, Connection, Float, Integer, LargeBinary, MetaData, Table, select

from zephyr_bench.store.exact_text import ExactText, Text
from zephyr_bench.store.schema import kept, metadata

_ROWS = 250  # of a batch: answers may be long
_CACHES = frozenset({kept.name})  # made again from the rest


@dataclass(frozen=True)
class Layout:
    """A table's columns as a dump tells them."""

    table: str
    columns: tuple[str, ...]
    floats: tuple[int, ...]  # positions of columns that may hold an infinity
    binaries: tuple[int, ...]


Batch = tuple[Layout, list[tuple[Any, ...]]]


@cache
def stored_tables() -> tuple[Table, ...]:
    """As the schema's, parents first, but with texts as they are stored."""
    plain = MetaData()
    for table in metadata.sorted_tables:
        if table.name not in _CACHES:
            for column in table.to_metadata(plain).columns:
                if isinstance(column.type, ExactText):
                    column.type = Text
    return tuple(plain.sorted_tables)


def layout(table: Table) -> Layout:
    def of(kind: type) -> tuple[int, ...]:
        return tuple(at for at, column in enumerate(table.columns) if isinstance(column.type, kind))

    return Layout(table.name, tuple(column.name for column in table.columns), of(Float), of(LargeBinary))


def contents(connection: Connection) -> Iterator[Batch]:
    """Every table at least once, each in the order of its primary key."""
    numbers: dict[str, dict[int, int]] = {}  # table -> number there -> number in the order told
    for table in stored_tables():
        told, own = layout(table), number_of(table)
        changed = {at: numbers[target] for at, target in _references(table).items()}
        if own is not None:
            changed[told.columns.index(own.name)] = numbers.setdefault(table.name, {})
        query = select(table).order_by(*table.primary_key).execution_options(yield_per=_ROWS)
        found = connection.execute(query)
        yield told, []
        for part in found.partitions(_ROWS):
            if own is not None:
                known = numbers[table.name]
                at = told.columns.index(own.name)
                known.update((row[at], place) for place, row in enumerate(part, start=len(known) + 1))
            yield told, [_renumbered(row, changed) for row in part] if changed else [tuple(row) for row in part]


def number_of(table: Table) -> Column[Any] | None:
    """The column that only counts rows; such a table has a unique one beside it that is the same in every store."""
    first, *more = table.primary_key.columns
    return first if not more and isinstance(first.type, Integer) and not first.foreign_keys else None


def references(table: Table) -> dict[str, str]:
    """Column -> the table whose rows it counts."""
    keys = [key for column in table.columns for key in column.foreign_keys]
    return {key.parent.name: key.column.table.name for key in keys if key.column is number_of(key.column.table)}


def _references(table: Table) -> dict[int, str]:
    at = {column.name: position for position, column in enumerate(table.columns)}
    return {at[name]: target for name, target in references(table).items()}


def _renumbered(row: Any, changed: dict[int, dict[int, int]]) -> tuple[Any, ...]:
    values = list(row)
    for at, numbers in changed.items():
        values[at] = numbers[values[at]]
    return tuple(values)
