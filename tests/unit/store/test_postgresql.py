"""What is PostgreSQL's own: how it is reached, what its faults say, and that nothing of it shows in results."""

from __future__ import annotations

import builtins
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from conftest_store import answer, begin, judgment, open_store, question
from postgresql_server import PASSWORD, Server
from sqlalchemy import text

from zephyr_bench.errors import StoreError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import SampleScore
from zephyr_bench.store import Store, postgresql, shown
from zephyr_bench.store.schema import metadata


@pytest.fixture
def database() -> str:
    return "postgresql"


def refused(url: str, **options: Any) -> str:
    with pytest.raises(StoreError) as caught:
        Store(url, **options)
    return check_sentence(caught.value)


def check_sentence(error: BaseException) -> str:
    message = str(error)
    assert message.startswith("store postgresql://")
    assert message.endswith(".")
    assert "\n" not in message
    assert PASSWORD not in message
    assert "wrong-one" not in message
    return message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: url.replace(PASSWORD, "wrong-one"), 'password authentication failed for user "postgres"; see'),
        (lambda url: url.replace(f":{PASSWORD}", ""), "no password supplied; put it into PGPASSWORD or ~/.pgpass"),
        (lambda url: f"{url}_absent", "does not exist; see the URL, or have it made by CREATE DATABASE"),
        (lambda url: url.replace("127.0.0.1", "no-such-host.invalid"), "see the host's name in the URL"),
        (lambda url: f"{url}?sslmode=require", "does not support SSL, but SSL was required; see sslmode in the URL"),
        (lambda url: f"{url}?sslmode=perhaps", 'invalid sslmode value: "perhaps"; see'),
        (lambda url: f"{url}?nonsense=1", "see what follows the ? in the URL"),
        (lambda url: f"{url}?Password=wrong-one", "see what follows the ? in the URL"),
        (lambda url: f"{url.split('@')[0]}@127.0.0.1:1/x", "the server can't be reached or left"),
        (lambda url: f"{url.replace(f':{PASSWORD}', '')}?password=wrong-one", "password authentication failed"),
    ],
)
def test_a_store_that_cant_be_reached_is_one_sentence(
    url: str, change: Callable[[str], str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    assert words in refused(change(url))


def test_the_password_may_stand_in_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with open_store(url.replace(f":{PASSWORD}", "")) as store:
        assert store.runs() == []


def test_the_plain_scheme_is_the_same_store(url: str, store: Store) -> None:
    run = begin(store)
    with open_store(url.replace("postgresql+psycopg", "postgresql")) as same:
        assert [found.id for found in same.runs()] == [run.id]


def test_a_place_is_shown_without_its_password(url: str, store: Store) -> None:
    assert store.place == url.replace(f":{PASSWORD}", "").replace("+psycopg", "") == shown(url)
    assert shown(f"{store.place}?password=wrong-one&sslmode=prefer") == f"{store.place}?sslmode=prefer"
    for secret in ("Password=wrong-one", "PASSWD=wrong-one", "sslkey=wrong-one", "my_secret=wrong-one"):
        assert shown(f"{store.place}?{secret}&sslmode=prefer") == f"{store.place}?sslmode=prefer"
    assert shown("sqlite:///results.db") == "sqlite:///results.db"


def test_doctor_shows_no_password(url: str) -> None:
    from zephyr_bench.cli.doctor import _store

    ((name, state, found),) = _store(url)
    assert (name, state) == ("store", "ok")
    assert found == f"{shown(url)}: 0 runs"


def test_without_psycopg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.split(".")[0] == "psycopg":
            raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    for module in [name for name in sys.modules if name.split(".")[0] == "psycopg"]:
        monkeypatch.delitem(sys.modules, module)
    message = refused("postgresql+psycopg://me:wrong-one@127.0.0.1:1/db")
    assert message.endswith("needs psycopg (No module named 'psycopg'); run `pip install \"zephyr-bench[postgres]\"`.")


def test_help_and_a_sqlite_store_load_no_driver() -> None:
    code = "import sys; from zephyr_bench.store import Store; Store('sqlite:///:memory:').runs(); "
    code += "sys.exit('psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_writer_waits_for_the_lock_and_readers_dont(url: str, store: Store) -> None:
    run = begin(store)
    with open_store(url, timeout=0.2) as other, store._database.write() as held:
        held.execute(text("update runs set seed = 5"))
        assert [found.seed for found in other.runs()] == [1]
        with pytest.raises(StoreError) as caught:
            other.tag(run.id, "nightly")
        assert "another process has held its lock for 0.2 s; run again" in check_sentence(caught.value)
    store.tag(run.id, "nightly")
    assert store.run(run.id).seed == 5


def test_a_reader_sees_one_state(url: str, store: Store) -> None:
    run = begin(store)
    with open_store(url) as other, other._database.read() as reading:
        count = text("select count(*) from tags")
        assert reading.execute(count).scalar() == 0
        store.tag(run.id, "nightly")
        assert reading.execute(count).scalar() == 0
    assert store.run(run.id).tags == ("nightly",)


def test_a_connection_that_the_server_ended_is_made_again(store: Store, server: Server, url: str) -> None:
    run = begin(store)
    end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'zephyr-bench'"
    server.run(end)
    run.add_answers([(question(), answer())])
    assert store.answers_of(run.id) == [answer()]


def test_a_connection_that_ends_in_the_middle_is_one_sentence(store: Store) -> None:
    run = begin(store)
    suicide = text("with ended as (update runs set seed = 5 returning 1) select pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(StoreError) as caught, store._database.write() as connection:
        connection.execute(suicide)
    assert "the server ended the connection" in check_sentence(caught.value)
    assert store.run(run.id).seed == 1


def test_a_user_who_may_only_read_reads(store: Store, server: Server, url: str) -> None:
    run = begin(store)
    run.add_answers([(question(), answer())])
    name, database = f"reader_of_{url.rpartition('/')[2]}", url.rpartition("/")[2]
    server.run(
        f"create role {name} login password 'wrong-one'", f"grant select on all tables in schema public to {name}",
        database=database,
    )  # fmt: skip
    with open_store(server.url(database, user=name, password="wrong-one")) as other:
        assert other.answers_of(run.id) == [answer()]
        with pytest.raises(StoreError) as caught:
            other.tag(run.id, "nightly")
        assert "permission denied for table tags; have it granted" in check_sentence(caught.value)


def test_a_schema_that_may_not_be_filled_is_one_sentence(server: Server, new_url: Callable[..., str]) -> None:
    database = new_url().rpartition("/")[2]
    server.run(f"create role poor_of_{database} login password 'wrong-one'")
    message = refused(server.url(database, user=f"poor_of_{database}", password="wrong-one"))
    assert "permission denied for schema public; have it granted, such as GRANT USAGE, CREATE" in message


def test_a_schema_of_its_own_in_a_shared_database(server: Server, new_url: Callable[..., str]) -> None:
    url = new_url()
    database = url.rpartition("/")[2]
    server.run("create table public.bookmarks (name text)", "create schema bench", database=database)
    assert "a database of another program" in refused(url)
    with open_store(f"{url}?options=-csearch_path%3Dbench") as store:
        begin(store)
    assert server.run("select count(*) from bench.runs", database=database) == [(1,)]


def test_a_database_of_another_encoding_is_refused(server: Server) -> None:
    server.run("create database latin encoding 'LATIN1' template template0")
    message = refused(server.url("latin"))
    assert "its encoding is LATIN1" in message
    assert "ENCODING 'UTF8' TEMPLATE template0" in message


def test_every_text_is_compared_byte_by_byte(store: Store, server: Server, url: str) -> None:
    query = (
        "select table_name, column_name, collation_name from information_schema.columns "
        "where table_schema = 'public' and data_type = 'text'"
    )
    found = {
        (table, column): collation for table, column, collation in server.run(query, database=url.rpartition("/")[2])
    }
    assert set(found.values()) == {"C"}
    assert len(found) > 50
    assert {table for table, _ in found} == {table.name for table in metadata.tables.values()}


def test_json_that_postgresql_could_not_search_is_found_again(store: Store) -> None:
    lineage = {
        "stage_fingerprint": "sha256:s",
        "no\x00te": ["\x00", "\ud800", "\x10", "🧵", {"\\u0000": "\\"}],
        "x": 0.1,
    }
    run = begin(store)
    store.put_model(fingerprint=fingerprint("tiny"), name="tiny", location="x", lineage=lineage)
    assert store.model(fingerprint("tiny")).lineage == lineage
    assert [found.id for found in store.runs(trained_by="sha256:s")] == [run.id]


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (SampleScore("q" * 20_000, "writing", "score", 1.0), "is too long for PostgreSQL to index"),
        (SampleScore("q", "writing", "score", 1.0, turn=2**40), "a value that PostgreSQL can't hold"),
    ],
)
def test_what_postgresql_cant_hold_is_one_sentence(store: Store, sample: SampleScore, words: str) -> None:
    import random

    if len(sample.question) > 1:  # repeats are packed
        noise = "".join(random.Random(0).choices("0123456789abcdef", k=len(sample.question)))
        sample = SampleScore(noise, sample.category, sample.metric, sample.value)
    run = begin(store)
    with pytest.raises(StoreError) as caught:
        run.add_samples([sample])
    assert words in check_sentence(caught.value)
    assert store.samples_of(run.id) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (psycopg.errors.DiskFull("could not extend file: No space left on device"), "the server's disk is full"),
        (psycopg.errors.TooManyConnections("sorry, too many clients"), "the server has no room left"),
        (psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction"), "a standby"),
        (psycopg.errors.DataCorrupted("invalid page in block 7"), "damaged (invalid page in block 7); put a backup"),
        (psycopg.errors.AdminShutdown("terminating connection"), "run the same command again"),
        (psycopg.errors.UndefinedTable('relation "runs" does not exist'), "its tables have changed meanwhile"),
        (psycopg.errors.CannotCoerce("odd"), "unexpected database error: odd"),
        (psycopg.OperationalError("FATAL:  sorry, too many clients already"), "wait for other connections to end"),
        (None, "no reason given"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_fault_that_no_test_can_bring_about_is_told_by_its_code(error: BaseException | None, words: str) -> None:
    told = postgresql.explain(error, "postgresql://host/db", timeout=30.0)
    assert words in check_sentence(told)


def test_judgments_of_a_deleted_run_are_one_sentence(store: Store) -> None:
    run = begin(store)
    run.finish("complete", [])
    store.delete(run.id)
    with pytest.raises(StoreError) as caught:
        run.add_judgments([judgment()])
    assert "it was deleted meanwhile" in check_sentence(caught.value)
