"""Brings a store's tables to the revision that schema.py describes, by the alembic scripts beside this file.

Refuses a file of a newer version and a database that isn't a store, before anything is changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, column, inspect, select, table

from zephyr_bench.errors import StoreError
from zephyr_bench.store.schema import REVISION, VERSION_TABLE

if TYPE_CHECKING:
    from alembic.config import Config


def is_current(connection: Connection) -> bool:
    return _revision(connection) == REVISION


def migrate(connection: Connection, place: str) -> None:
    """To the newest revision, in the caller's transaction. Raises StoreError."""
    from alembic import command
    from alembic.script import ScriptDirectory

    found = _revision(connection)  # again: another process may have been first
    if found is None and inspect(connection).get_table_names():
        raise StoreError(
            f"store {place}: a database of another program (it has tables, but none of a store's); "
            "name another file, and it will be made."
        )
    config = migration_config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise StoreError(
            f"store {place}: written by a newer zephyr-bench (revision {found}, this one knows {REVISION} "
            "and earlier); upgrade with pip install --upgrade zephyr-bench, or use another store."
        )
    command.upgrade(config, "head")


def migration_config(connection: Connection) -> Config:
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
