"""An open store: transactions that read or write, and driver errors as one sentence for a reader.

Knows URLs and transactions, no tables. Which database it is, only `_DIALECTS` and their modules know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from sqlalchemy import Connection, Engine, Insert, Select, Table
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from zephyr_bench.errors import StoreError
from zephyr_bench.store import postgresql, sqlite
from zephyr_bench.store.migrate import is_current, migrate


class Dialect(Protocol):
    """What a module such as sqlite.py does for its database."""

    def place(self, url: URL) -> str:
        """Where the store is, as messages say it: without a password."""

    def files(self, url: URL) -> tuple[Path, ...]:
        """Those that are the store, which may not be there yet; none where it is a server's."""

    def check_place(self, url: URL) -> None:
        """Raises StoreError where it is certain that no store can be."""

    def open_engine(self, url: URL, *, timeout: float) -> Engine: ...

    def reading(self, connection: Connection) -> Connection:
        """Whose next transaction sees one state of the store."""

    def writing(self, connection: Connection, wait: float | None = None) -> Connection:
        """Whose next transaction begins by taking the store's lock, and waits for it `wait` seconds, else `timeout`."""

    def add_new(self, connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None: ...

    def insert_new(self, table: Table) -> Insert:
        """That leaves out what is there."""

    def explain(self, error: BaseException | None, place: str, *, timeout: float) -> StoreError: ...


_DIALECTS: dict[str, Dialect] = {
    "sqlite": sqlite,
    "sqlite+pysqlite": sqlite,
    "postgresql": postgresql,
    "postgresql+psycopg": postgresql,
}


class Database:
    """Opens, makes or migrates the store at `url`. Raises StoreError for whatever keeps it from that.

    `timeout` is how many seconds to wait for another process's lock. May be used from several threads.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        parsed = _parse(url)
        self._dialect = _DIALECTS[parsed.drivername]
        self._dialect.check_place(parsed)
        self.place = self._dialect.place(parsed)
        self.files = self._dialect.files(parsed)
        self._timeout = timeout
        self._engine = self._dialect.open_engine(parsed, timeout=timeout)
        try:
            with self.read() as connection:
                current = is_current(connection)
            if not current:
                with self.write() as connection:
                    migrate(connection, self.place)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One view of the store that no writer changes. Raises StoreError."""
        with self._explained(), self._engine.connect() as connection, self._dialect.reading(connection).begin():
            yield connection

    @contextmanager
    def write(self, *, wait: float | None = None) -> Iterator[Connection]:
        """One transaction, committed at the end or not at all. Raises StoreError, IntegrityError.

        `wait` is how many seconds to wait for the lock, where that isn't the store's `timeout`.
        """
        with self._explained(), self._engine.connect() as connection, self._dialect.writing(connection, wait).begin():
            yield connection

    @contextmanager
    def write_prepared(self, prepare: Callable[[Connection], None]) -> Iterator[Connection]:
        """As `write`, after `prepare` has filled temporary tables of the same connection, for which nobody waits."""
        with self._explained(), self._engine.connect() as connection:
            with connection.begin():
                prepare(connection)
            with self._dialect.writing(connection, None).begin():
                yield connection

    def add_new(self, connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
        """Insert what isn't there yet; the first write of a key wins."""
        self._dialect.add_new(connection, table, rows)

    def add_selected(self, connection: Connection, table: Table, columns: Sequence[str], query: Select[Any]) -> int:
        """Insert those rows of a query that aren't there yet. How many they were."""
        insert = self._dialect.insert_new(table).from_select(list(columns), query)
        return connection.execute(insert, execution_options={"preserve_rowcount": True}).rowcount

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise self._dialect.explain(error.orig, self.place, timeout=self._timeout) from error


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        example = "results.db" if ":" in url or not url else url
        shown = _shown(url)
        raise StoreError(f"store '{shown}': expected a URL; for a file, write sqlite:///{example}.") from None
    if parsed.drivername not in _DIALECTS:
        raise StoreError(
            f"store {_shown(url)}: unknown scheme '{parsed.drivername}', expected sqlite, as in "
            "sqlite:///results.db, or postgresql+psycopg, as in postgresql+psycopg://user@host/database."
        )
    if _DIALECTS[parsed.drivername] is sqlite and (parsed.host or parsed.username or parsed.port):
        raise StoreError(
            f"store {_shown(url)}: names a host, and SQLite has none; write three slashes before the file, "
            "as in sqlite:///results.db."
        )
    return parsed


def files(url: str) -> tuple[Path, ...]:
    """Those of a store in SQLite, the store itself first; none where it is elsewhere, or the URL is wrong."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return ()
    dialect = _DIALECTS.get(parsed.drivername)
    return dialect.files(parsed) if dialect else ()


def shown(url: str) -> str:
    """A store's URL for people: without its password."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return _shown(url)
    return postgresql.place(parsed) if _DIALECTS.get(parsed.drivername) is postgresql else _shown(url)


def _shown(url: str) -> str:
    without = re.sub(r":(?!//).*@", ":***@", url, flags=re.DOTALL)
    return re.sub(r"(?<=[?&])([^=&]*)=[^&]*", _masked, without)


def _masked(found: re.Match[str]) -> str:
    return f"{found[1]}=***" if postgresql.is_secret(unquote(found[1])) else found[0]
