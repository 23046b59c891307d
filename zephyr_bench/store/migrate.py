"""Brings a store's tables to the revision that schema.py describes, or back, by the alembic scripts beside this file.

Refuses a file of a newer version and a database that isn't a store, before anything is changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, column, inspect, select, table

from zephyr_bench.errors import StoreError, UserError
from zephyr_bench.store.schema import REVISION, VERSION_TABLE

if TYPE_CHECKING:
    from alembic.config import Config


def is_current(connection: Connection) -> bool:
    return _revision(connection) == REVISION


def migrate(connection: Connection, place: str) -> None:
    """To the newest revision, in the caller's transaction. Raises StoreError."""
    from alembic import command

    found = _revision(connection)  # again: another process may have been first
    if found is None and inspect(connection).get_table_names():
        raise StoreError(
            f"store {place}: a database of another program (it has tables, but none of a store's); "
            "name a new file, or an empty database."
        )
    if found is not None and found not in revisions():
        raise StoreError(
            f"store {place}: written by a newer zephyr-bench (revision {found}, this one knows {REVISION} "
            "and earlier); upgrade with pip install --upgrade zephyr-bench, or use another store."
        )
    command.upgrade(migration_config(connection), "head")


def revisions() -> dict[str, str]:
    """Revision -> what it brought, oldest first."""
    return {script.revision: script.doc for script in reversed(_scripts())}


def lost_by_downgrade(connection: Connection, revision: str) -> dict[str, int]:
    """What going back to a revision would drop, and how much of it. Raises UserError for one that isn't known."""
    if revision not in revisions():
        known = ", ".join(f"{number} ({title.rstrip('.')})" for number, title in revisions().items())
        raise UserError(f"--to {revision}: no such revision of the store's tables; known: {known}.")
    lost: dict[str, int] = {}
    for script in _scripts():
        if script.revision > revision:
            lost |= {what: count for what, count in script.module.lost(connection).items() if count}
    return lost


def downgrade(connection: Connection, revision: str) -> None:
    """Back to what an older zephyr-bench reads, in the caller's transaction."""
    from alembic import command

    command.downgrade(migration_config(connection), revision)


def _scripts() -> list[Any]:
    """Newest first."""
    from alembic.script import ScriptDirectory

    return list(ScriptDirectory.from_config(migration_config(None)).walk_revisions())


def migration_config(connection: Connection | None) -> Config:
    """What alembic needs to know, without an alembic.ini."""
    from alembic.config import Config

    config = Config()
    folder = Path(__file__).with_name("migrations")
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar()
