"""Trainings in the store: what was seen at each step, for `runs show`, the recipe's report and whoever writes SQL.

A training is known by its stage's fingerprint: one that is taken up again goes on in its own rows, and none is double.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from zephyr_bench.errors import StoreError
from zephyr_bench.store import rows
from zephyr_bench.store.connection import Database
from zephyr_bench.store.schema import training_values, trainings


@dataclass(frozen=True)
class Training:
    """A stage's training as the store knows it."""

    fingerprint: str
    name: str  # of its checkpoint
    steps: int  # as planned
    created: str
    values: Mapping[str, Sequence[tuple[int, float | None]]]  # metric -> (step, value), steps ascending


class TrainingWriter:
    """Made by `Store.start_training`; lives as long as its store is open. Each `add` is committed when it returns."""

    def __init__(self, database: Database, number: int) -> None:
        self._database = database
        self._number = number

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Keep what was seen at a step (from 1); what is no finite number is kept as missing. Raises StoreError."""
        self.add_all([(step, values)])

    def add_all(self, seen: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """As `add`, of several steps in one transaction."""
        new = [
            {
                "training": self._number,
                "step": step,
                "metric": metric,
                "value": float(value) if math.isfinite(value) else None,
            }
            for step, values in seen
            for metric, value in values.items()
        ]
        try:
            with self._database.write() as connection:
                self._database.add_new(connection, training_values, new)
        except IntegrityError:
            place = self._database.place
            raise StoreError(f"store {place}: this training is gone: it was dropped meanwhile.") from None


def begin(connection: Connection, *, fingerprint: str, name: str, steps: int, done: int) -> int:
    """The training's number. What is stored of steps after `done` goes: they are made again."""
    same = trainings.c.fingerprint == fingerprint
    number = connection.execute(select(trainings.c.number).where(same)).scalar()
    if number is None:
        values = {"fingerprint": fingerprint, "name": name, "steps": steps, "created": rows.now()}
        return int(connection.execute(insert(trainings).values(values)).inserted_primary_key[0])  # type: ignore[index]
    connection.execute(update(trainings).where(same).values(name=name, steps=steps))
    later = training_values.c.training == number, training_values.c.step > done
    connection.execute(delete(training_values).where(*later))
    return int(number)


def find(connection: Connection, fingerprint: str) -> Training | None:
    row = connection.execute(select(trainings).where(trainings.c.fingerprint == fingerprint)).first()
    if row is None:
        return None
    found: dict[str, list[tuple[int, float | None]]] = {}
    columns = training_values.c
    query = select(columns.step, columns.metric, columns.value).where(columns.training == row.number)
    for step, metric, value in connection.execute(query.order_by(columns.step, columns.metric)):
        found.setdefault(metric, []).append((step, value))
    return Training(row.fingerprint, row.name, row.steps, row.created, found)
