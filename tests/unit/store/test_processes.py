from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

from conftest_store import FOLDERS, answer, begin, open_store, sql

from zephyr_bench.store.schema import metadata

# a process of its own for each writer, begun from one that has imported everything
WRITE = """
import os, sys
sys.path[:0] = sys.argv[1].split(":")
from conftest_store import answer, begin, judgment, open_store, question
from zephyr_bench.records import SampleScore, Score, ScoredTokens

def write(url, writer, count):
    with open_store(url) as store:
        run = begin(store, writer)
        training = store.start_training(fingerprint=f"sha256:{writer}", name=writer, steps=count, done=0)
        for number in range(count):
            own, shared = f"{writer}-{number}", f"shared-{number}"
            for name, text in ((own, own), (shared, writer)):
                run.add_answers([(question(name), answer(name, text))])
            verdicts = [judgment(own), judgment(shared, float(len(writer)))]
            run.add_judgments(verdicts if len(writer) % 2 else verdicts[::-1])  # does one wait for the other?
            run.add_token_scores([ScoredTokens(f"sha256:{name}", -1.5, True, 3) for name in (own, shared)])
            run.add_samples([SampleScore(own, "writing", "score", number / 7, 1)])
            training.add(number + 1, {"loss": 1 / (number + 1)})
            print(own, flush=True)
        run.finish("complete", [Score("score", count / 3, 0.5, count)])
        store.tag(run.id, "nightly")

url, count, *writers = sys.argv[2:]
children = []
for writer in writers[1:]:
    children.append(os.fork())
    if children[-1] == 0:
        write(url, writer, int(count))
        os._exit(0)
write(url, writers[0], int(count))
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""


def start_writers(url: str, count: int, *names: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITE, FOLDERS, url, str(count), *names]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check_whole(url: str) -> None:
    if url.startswith("sqlite"):
        assert sql(url, "pragma integrity_check") == [("ok",)]
    for table in metadata.tables.values():
        for key in table.foreign_keys:
            other, column, own = key.column.table.name, key.column.name, key.parent.name
            found = f"select count(*) from {table.name} where not exists "
            found += f"(select 1 from {other} where {other}.{column} = {table.name}.{own})"
            assert sql(url, found) == [(0,)], f"{table.name}.{own}"


def test_ten_processes_that_make_and_fill_one_store_at_once_lose_nothing(new_url: Callable[..., str]) -> None:
    url, count, names = new_url(), 8, [f"writer {'x' * number}" for number in range(10)]
    writers = start_writers(url, count, *names)
    _, errors = writers.communicate(timeout=120)
    assert (writers.returncode, errors) == (0, "")
    with open_store(url) as store:
        runs = {run.model: run for run in store.runs()}
        assert set(runs) == set(names)
        shared = {f"shared-{number}" for number in range(count)}
        texts: set[tuple[str, str | None]] = set()
        for name, run in runs.items():
            own = [f"{name}-{number}" for number in range(count)]
            answers = store.answers_of(run.id)
            assert sorted(found.question for found in answers) == sorted([*own, *shared])
            assert all(found.text == found.question for found in answers if found.question in own)
            assert len(store.judgments_of(run.id)) == 2 * count
            assert [(found.question, found.value) for found in store.samples_of(run.id)] == [
                (question, number / 7) for number, question in enumerate(own)
            ]
            assert [score.value for score in store.scores_of([run.id])[run.id]] == [count / 3]
            assert (run.status, run.tags) == ("complete", ("nightly",))
            training = store.training(f"sha256:{name}")
            assert training is not None
            assert training.values == {"loss": [(step, 1 / step) for step in range(1, count + 1)]}
            texts |= {(found.question, found.text) for found in answers if found.question in shared}
        assert len(texts) == count, "of a shared key, all have the first one's answer"
    for table in ("answers", "judgments", "token_scores"):
        assert sql(url, f"select count(*) from {table}") == [(11 * count,)], table
    check_whole(url)


def test_a_killed_process_loses_only_what_was_not_committed(url: str) -> None:
    process = start_writers(url, 100_000, "killed")
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(25)]
    os.kill(process.pid, signal.SIGKILL)
    told += process.stdout.read().split("\n")[:-1]
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with open_store(url) as store:
        assert [run.status for run in store.runs()] == ["interrupted"], "not reaped yet, but dead"
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        (run,) = store.runs()
        assert run.status == "interrupted"
        found = {made.question: made for made in store.answers_of(run.id)}
        assert set(told) <= set(found)
        assert all(found[name] == answer(name, name) for name in told)
        assert len([name for name in found if name.startswith("killed-")]) <= len(told) + 1
        assert 2 * len(told) <= len(store.judgments_of(run.id)) <= 2 * len(told) + 2
        again = begin(store, "killed")
        assert len(again.answers([answer(name).key for name in told])) == len(told)
        again.finish("complete", [])
        assert [known.status for known in store.runs()] == ["complete", "interrupted"]
    check_whole(url)
