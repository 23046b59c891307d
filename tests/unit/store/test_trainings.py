from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from conftest_store import begin, open_store, sql

from zephyr_bench.errors import StoreError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.store import Store, TrainingWriter
from zephyr_bench.training_runs.reporting import _InStore

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


@pytest.fixture
def held(url: str, store: Store) -> Iterator[tuple[TrainingWriter, ExitStack]]:
    """A training of a store that another process has locked until the stack is closed."""
    with open_store(url, timeout=0.05) as watching, ExitStack() as lock:
        training = watching.start_training(fingerprint=STAGE, name="smol", steps=9, done=0)
        lock.enter_context(store._database.write())
        yield training, lock


def test_a_store_that_cant_be_written_ends_no_training(held: tuple[TrainingWriter, ExitStack], store: Store) -> None:
    training, lock = held
    told: list[str] = []
    report = _InStore(training, told.append)
    for step in (1, 2, 3):
        report.add(step, {"loss": float(step)})
    assert len(told) == 1
    assert "another process has held its lock" in told[0]
    assert "The training goes on" in told[0]
    lock.close()
    step = 3
    while not (found := store.training(STAGE)) or not found.values:
        step += 1
        report.add(step, {"loss": float(step)})
    assert found.values["loss"] == [(number, float(number)) for number in range(1, step + 1)]
    report.close()
    assert len(told) == 1


def test_what_a_store_lacks_at_the_end_is_tried_once_more_and_told(
    held: tuple[TrainingWriter, ExitStack], store: Store
) -> None:
    training, lock = held
    told: list[str] = []
    report = _InStore(training, told.append)
    report.add(1, {"loss": 1.0})
    report.close()
    assert told[1].endswith("What was seen of the training in 1 steps was not kept.")
    lock.close()
    report.close()
    found = store.training(STAGE)
    assert found is not None
    assert found.values == {"loss": [(1, 1.0)]}


def test_a_training_that_was_dropped_is_one_sentence(url: str, store: Store) -> None:
    training = store.start_training(fingerprint=STAGE, name="smol", steps=1, done=0)
    sql(url, "delete from trainings")
    with pytest.raises(StoreError, match="this training is gone"):
        training.add(1, {"loss": 1.0})


def test_a_stage_that_nobody_watched_has_no_training(store: Store) -> None:
    assert store.training(STAGE) is None


def test_runs_are_found_by_the_stage_that_made_their_model(store: Store) -> None:
    run = begin(store, "smol-ddpo@20")
    begin(store, "other")
    store.put_model(
        fingerprint=fingerprint("smol-ddpo@20"), name="smol-ddpo@20", location="x", lineage={"stage_fingerprint": STAGE}
    )
    assert [found.id for found in store.runs(trained_by=STAGE)] == [run.id]
