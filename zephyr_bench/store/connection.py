"""An open store: transactions that read or write, and driver errors as one sentence for a reader.

Knows URLs and transactions, no tables. Which database it is, only `_SCHEMES` and sqlite.py know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from zephyr_bench.errors import StoreError
from zephyr_bench.store import sqlite
from zephyr_bench.store.migrate import is_current, migrate

_SCHEMES = ("sqlite", "sqlite+pysqlite")


class Database:
    """Opens, makes or migrates the store at `url`. Raises StoreError for whatever keeps it from that.

    `timeout` is how many seconds to wait for another process's lock. May be used from several threads.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        parsed = _parse(url)
        sqlite.check_place(parsed)
        self.place = parsed.database or url
        self._timeout = timeout
        self._engine = sqlite.open_engine(parsed, timeout=timeout)
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
        with self._explained(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, committed at the end or not at all. Raises StoreError, IntegrityError."""
        with self._explained(), self._engine.connect() as connection, sqlite.writing(connection).begin():
            yield connection

    @staticmethod
    def add_new(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
        """Insert what isn't there yet; the first write of a key wins."""
        sqlite.add_new(connection, table, rows)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise sqlite.explain(error.orig, self.place, timeout=self._timeout) from error


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        example = "results.db" if ":" in url or not url else url
        shown = _shown(url)
        raise StoreError(f"store '{shown}': expected a URL; for a file, write sqlite:///{example}.") from None
    if parsed.drivername not in _SCHEMES:
        raise StoreError(
            f"store {_shown(url)}: unknown scheme '{parsed.drivername}', expected sqlite, as in sqlite:///results.db."
        )
    if parsed.host or parsed.username or parsed.port:
        raise StoreError(
            f"store {_shown(url)}: names a host, and SQLite has none; write three slashes before the file, "
            "as in sqlite:///results.db."
        )
    return parsed


def _shown(url: str) -> str:
    """Without its password."""
    return re.sub(r":(?!//).*@", ":***@", url, flags=re.DOTALL)
