from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest_store import FOLDERS, answer, begin, judgment, open_store, question
from sqlalchemy import make_url

from zephyr_bench.errors import StoreError, UserError
from zephyr_bench.records import SampleScore
from zephyr_bench.store import Store, sqlite


def check_sentence(message: str, place: object, *words: str) -> None:
    assert message.startswith(f"store {place}: "), message
    assert "\n" not in message
    assert message.endswith(".")
    for word in words:
        assert word in message


def fill(path: Path, count: int = 200) -> None:
    with open_store(path) as store:
        run = begin(store)
        names = [f"q{number}" for number in range(count)]
        run.add_answers([(question(name), answer(name, "word " * 50)) for name in names])
        run.add_judgments([judgment(name) for name in names])
        run.add_samples([SampleScore(name, "writing", "score", 7.0) for name in names])
        run.finish("complete", [])


@pytest.fixture
def locked(path: Path) -> Iterator[Path]:
    fill(path, 3)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield path


def test_a_locked_store_can_be_read_and_refuses_to_be_written_in_one_sentence(locked: Path) -> None:
    with open_store(locked, timeout=0.2) as store:
        (run,) = store.runs()
        assert len(store.answers_of(run.id)) == 3
        with pytest.raises(StoreError) as caught:
            store.tag(run.id, "nightly")
        check_sentence(str(caught.value), locked, "another process has held its lock for 0.2 s")


def test_a_store_is_written_once_the_lock_is_gone(path: Path) -> None:
    fill(path, 3)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with open_store(path, timeout=0.2) as store:
        with pytest.raises(StoreError):
            begin(store)
        other.close()
        assert len(store.runs()) == 1
        begin(store)
        assert len(store.runs()) == 2


def test_a_new_store_that_another_process_locks_is_one_sentence(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError) as caught:
            open_store(path, timeout=0.2)
    check_sentence(str(caught.value), path, "lock for 0.2 s")


def test_a_new_store_is_made_once_the_lock_is_gone(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, other.rollback)
        release.start()
        with open_store(path) as store:
            assert store.runs() == []
        release.join()


@pytest.mark.parametrize("size", [99, 100_000])
def test_random_bytes_are_refused_and_left_unchanged(path: Path, size: int) -> None:
    noise = random.Random(size).randbytes(size)
    path.write_bytes(noise)
    with pytest.raises(StoreError) as caught:
        open_store(path)
    check_sentence(str(caught.value), path, "damaged, or no store at all", "put a copy back")
    assert path.read_bytes() == noise


def read_all(path: Path) -> None:
    with open_store(path) as store:
        for run in store.runs():
            store.answers_of(run.id)
            store.judgments_of(run.id)
            store.samples_of(run.id)
        begin(store)


@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.9])
def test_a_truncated_store_is_one_sentence(path: Path, part: float) -> None:
    fill(path)
    os.truncate(path, int(path.stat().st_size * part))
    with pytest.raises(StoreError) as caught:
        read_all(path)
    check_sentence(str(caught.value), path, "damaged, or no store at all")


def test_overwritten_pages_never_end_in_another_error(path: Path) -> None:
    fill(path)
    whole = path.read_bytes()
    chance = random.Random(0)
    refused = 0
    for _ in range(20):
        broken = bytearray(whole)
        start = chance.randrange(0, len(whole) - 4096)
        broken[start : start + 4096] = chance.randbytes(4096)
        path.write_bytes(broken)
        for leftover in ("-wal", "-shm"):
            Path(f"{path}{leftover}").unlink(missing_ok=True)
        try:
            read_all(path)
        except StoreError as error:
            check_sentence(str(error), path)
            refused += 1
    assert refused > 0


WRITE_UNTIL_FULL = """
import resource, signal, sys
sys.path[:0] = sys.argv[1].split(":")
from pathlib import Path
from conftest_store import answer, begin, open_store, question
from zephyr_bench.errors import StoreError

store = open_store(Path(sys.argv[2]))
run = begin(store)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
for number in range(10_000):
    name = f"q{number}"
    try:
        run.add_answers([(question(name), answer(name, "word " * 400))])
    except StoreError as error:
        print(error, file=sys.stderr)
        sys.exit(7)
    print(name, flush=True)
"""


@pytest.mark.parametrize("room", [1_500_000, 4_500_000])
def test_a_full_disk_loses_nothing_that_was_committed(path: Path, room: int) -> None:
    command = [sys.executable, "-c", WRITE_UNTIL_FULL, FOLDERS, str(path), str(room)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 7, done.stderr
    check_sentence(done.stderr.strip(), path, "what was committed is safe", "run the same command again")
    written = done.stdout.split()
    assert len(written) > 20
    with open_store(path) as store:
        (run,) = store.runs()
        assert run.status == "interrupted"
        assert {found.question for found in store.answers_of(run.id)} == set(written)
        assert len(begin(store).answers(answer(name).key for name in written)) == len(written)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)


def test_a_store_that_is_full_inside_is_one_sentence(path: Path) -> None:
    with open_store(path) as store:
        run = begin(store)
        with store._database.write() as connection:
            pages = connection.exec_driver_sql("pragma page_count").scalar()
            connection.exec_driver_sql(f"pragma max_page_count = {pages}")
        with pytest.raises(StoreError) as caught:
            run.add_answers([(question(), answer(text="word " * 10_000))])
        check_sentence(str(caught.value), path, "the disk is full")
        assert store.answers_of(run.id) == []


OPEN_AS_NOBODY = """
import os, sys
from zephyr_bench.errors import StoreError
from zephyr_bench.store import Store

if os.geteuid() == 0:
    os.setuid(65534)
try:
    Store(sys.argv[1]).tag(sys.argv[2], "nightly")
except StoreError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """Where any user may go, as pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)
        os.chmod(folder, 0o755)


@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "words"),
    [
        (0o444, 0o777, "no permission to write the file"),
        (0o666, 0o555, "can't be"),
        (None, 0o555, "no permission to write the folder"),
        (0o666, 0o600, "permission"),
    ],
)
def test_modes_that_forbid_writing_are_one_sentence(
    shared_folder: Path, file_mode: int | None, folder_mode: int, words: str
) -> None:
    path, run = shared_folder / "results.db", "x"
    if file_mode is not None:
        fill(path, 1)
        with open_store(path) as store:
            run = store.runs()[0].id
        path.chmod(file_mode)
    shared_folder.chmod(folder_mode)
    command = [sys.executable, "-c", OPEN_AS_NOBODY, f"sqlite:///{path}", run]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    check_sentence(done.stderr.strip(), path, words)


@pytest.mark.parametrize(("exists", "what"), [(True, "file"), (False, "folder")])
def test_a_place_without_permission_is_refused_before_it_is_touched(
    path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool, what: str
) -> None:
    if exists:
        path.touch()
    asked: list[tuple[Path, int]] = []
    monkeypatch.setattr(os, "access", lambda place, mode: asked.append((Path(place), mode)))
    with pytest.raises(StoreError) as caught:
        sqlite.check_place(make_url(f"sqlite:///{path}"))
    check_sentence(str(caught.value), path, f"no permission to write the {what}", "name another place")
    assert asked == [(path if exists else path.parent, os.R_OK | os.W_OK)]


def test_a_folder_in_place_of_a_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(tmp_path)
    check_sentence(str(caught.value), tmp_path, "is a folder", f"{tmp_path}/results.db")


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "results.db"
    with pytest.raises(StoreError) as caught:
        open_store(path)
    check_sentence(str(caught.value), path, f"there is no folder {path.parent}")
    assert not path.parent.exists()


def test_a_name_too_long_for_the_file_system_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 300 + ".db")
    with pytest.raises(StoreError) as caught:
        open_store(path)
    check_sentence(str(caught.value), path, "can't be opened")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("results.db", "for a file, write sqlite:///results.db."),
        ("", "for a file, write sqlite:///results.db."),
        ("sqlite:/results.db", "for a file, write sqlite:///results.db."),
        ("sqlite://results.db", "write three slashes before the file, as in sqlite:///results.db."),
        ("sqlite://me:secret@host/results.db", "store sqlite://me:***@host/results.db: names a host"),
        ("mysql://me:secret@host/db", "store mysql://me:***@host/db: unknown scheme 'mysql', expected sqlite, as in"),
        ("postgres://me:se@secret@host/db", "or postgresql+psycopg, as in postgresql+psycopg://user@host/database."),
        ("postgresql+psycopg2://host/db?user=me&password=secret", "psycopg2://host/db?user=me&password=***: unknown"),
        ("postgresql+psycopg2://host/db?user=me&Pa%73sword=secret", "host/db?user=me&Pa%73sword=***: unknown"),
        ("postgresql://me:secret@host:port/db", "store 'postgresql://me:***@host:port/db': expected a URL"),
        ("postgresql//me:secret@host/db", "store 'postgresql//me:***@host/db': expected a URL"),
    ],
)
def test_a_wrong_url_is_one_sentence_without_its_password(url: str, words: str) -> None:
    with pytest.raises(StoreError) as caught:
        Store(url)
    message = str(caught.value)
    assert words in message
    assert "secret" not in message
    assert "\n" not in message


def test_a_store_error_is_the_users_to_put_right() -> None:
    assert issubclass(StoreError, UserError)
