"""All that is PostgreSQL's own: how a team's store is reached, how a transaction begins, what its errors mean.

Writers queue for one lock, as on SQLite, so that what holds for a store holds on both; readers see one state
and wait for nobody. A sibling of sqlite.py, with the same functions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.engine import URL

from zephyr_bench.errors import StoreError, first_line
from zephyr_bench.store import exact_text
from zephyr_bench.store.plain_json import to_json

_WRITING = "zephyr_bench_writing"  # execution option of a connection that is going to write
_WAIT = "zephyr_bench_wait"  # likewise: seconds to wait for a lock; None: as long as the store does
_LOCK = 0x7A657068_79722D62  # of the writers of one database, among the advisory locks of other programs
_SECRETS = ("pass", "secret", "key", "token")  # in the names of what a URL's query may carry


def is_secret(name: str) -> bool:
    """Whether what stands in a URL's query by that name, mistyped ones as well, is not to be shown."""
    return any(part in name.casefold() for part in _SECRETS)


def place(url: URL) -> str:
    """Where the store is, without a password."""
    query = {key: value for key, value in url.query.items() if not is_secret(key)}
    shown = URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    return shown.render_as_string()


def files(url: URL) -> tuple[Path, ...]:
    """None: they are the server's."""
    return ()


def check_place(url: URL) -> None:
    """Nothing can be known before the server is asked."""


def open_engine(url: URL, *, timeout: float) -> Engine:
    """An engine whose connections wait `timeout` seconds for a lock. Asks no server yet. Raises StoreError."""
    told = {"connect_timeout": 10, "application_name": "zephyr-bench"}  # seconds; what the server's list shows
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            connect_args={key: value for key, value in told.items() if key not in url.query},
            json_serializer=_to_json,
            json_deserializer=_from_json,
            pool_pre_ping=True,  # a firewall drops what is silent while a judge thinks
            use_native_hstore=False,
        )
    except ImportError as error:
        raise StoreError(
            f'store {place(url)}: needs psycopg ({first_line(error)}); run `pip install "zephyr-bench[postgres]"`.'
        ) from None

    @event.listens_for(engine, "connect")
    def check(connection: Any, _record: Any) -> None:
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise StoreError(
                f"store {place(url)}: its encoding is {encoding}, and answers may hold any character; make one by "
                "CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0."
            )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get(_WRITING):
            wait = options.get(_WAIT)
            milliseconds = max(1, round((timeout if wait is None else wait) * 1000))  # 0 would be for ever
            query = "SELECT set_config('lock_timeout', %s, true), pg_advisory_xact_lock(%s)"
            connection.exec_driver_sql(query, (str(milliseconds), _LOCK))

    return engine


def reading(connection: Connection) -> Connection:
    return connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def writing(connection: Connection, wait: float | None = None) -> Connection:
    """Each statement sees what was committed before it: a snapshot would be older than the lock."""
    return connection.execution_options(isolation_level="READ COMMITTED", **{_WRITING: True, _WAIT: wait})


def add_new(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    """Insert what isn't there yet; the first write of a key wins."""
    if batch := list(rows):
        connection.execute(insert_new(table), batch)


@cache
def insert_new(table: Table) -> Insert:
    """That leaves out what is there."""
    return insert(table).on_conflict_do_nothing()


def explain(error: BaseException | None, place: str, *, timeout: float) -> StoreError:
    """One sentence for a driver's error: what was found in `place`, and what to do."""
    state = getattr(error, "sqlstate", None)
    said = first_line(error) if error is not None else "no reason given"
    told = _of_connecting(said) if state is None else _of_a_statement(state, said, timeout)
    return StoreError(f"store {place}: {told}.")


def _of_connecting(said: str) -> str:
    """The server refused, or can't be reached: there is no code for that, only libpq's words."""
    found = said.rpartition("FATAL:")[2].strip().removesuffix(".")
    for words, advice in _ADVICE.items():
        if words in said:
            return f"{found}; {advice}"
    return f"the server can't be reached or left ({found}); what was committed is safe: see that it runs, and run again"


_ADVICE = {
    "no password supplied": "put it into PGPASSWORD or ~/.pgpass",
    "password authentication failed": "see the user's name, and PGPASSWORD or ~/.pgpass",
    "pg_hba.conf": "the server's pg_hba.conf has to let this host and user in",
    "does not exist": "see the URL, or have it made by CREATE DATABASE or CREATE ROLE",
    "permission denied": "have CONNECT granted on it",
    "too many": "wait for other connections to end, or have max_connections raised",
    "remaining connection slots": "wait for other connections to end, or have max_connections raised",
    "failed to resolve host": "see the host's name in the URL",
    "SSL": "see sslmode in the URL",
    "sslmode": "see it in the URL",
    "invalid URI query parameter": "see what follows the ? in the URL",
    "invalid connection option": "see what follows the ? in the URL",
}


def _of_a_statement(state: str, said: str, timeout: float) -> str:
    """By SQLSTATE, PostgreSQL's appendix A."""
    match state:
        case "55P03":
            return f"another process has held its lock for {timeout:g} s; run again when that ends"
        case "53100":
            return f"the server's disk is full ({said}); what was committed is safe: make room and run again"
        case "42501":
            return f"{said}; have it granted, such as GRANT USAGE, CREATE ON SCHEMA public, or use another store"
        case "25006":
            return f"can't be written ({said}): a standby, or a user who may only read; use another server or user"
        case "54000":
            return f"a name is too long for PostgreSQL to index ({said}); shorten it, or use a SQLite store"
        case "42P01" | "42703":
            return f"its tables have changed meanwhile ({said}); open it again"
    match state[:2]:
        case "08" | "57":
            return f"the server ended the connection ({said}); what was committed is safe: run the same command again"
        case "53":
            return f"the server has no room left ({said}); what was committed is safe: run the same command again"
        case "22":
            return f"a value that PostgreSQL can't hold ({said})"
        case "XX":
            return f"damaged ({said}); put a backup back"
    return f"unexpected database error: {said}"


def _to_json(value: Any) -> str:
    """PostgreSQL reads no document that says NUL or a lone surrogate: they stand as in a text (exact_text.py)."""
    text = to_json(value)
    return text if not ("\\u0000" in text or "\\u0010" in text or "\\ud" in text) else to_json(_each(value, _escape))


def _from_json(stored: str | bytes) -> Any:
    value = json.loads(stored)
    marked = b"\\u0010" in stored if isinstance(stored, bytes) else "\\u0010" in stored
    return _each(value, _unescape) if marked else value


_escape, _unescape = exact_text.escape, exact_text.unescape


def _each(value: Any, change: Any) -> Any:
    """Every text in a JSON value, keys as well."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(key) if isinstance(key, str) else key: _each(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each(item, change) for item in value]
    return value
