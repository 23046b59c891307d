from __future__ import annotations

import math
import sqlite3
from pathlib import Path

from alembic import command
from conftest_store import begin, open_store
from sqlalchemy import create_engine

from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.store import Store
from zephyr_bench.store.migrate import migration_config

STAGE = fingerprint("a stage")


def test_values_come_back_by_metric_and_step(store: Store) -> None:
    training = store.start_training(fingerprint=STAGE, name="smol-ddpo", steps=3, done=0)
    training.add(1, {"loss": 0.7, "margin": 0.0})
    training.add(2, {"loss": 0.5, "held_out/loss": 0.6})
    found = store.training(STAGE)
    assert found is not None
    assert (found.name, found.steps) == ("smol-ddpo", 3)
    assert found.values == {"loss": [(1, 0.7), (2, 0.5)], "margin": [(1, 0.0)], "held_out/loss": [(2, 0.6)]}


def test_a_training_taken_up_again_replaces_the_steps_after(store: Store) -> None:
    first = store.start_training(fingerprint=STAGE, name="smol-ddpo", steps=4, done=0)
    for step in (1, 2, 3):
        first.add(step, {"loss": float(step)})
    second = store.start_training(fingerprint=STAGE, name="smol-ddpo", steps=4, done=2)
    second.add(3, {"loss": 30.0})
    second.add(3, {"loss": 31.0})
    found = store.training(STAGE)
    assert found is not None
    assert found.values["loss"] == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_what_is_no_number_is_missing(store: Store) -> None:
    store.start_training(fingerprint=STAGE, name="smol", steps=1, done=0).add(1, {"loss": math.nan, "kl": math.inf})
    found = store.training(STAGE)
    assert found is not None
    assert found.values == {"kl": [(1, None)], "loss": [(1, None)]}


def test_a_stage_that_nobody_watched_has_no_training(store: Store) -> None:
    assert store.training(STAGE) is None


def test_runs_are_found_by_the_stage_that_made_their_model(store: Store) -> None:
    run = begin(store, "smol-ddpo@20")
    begin(store, "other")
    store.put_model(
        fingerprint=fingerprint("smol-ddpo@20"), name="smol-ddpo@20", location="x", lineage={"stage_fingerprint": STAGE}
    )
    assert [found.id for found in store.runs(trained_by=STAGE)] == [run.id]


def test_a_store_of_the_second_revision_gets_the_tables(path: Path) -> None:
    with create_engine(f"sqlite:///{path}").connect() as connection:
        command.upgrade(migration_config(connection), "0002")
        connection.commit()
    model = f"insert into models values ('{fingerprint('tiny')}', 'tiny', 'somewhere', '', '{{}}', '2026')"
    with sqlite3.connect(path) as old:
        old.execute(model)
    with open_store(path) as store:
        store.start_training(fingerprint=STAGE, name="smol-ddpo", steps=1, done=0).add(1, {"loss": 0.5})
        assert store.model(fingerprint("tiny")).name == "tiny"
        assert store.training(STAGE) is not None
