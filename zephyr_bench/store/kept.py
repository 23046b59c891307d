"""What reports derive from finished runs, kept as bytes: written once, read many at a time. Knows no content.

A run that is written to again loses what was kept of it, in the same transaction, and what was derived from its old
state is not kept any more. So an entry is as good as its run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, delete, insert, select

from zephyr_bench.store import rows
from zephyr_bench.store.schema import kept, runs

WAIT = 0.05  # seconds for the store's lock: longer than a commit, and nothing to a reader


def read(connection: Connection, run_ids: Iterable[str], name: str) -> dict[str, bytes]:
    """By run id, of those that have an entry of that name."""
    found: dict[str, bytes] = {}
    for batch in rows.in_batches(run_ids):
        query = select(runs.c.id, kept.c.content).join(runs, runs.c.number == kept.c.run)
        query = query.where(kept.c.name == name, runs.c.id.in_(batch))
        found.update((id, bytes(content)) for id, content in connection.execute(query))
    return found


def write(connection: Connection, run_id: str, finished: str | None, entries: Mapping[str, bytes]) -> None:
    """Nothing where the run isn't complete, or not as it was when it `finished` so. What is there is replaced."""
    query = select(runs.c.number).where(runs.c.id == run_id, runs.c.status == "complete", runs.c.finished == finished)
    number = connection.execute(query).scalar()
    if number is not None:
        forget(connection, number, entries)
        new = [{"run": number, "name": name, "content": content} for name, content in entries.items()]
        connection.execute(insert(kept), new)


def forget(connection: Connection, number: int, names: Iterable[str] | None = None) -> None:
    """Of the run of that number: these entries, or all."""
    query = delete(kept).where(kept.c.run == number)
    connection.execute(query if names is None else query.where(kept.c.name.in_(list(names))))
