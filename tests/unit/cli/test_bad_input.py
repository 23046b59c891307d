"""What users get wrong: one sentence on stderr that names the thing, exit code 2, no traceback, no work lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_data import PAIRS, write_jsonl
from tiny_model import make_tiny_model

from zephyr_bench.store import Store

COMMAND = str(Path(sys.executable).with_name("zephyr-bench"))


def run(*words: str, before: Callable[[], Any] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [COMMAND, *words], capture_output=True, text=True, timeout=120, check=False, env=environment, preexec_fn=before
    )


def assert_told(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.strip().count("\n") == 0
    for part in parts:
        assert part in done.stderr


def mini(model: Path, store: Path, *more: str) -> list[str]:
    words = ["mtbench", "--model", str(model), "--benchmark", "mt-bench-mini", "--limit", "2"]
    return [*words, "--store", f"sqlite:///{store}", *more]


@pytest.mark.parametrize(
    ("folder", "name", "text", "told"),
    [
        ("judges", "mine", "kind: rubric\ndescription: x\nmodle: y\n", "mine.yaml line 3: unknown key 'modle'"),
        ("judges", "mine", "kind: oracle\ndescription: x\n", "mine.yaml line 1: unknown kind 'oracle'"),
        ("judges", "mine", "kind: [rubric\n", "mine.yaml line 2: malformed YAML"),
        ("judges", "mine", "- rubric\n", "mine.yaml line 1: expected a mapping"),
    ],
)
def test_a_judge_file_that_does_not_fit(
    folder: str, name: str, text: str, told: str, model_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / f"{name}.yaml").write_text(text)
    assert_told(run(*mini(model_dir, tmp_path / "s.db", "--include", str(tmp_path), "--judge", name)), told)


def test_a_question_file_that_does_not_fit(model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": "a", "category": "x", "turns": ["hi"]}\n{"id": "b", "turns": []}\n')
    benchmark = tmp_path / "mine.yaml"
    benchmark.write_text("kind: mt_bench\ndescription: x\njudge: rubric\nquestions: {file: q.jsonl}\n")
    done = run(
        "mtbench", "--model", str(model_dir), "--benchmark", str(benchmark), "--store", f"sqlite:///{tmp_path}/s.db"
    )
    assert_told(done, "q.jsonl line 2")


def test_a_preference_pair_with_equal_sides(model_dir: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "pairs.jsonl", [PAIRS[0], {"prompt": "Hi", "chosen": "Yes.", "rejected": "Yes."}])
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"description: x\nmodel: {model_dir}\n"
        "ddpo: {data: [{file: pairs.jsonl}], learning_rate: 1e-5, global_batch: 2, beta: 0.1}\n"
    )
    done = run("train", "--recipe", str(recipe), "-o", str(tmp_path / "out"), "--store", f"sqlite:///{tmp_path}/s.db")
    assert_told(done, "pairs.jsonl line 2: chosen and rejected are the same text")


def test_a_directory_without_weights(model_dir: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(model_dir, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    assert_told(run(*mini(bare, tmp_path / "s.db")), str(bare), "no weights")


def test_weights_that_are_broken(model_dir: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model_dir, broken)
    (broken / "model.safetensors").write_bytes(b"not weights")
    assert_told(run(*mini(broken, tmp_path / "s.db")), str(broken), "can't be loaded")


def test_no_chat_template(tmp_path: Path) -> None:
    plain = make_tiny_model(tmp_path / "plain", chat_template=None, max_length=2048)
    assert_told(run(*mini(plain, tmp_path / "s.db")), "has no chat template")


def test_a_store_that_is_no_store(model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(os.urandom(5000))
    assert_told(run(*mini(model_dir, tmp_path / "s.db")), "s.db")


def test_a_store_of_a_newer_version(model_dir: Path, tmp_path: Path) -> None:
    Store(f"sqlite:///{tmp_path}/s.db").close()
    with sqlite3.connect(tmp_path / "s.db") as connection:
        connection.execute("update zephyr_bench_revision set version_num = '9999'")
    assert_told(run(*mini(model_dir, tmp_path / "s.db")), "newer zephyr-bench")


def test_a_full_disk_keeps_what_was_done_and_the_same_command_goes_on(model_dir: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    Store(f"sqlite:///{store}").close()
    most = store.stat().st_size + 40_000

    def no_more_room() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    words = mini(model_dir, store, "--format", "json")
    words[words.index("--limit") + 1] = "8"
    assert_told(run(*words, before=no_more_room), "s.db", "run the same command again")
    with sqlite3.connect(store) as connection:
        (kept,) = connection.execute("select count(*) from answers").fetchone()
    assert 0 < kept < 16
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["n"] == 16


def test_a_command_that_only_reads_makes_no_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/typo.db"
    for words in (["runs"], ["leaderboard"], ["compare", "a", "b"], ["runs", "show", "x"]):
        assert_told(run(*words, "--store", url), "typo.db", "zephyr-bench mtbench")
    assert list(tmp_path.iterdir()) == []


def test_a_benchmark_of_another_kind(model_dir: Path, tmp_path: Path) -> None:
    words = ["open-llm", "--model", str(model_dir), "--benchmark", "mt-bench-mini"]
    assert_told(run(*words, "--store", f"sqlite:///{tmp_path}/s.db"), "mt-bench-mini is of kind mt_bench")


@pytest.mark.parametrize("text", ["model: 2024-99-99\n", "model: &a [*a]\n", "model: " + "[" * 3000])
def test_yaml_that_python_chokes_on(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    assert_told(run("train", "--recipe", str(tmp_path / "mine.yaml")), "mine.yaml")


def test_prompts_that_are_held_out_too(model_dir: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "p.jsonl", [{"id": "1", "prompt": "Hi", "checks": [{"check": "words", "max": 3}]}])
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"description: x\nmodel: {model_dir}\n"
        "feedback: {prompts: {file: p.jsonl}, held_out: {file: p.jsonl}, engines: [start], samples: 2, "
        "sampling: {temperature: 1.0}, judge: rubric}\n"
    )
    done = run("train", "--recipe", str(recipe), "-o", str(tmp_path / "out"), "--store", f"sqlite:///{tmp_path}/s.db")
    assert done.returncode == 2
    assert "prompt '1' is one of feedback.prompts too" in done.stderr
