"""`torchrun -m zephyr_bench`: two processes store and print what one does, and end together."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

ONE = [sys.executable, "-m", "zephyr_bench"]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "zephyr_bench"]
THREADS = {"OMP_NUM_THREADS": "1"}  # as torchrun sets it


def open_llm(launch: list[str], model: Path, store: Path) -> list[str]:
    words = ["open-llm", "--model", str(model), "--benchmark", "open-llm-mini", "--limit", "12", "--device", "cpu"]
    return [*launch, *words, "--format", "json", "--store", f"sqlite:///{store}"]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, **THREADS}
    )


def printed(command: list[str]) -> list[dict[str, Any]]:
    """The rows of the result, without the run's name."""
    done = run(command)
    assert done.returncode == 0, done.stderr
    return [{key: value for key, value in row.items() if key != "run"} for row in json.loads(done.stdout)]


def rows(store: Path, query: str) -> list[tuple[Any, ...]]:
    if not store.exists():
        return []
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
        try:
            return connection.execute(query).fetchall()
        except sqlite3.OperationalError:  # not made yet
            return []


def stored(store: Path) -> dict[str, tuple[Any, ...]]:
    """Key -> log-probability, whether greedy, tokens."""
    found = rows(store, "select key, log_prob, is_greedy, tokens from token_scores")
    return {key: tuple(values) for key, *values in found}


def check_same(found: Path, expected: Path) -> None:
    """The scores of the same requests, to 2e-5 a token, with the same first choices."""
    ours, theirs = stored(found), stored(expected)
    assert ours.keys() == theirs.keys()
    for key, (log_prob, greedy, tokens) in theirs.items():
        assert abs(ours[key][0] - log_prob) <= 2e-5 * tokens
        assert ours[key][1:] == (greedy, tokens)


@pytest.fixture(scope="module")
def unbroken(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The store of one process, and what it printed."""
    store = tmp_path_factory.mktemp("one") / "store.db"
    return store, printed(open_llm(ONE, model_dir, store))


def check_printed(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Accuracies are the same; TruthfulQA's shares of probability are to what log-probabilities are."""
    assert len(found) == len(expected)
    for row, one in zip(found, expected, strict=True):
        assert row == {**one, "value": row["value"], "stderr": row["stderr"]}
        assert row["value"] == pytest.approx(one["value"], abs=1e-3)


def test_two_processes_store_and_print_what_one_does(
    model_dir: Path, unbroken: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    store, expected = unbroken
    check_printed(printed(open_llm(TWO, model_dir, tmp_path / "two.db")), expected)
    check_same(tmp_path / "two.db", store)


@pytest.mark.slow
def test_accelerate_launches_the_same(
    model_dir: Path, unbroken: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    store, expected = unbroken
    # --cpu would start one process; without a GPU --multi_gpu starts two on the CPU
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "zephyr_bench"]
    check_printed(printed(open_llm(launch, model_dir, tmp_path / "two.db")), expected)
    check_same(tmp_path / "two.db", store)


def begun(
    command: list[str], store: Path, table: str = "token_scores"
) -> tuple[subprocess.Popen[str], dict[int, psutil.Process]]:
    """The launcher and its processes by rank, once something is stored."""
    launcher = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **THREADS}
    )
    deadline = time.monotonic() + 120
    while not rows(store, f"select key from {table}"):
        assert launcher.poll() is None, launcher.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = psutil.Process(launcher.pid).children()
    return launcher, {int(child.environ().get("RANK", 0)): child for child in children}


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(ONE, TWO), (TWO, ONE)], ids=["one-two", "two-one"])
def test_a_killed_run_is_gone_on_with_by_another_number_of_processes(
    first: list[str], then: list[str], model_dir: Path, unbroken: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    broken, (store, expected) = tmp_path / "broken.db", unbroken
    launcher, processes = begun(open_llm(first, model_dir, broken), broken)
    for process in (launcher, *processes.values()):
        process.kill()
    launcher.communicate()
    before = stored(broken)
    assert 0 < len(before) < len(stored(store))
    check_printed(printed(open_llm(then, model_dir, broken)), expected)
    check_same(broken, store)
    assert before.items() <= stored(broken).items(), "a stored score was replaced"


def mtbench(launch: list[str], model: Path, store: Path) -> list[str]:
    words = ["mtbench", "--model", str(model), "--benchmark", "mt-bench-mini", "--batch-size", "2", "--device", "cpu"]
    return [*launch, *words, "--format", "json", "--store", f"sqlite:///{store}"]


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_with_a_sentence(model_dir: Path, tmp_path: Path) -> None:
    launcher, processes = begun(mtbench(TWO, model_dir, tmp_path / "store.db"), tmp_path / "store.db", "answers")
    processes[1].kill()
    out, err = launcher.communicate(timeout=60)
    assert out == ""
    assert err.count("error: told to end (SIGTERM): another process of this launch has died") == 1
    assert "exitcode  : 4" in err  # rank 0's, in torchrun's words
    assert not any(process.is_running() for process in processes.values())


@pytest.mark.slow
def test_ctrl_c_ends_all_processes(model_dir: Path, tmp_path: Path) -> None:
    launcher, processes = begun(mtbench(TWO, model_dir, tmp_path / "store.db"), tmp_path / "store.db", "answers")
    launcher.send_signal(signal.SIGINT)
    out, err = launcher.communicate(timeout=60)
    assert out == ""
    assert err.count("interrupted; what was done is stored") == 1
    assert not any(process.is_running() for process in processes.values())


def test_a_users_mistake_is_one_sentence_said_once(tmp_path: Path) -> None:
    done = run(mtbench(TWO, tmp_path / "absent", tmp_path / "store.db"))
    assert done.stdout == ""
    assert done.stderr.splitlines()[0].startswith("error: mt-bench-mini on ")
    assert done.stderr.count("does not exist") == 1
    assert "exitcode  : 2" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_evaluates_nothing_runs_once() -> None:
    alone, two = run([*ONE, "list", "engines"]), run([*TWO, "list", "engines"])
    assert (two.returncode, two.stdout) == (0, alone.stdout), two.stderr
    assert "list runs in one process; the other has nothing to do" in two.stderr


def test_an_engine_that_only_one_process_runs_says_so_once(model_dir: Path, tmp_path: Path) -> None:
    done = run([*mtbench(TWO, model_dir, tmp_path / "store.db"), "--engine", "vllm"])
    assert done.stderr.count("engine vllm runs in one process; the other has nothing to do") == 1, done.stderr
