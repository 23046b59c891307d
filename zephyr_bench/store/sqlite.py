"""All that is SQLite's own: pragmas, how a transaction begins, and what its error codes mean to a reader.

WAL with synchronous=NORMAL: a commit survives kill -9 of any process; a power cut may take the last
few commits, never the file. A sibling of postgresql.py, with the same functions.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.engine import URL

from zephyr_bench.errors import StoreError
from zephyr_bench.store.plain_json import to_json
from zephyr_bench.store.schema import VERSION_TABLE

_WRITING = "zephyr_bench_writing"  # execution option of a connection that is going to write
_WAIT = "zephyr_bench_wait"  # likewise: seconds to wait for the lock; None: as long as the store does


def place(url: URL) -> str:
    """The file."""
    return url.database or str(url)


def files(url: URL) -> tuple[Path, ...]:
    """The file with those that SQLite keeps beside it; none where the store is in memory."""
    if not url.database or url.database == ":memory:":
        return ()
    name = url.database
    if name.startswith("file:"):
        name = unquote(urlsplit(name).path)
    return tuple(Path(f"{name}{end}") for end in ("", "-wal", "-shm", "-journal"))


def open_engine(url: URL, *, timeout: float) -> Engine:
    """An engine whose connections wait `timeout` seconds for a lock. Touches no file."""
    engine = create_engine(url, connect_args={"timeout": timeout}, json_serializer=to_json)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions of its own, too late
        _use_wal(connection, timeout=timeout)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # a reader that turns writer in mid-transaction fails at once where it should wait
        options = connection.get_execution_options()
        wait = options.get(_WAIT)
        if wait is None:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_WRITING) else "BEGIN")
            return
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(wait * 1000)}")
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(timeout * 1000)}")

    return engine


def reading(connection: Connection) -> Connection:
    return connection


def writing(connection: Connection, wait: float | None = None) -> Connection:
    return connection.execution_options(**{_WRITING: True, _WAIT: wait})


def add_new(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    """Insert what isn't there yet; the first write of a key wins."""
    if batch := list(rows):
        connection.execute(insert_new(table), batch)


@cache
def insert_new(table: Table) -> Insert:
    """That leaves out what is there. Made once; made anew it takes 15 us of a judgment's 300."""
    return insert(table).on_conflict_do_nothing()


def _use_wal(connection: sqlite3.Connection, *, timeout: float) -> None:
    """Two processes that make a store at once: SQLite doesn't wait here, so we do."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal" and _is_ours(connection):
                connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _primary(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _is_ours(connection: sqlite3.Connection) -> bool:
    """A store, or empty: WAL would be written into another program's file for good."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    return not names or VERSION_TABLE in names


def check_place(url: URL) -> None:
    """Raises StoreError for a file that can't be a store, before SQLite says 'unable to open'."""
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        return
    path = Path(url.database)  # asked by os.path: Path.is_dir raises for a long name or a closed folder
    if os.path.isdir(path):
        raise StoreError(f"store {path}: is a folder, expected a file; name one in it, such as {path}/results.db.")
    if not os.path.isdir(path.parent):
        raise StoreError(f"store {path}: there is no folder {path.parent}; make it, or name another place.")
    there = os.path.exists(path)
    if not os.access(path if there else path.parent, os.R_OK | os.W_OK):
        what = "file" if there else "folder"
        raise StoreError(
            f"store {path}: no permission to write the {what}; change its mode or owner, or name another place."
        )


def explain(error: BaseException | None, place: str, *, timeout: float) -> StoreError:
    """One sentence for a driver's error: what was found in `place`, and what to do."""
    code = _primary(error)
    found = f"store {place}"
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            told = (
                f"another process has held its lock for {timeout:g} s; run again when that ends, or use another store"
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            told = f"damaged, or no store at all ({error}); put a copy back, or move it away to begin a new one"
        case sqlite3.SQLITE_FULL:
            told = "the disk is full; what was committed is safe: make room and run the same command again"
        case sqlite3.SQLITE_IOERR:
            told = (
                f"reading or writing failed ({error}: a full disk, a quota or a failing drive); what was "
                "committed is safe: make room and run the same command again"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            told = f"can't be written ({error}); change the mode or owner of file and folder, or use another store"
        case sqlite3.SQLITE_CANTOPEN:
            told = f"can't be opened ({error}); see that its folder exists, can be written and has room"
        case _:
            told = f"unexpected database error: {error}"
    return StoreError(f"{found}: {told}.")


def _primary(error: BaseException | None) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)  # extended; the low byte is the kind
    return None if code is None else code & 0xFF
