"""What reports keep of a run: as good as the run, and never longer there than it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import sleep

import pytest
from conftest_store import begin

from zephyr_bench.errors import StoreError
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.store import RunWriter, Store
from zephyr_bench.store.kept import WAIT

NAME = "terms-1/score"


@pytest.fixture
def run(store: Store) -> RunWriter:
    writer = begin(store)
    writer.add_samples([SampleScore("q1", "writing", "score", 7.0, 1)])
    writer.finish("complete", [Score("score", 7.0, None, 1)])
    return writer


def test_what_is_kept_is_read_again_by_its_name(store: Store, run: RunWriter) -> None:
    store.keep([(store.run(run.id), {NAME: b"\x00one", "other": b"two"})])
    assert store.kept([run.id], NAME) == {run.id: b"\x00one"}
    assert store.kept([run.id], "other") == {run.id: b"two"}
    assert store.kept([run.id, "no-such-run"], "third") == {}


def test_what_is_kept_anew_takes_the_place_of_the_old(store: Store, run: RunWriter) -> None:
    store.keep([(store.run(run.id), {NAME: b"one", "other": b"two"})])
    store.keep([(store.run(run.id), {NAME: b"three"})])
    assert store.kept([run.id], NAME) == {run.id: b"three"}
    assert store.kept([run.id], "other") == {run.id: b"two"}


def test_it_goes_with_its_run(store: Store, run: RunWriter) -> None:
    store.keep([(store.run(run.id), {NAME: b"one"})])
    store.delete(run.id)
    assert store.kept([run.id], NAME) == {}
    second = begin(store)  # which may get the number of the first
    second.finish("complete", [])
    assert store.kept([second.id], NAME) == {}


def test_a_run_that_is_scored_again_loses_it(store: Store, run: RunWriter) -> None:
    store.keep([(store.run(run.id), {NAME: b"one"})])
    run.finish("complete", [Score("score", 8.0, None, 1)])
    assert store.kept([run.id], NAME) == {}


def test_a_run_that_has_ended_gets_no_more_samples(store: Store, run: RunWriter) -> None:
    store.keep([(store.run(run.id), {NAME: b"one"})])
    with pytest.raises(ValueError, match=f"run {run.id} has ended"):
        run.add_samples([SampleScore("q2", "writing", "score", 7.0, 1)])
    assert [sample.question for sample in store.samples_of(run.id)] == ["q1"]
    assert store.kept([run.id], NAME) == {run.id: b"one"}


def test_what_was_derived_from_an_older_state_is_not_kept(store: Store, run: RunWriter) -> None:
    read = store.run(run.id)
    run.finish("complete", [Score("score", 8.0, None, 1)])
    store.keep([(read, {NAME: b"of the first scores"})])
    assert store.kept([run.id], NAME) == {}


def test_keeping_waits_for_no_other_writer(new_url: Callable[..., str]) -> None:
    """Else this test would take an hour."""
    url = new_url()
    with Store(url, timeout=3600) as own, Store(url) as other:
        writer = begin(own)
        writer.finish("complete", [])
        found = own.run(writer.id)
        with other._database.write(), pytest.raises(StoreError):
            own.keep([(found, {NAME: b"one"})])
        with other._database.write(), pytest.raises(StoreError):
            own.keep([(found, {NAME: b"one"})])
        own.keep([(found, {NAME: b"two"})])
        assert own.kept([writer.id], NAME) == {writer.id: b"two"}


def test_other_writes_wait_as_ever_after_one_that_did_not(new_url: Callable[..., str]) -> None:
    url = new_url()
    with Store(url) as own, Store(url) as other:
        writer = begin(own)
        writer.finish("complete", [])
        with other._database.write(), pytest.raises(StoreError):
            own.keep([(own.run(writer.id), {NAME: b"one"})])
        held = Event()

        def hold() -> None:
            with other._database.write():
                held.set()
                sleep(4 * WAIT)

        with ThreadPoolExecutor() as pool:
            done = pool.submit(hold)
            held.wait()
            writer.finish("complete", [Score("score", 8.0, None, 1)])
            done.result()
    with Store(url) as own:
        assert own.scores_of([writer.id])[writer.id]


@pytest.mark.parametrize("status", ["running", "interrupted", "failed", "incomplete"])
def test_nothing_is_kept_of_a_run_that_is_not_complete(store: Store, status: str) -> None:
    writer = begin(store)
    if status != "running":
        writer.finish(status, [])
    store.keep([(store.run(writer.id), {NAME: b"one"})])
    assert store.kept([writer.id], NAME) == {}
