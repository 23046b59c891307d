"""A dump into a store, which may hold results of its own: what is there stays, what is new is added.

Two steps: all rows go, checked, into temporary tables, while others read and write; then they are merged in one
transaction, which holds the store's lock for as long as the database takes to copy them. Runs are the same by id,
trainings by fingerprint, all else by its key; run numbers are the store's own. What the store knows less of than the
dump is completed: a model without a lineage, an imported answer without a text, a run that had not ended. A dump of an
older version is brought up in a store of its own first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    FromClause,
    MetaData,
    Select,
    Table,
    cast,
    create_engine,
    func,
    insert,
    not_,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import DropTable

from zephyr_bench.errors import StoreError
from zephyr_bench.store import kept, sqlite
from zephyr_bench.store.connection import Database
from zephyr_bench.store.contents import Batch, Layout, contents, number_of, references, stored_tables
from zephyr_bench.store.dump_file import Dump, batches
from zephyr_bench.store.exact_text import Text
from zephyr_bench.store.migrate import migration_config, revisions
from zephyr_bench.store.schema import REVISION, VERSION_TABLE
from zephyr_bench.store.schema import kept as kept_rows
from zephyr_bench.store.shapes import fits

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Loaded:
    """Of one table: how many of a dump's rows were new, and how many were there already."""

    added: int
    there: int


class Loading:
    """A dump on its way into a store: `stage`, for which nobody waits, then `merge`, each in a transaction."""

    def __init__(self, dump: Dump, database: Database) -> None:
        self._dump = dump
        self._database = database
        self._given: dict[str, int] = {}  # rows, by table

    def stage(self, connection: Connection) -> None:
        """Its rows into temporary tables of this connection. Raises StoreError."""
        _drop_staged(connection)  # of an earlier load that failed
        _staged().create_all(connection, checkfirst=False)
        tables = _by_name()
        self._given = dict.fromkeys(tables, 0)
        numbers: dict[str, set[int]] = {}  # table -> numbers in the dump
        with _of_this_revision(self._dump) as found:
            for layout, batch, line in found:
                table = _table(self._dump, tables, layout.table, layout.columns)
                rows = _checked(self._dump, table, layout.columns, batch, line)
                self._given[table.name] += len(rows)
                for name, target in references(table).items():
                    if any(row[name] not in numbers.get(target, ()) for row in rows):
                        raise _wrong(self._dump, f"a row of {table.name} refers to one that it lacks")
                if (own := number_of(table)) is not None:
                    numbers.setdefault(table.name, set()).update(row[own.name] for row in rows)
                if table.name == "runs":
                    for row in rows:  # nobody writes it here
                        row["status"] = "interrupted" if row["status"] == "running" else row["status"]
                if rows:
                    try:
                        connection.execute(insert(_staged_of(table)), rows)
                    except IntegrityError:
                        raise _wrong(self._dump, f"two rows of {table.name} have one key") from None

    def merge(self, connection: Connection) -> dict[str, Loaded]:
        """What was staged, by table. Raises StoreError; then the caller's transaction must be undone."""
        scored = _scored(connection, _by_name())
        added: dict[str, int] = {}
        try:
            for table in stored_tables():
                added[table.name] = self._database.add_selected(connection, table, *_selected(table))
                _complete(connection, table)
        except IntegrityError:
            raise _wrong(self._dump, "a row refers to one that it lacks") from None
        now_scored = _scored(connection, _by_name())
        for number, rows_before in scored.items():
            if now_scored[number] != rows_before:
                kept.forget(connection, number)
        _drop_staged(connection)
        return {name: Loaded(added[name], self._given[name] - added[name]) for name in added}


def check_revision(dump: Dump) -> None:
    """Raises StoreError for a newer version's."""
    if dump.revision not in revisions():
        raise StoreError(
            f"dump {dump.path}: written by a newer zephyr-bench ({dump.version}, revision {dump.revision}; this one "
            f"knows {REVISION} and earlier); upgrade with pip install --upgrade zephyr-bench."
        )


@contextmanager
def _of_this_revision(dump: Dump) -> Iterator[Iterable[tuple[Layout, Sequence[Sequence[Any]], int | None]]]:
    """With the line of the file where a batch's first row stands."""
    check_revision(dump)
    if dump.revision == REVISION:
        yield _with_lines(batches(dump))
        return
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'older.db'}"
        _restore(dump, url)
        database = Database(url, timeout=1.0)  # opening brings it up
        try:
            with database.read() as connection:
                yield ((layout, batch, None) for layout, batch in contents(connection))
        finally:
            database.close()


def _with_lines(found: Iterable[Batch]) -> Iterator[tuple[Layout, Sequence[Sequence[Any]], int]]:
    line, last = 1, None  # the head's
    for layout, batch in found:
        line += layout is not last
        last = layout
        yield layout, batch, line + 1
        line += len(batch)


def _restore(dump: Dump, url: str) -> None:
    """A store of the dump's own revision."""
    from alembic import command

    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            command.upgrade(migration_config(connection), dump.revision)
            found = MetaData()
            found.reflect(connection)
            tables = {table.name: table for table in found.sorted_tables if table.name != VERSION_TABLE}
            for table in tables.values():
                for column in table.columns:
                    if isinstance(column.type, JSON):
                        column.type = JSON(none_as_null=bool(column.nullable))
            for layout, rows, line in _with_lines(batches(dump)):
                table = _table(dump, tables, layout.table, layout.columns)
                checked = _checked(dump, table, layout.columns, rows, line)
                sqlite.add_new(connection, table, checked)
    finally:
        engine.dispose()


def _scored(connection: Connection, tables: dict[str, Table]) -> dict[int, tuple[int, ...]]:
    """By number, of runs that something derived is kept of: how many rows there are that it was derived from."""
    found: dict[int, tuple[int, ...]] = dict.fromkeys(connection.scalars(select(kept_rows.c.run).distinct()), ())
    for table in (tables["samples"], tables["scores"]):
        query = select(table.c.run, func.count()).where(table.c.run.in_(select(kept_rows.c.run))).group_by(table.c.run)
        counts: dict[int, int] = dict(connection.execute(query).tuples().all())
        found = {number: (*before, counts.get(number, 0)) for number, before in found.items()}
    return found


def _by_name() -> dict[str, Table]:
    return {table.name: table for table in stored_tables()}


@cache
def _staged() -> MetaData:
    """A temporary table for each, without what holds between rows; keys of one column are what the merge looks up."""
    found = MetaData()
    for table in stored_tables():
        lone = len(table.primary_key.columns) == 1
        columns = [
            Column(column.name, column.type, primary_key=lone and column.primary_key, autoincrement=False)
            for column in table.columns
        ]
        Table(f"staged_{table.name}", found, *columns, prefixes=["TEMPORARY"])
    return found


def _staged_of(table: Table) -> Table:
    return _staged().tables[f"staged_{table.name}"]


def _drop_staged(connection: Connection) -> None:
    for staged in _staged().tables.values():
        connection.execute(DropTable(staged, if_exists=True))


def _selected(table: Table) -> tuple[list[str], Select[Any]]:
    """(columns, the staged rows of a table with the numbers that the store has given)."""
    staged, own = _staged_of(table), number_of(table)
    source: FromClause = staged
    cells: dict[str, ColumnElement[Any]] = {c.name: staged.c[c.name] for c in table.columns if c is not own}
    for name, target in references(table).items():
        there, given = _by_name()[target], _staged_of(_by_name()[target])
        number, unique = number_of(there), _unique(there)
        assert number is not None
        source = source.join(given, given.c[number.name] == staged.c[name])
        source = source.join(there, there.c[unique] == given.c[unique])
        cells[name] = number
    # WHERE: without one SQLite takes ON CONFLICT for the condition of a join
    query = select(*cells.values()).select_from(source).where(true())
    return list(cells), query if own is None else query.order_by(staged.c[own.name])


def _unique(table: Table) -> str:
    (unique,) = (column.name for column in table.columns if column.unique)
    return unique


_COMPLETED = {
    "models": ("fingerprint", ("lineage",)),
    "answers": ("key", ("text", "finish_reason", "prompt_tokens", "completion_tokens", "origin")),
    "runs": ("id", ("status", "finished")),
}


def _complete(connection: Connection, table: Table) -> None:
    """What the store knows less of."""
    if table.name not in _COMPLETED:
        return
    staged, (key, columns) = _staged_of(table), _COMPLETED[table.name]

    def lacks(one: Table) -> ColumnElement[bool]:
        if table.name == "models":
            return cast(one.c.lineage, Text) == "{}"
        return one.c[{"answers": "text", "runs": "finished"}[table.name]].is_(None)

    change = update(table).where(table.c[key] == staged.c[key], lacks(table), not_(lacks(staged)))
    connection.execute(change.values({column: staged.c[column] for column in columns}))


def _table(dump: Dump, tables: dict[str, Table], name: str, columns: Sequence[str]) -> Table:
    if name not in tables or sorted(columns) != sorted(column.name for column in tables[name].columns):
        raise _wrong(dump, f"no store of revision {dump.revision} has such a table as {name[:100]!a}")
    return tables[name]


def _checked(dump: Dump, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]], line: int | None) -> Rows:
    """Rows by column, each value as the column has it. `line`: of the first; None where the file has no such line."""
    tests = [(column, fits(table.c[column]), bool(table.c[column].nullable)) for column in columns]
    found = []
    for place, row in enumerate(rows):
        for (column, is_fit, may_lack), value in zip(tests, row, strict=True):
            if not (may_lack if value is None else is_fit(value)):
                where = "" if line is None else f"line {line + place}: "
                raise _wrong(dump, f"{where}{table.name}.{column} holds a value that no store has there")
        found.append(dict(zip(columns, row, strict=True)))
    return found


def _wrong(dump: Dump, why: str) -> StoreError:
    return StoreError(f"dump {dump.path}: {why}; nothing was loaded: have it dumped again.")
