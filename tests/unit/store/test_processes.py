from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from conftest_store import answer, begin, open_store

FOLDER = str(Path(__file__).parent)

WRITE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from conftest_store import answer, begin, judgment, open_store, question

path, writer, count = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
print("ready", flush=True)
sys.stdin.readline()
with open_store(path) as store:
    run = begin(store, writer)
    for number in range(count):
        own = f"{writer}-{number}"
        for name, said in ((own, answer(own, own)), (f"shared-{number}", answer(f"shared-{number}", writer))):
            run.add_answers([(question(name), said)])
        match, verdict = judgment(own)
        run.add_judgments([(match, verdict)])
        print(own, flush=True)
    run.finish("complete", [])
"""


def start_writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITE, FOLDER, str(path), name, str(count)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def check_whole(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert connection.execute("pragma foreign_key_check").fetchall() == []


def test_processes_that_make_and_fill_one_store_at_once_lose_nothing(path: Path) -> None:
    names = ("left", "right", "third")
    writers = [start_writer(path, name, 40) for name in names]
    for writer in writers:
        go(writer)
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert (writer.returncode, errors) == (0, "")
    with open_store(path) as store:
        runs = {run.model: run for run in store.runs()}
        assert set(runs) == set(names)
        shared = {f"shared-{number}" for number in range(40)}
        texts: set[str | None] = set()
        for name, run in runs.items():
            own = {f"{name}-{number}" for number in range(40)}
            answers = store.answers_of(run.id)
            assert {found.question for found in answers} == own | shared
            assert len(store.judgments_of(run.id)) == 40
            assert run.status == "complete"
            texts |= {found.text for found in answers if found.question in shared}
        assert texts <= set(names)
        with store._database.read() as connection:
            assert connection.exec_driver_sql("select count(*) from answers").scalar() == 3 * 40 + 40
    check_whole(path)


def test_a_killed_process_loses_only_what_was_not_committed(path: Path) -> None:
    process = start_writer(path, "killed", 100_000)
    go(process)
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(25)]
    os.kill(process.pid, signal.SIGKILL)
    told += process.stdout.read().split("\n")[:-1]
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with open_store(path) as store:
        assert [run.status for run in store.runs()] == ["interrupted"], "not reaped yet, but dead"
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        (run,) = store.runs()
        assert run.status == "interrupted"
        found = {made.question: made for made in store.answers_of(run.id)}
        assert set(told) <= set(found)
        assert all(found[name] == answer(name, name) for name in told)
        assert len([name for name in found if name.startswith("killed-")]) <= len(told) + 1
        assert len(told) <= len(store.judgments_of(run.id)) <= len(told) + 1
        again = begin(store, "killed")
        assert len(again.answers([answer(name).key for name in told])) == len(told)
        again.finish("complete", [])
        assert [known.status for known in store.runs()] == ["complete", "interrupted"]
    check_whole(path)
