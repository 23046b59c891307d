"""`zephyr-bench watch` as a user meets it: refusals, exit codes, Ctrl-C, a model of the hub."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_hub import command, fake_hub
from tiny_model import make_tiny_model

COMMAND = str(Path(sys.executable).with_name("zephyr-bench"))
_SECONDS = 120


@pytest.fixture
def folder(tmp_path: Path, model_dir: Path) -> Path:
    """With a recipe, and a checkpoint that its trainer has finished."""
    recipe = "description: tiny\nmodel: absent\nevaluate: [{benchmark: alpaca-eval-mini, limit: 2}]\n"
    (tmp_path / "tiny.yaml").write_text(recipe)
    shutil.copytree(model_dir, tmp_path / "out" / "checkpoint-7")
    time.sleep(0.02)
    (tmp_path / "out" / "checkpoint-7" / "trainer_state.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent"], "watch absent: no such folder; make it first, or add --once to evaluate a hub id."),
        (["tiny.yaml", "--once"], "watch tiny.yaml: is a file; expected the folder that a trainer writes"),
        (
            ["owner/name", "--once"],
            "model owner/name: no such directory, and HF_HUB_OFFLINE forbids the hub; go online",
        ),
        (["out", "--engine", "openai"], "--engine openai: a server runs its own model, not a folder's"),
        (["out", "--plot", "curve.svg"], "--plot curve.svg: expected a name that ends in .png."),
        (["out", "--tag", " "], "--tag: a tag is a word, such as nightly"),
        (["out", "--set", "evaluate.0.benchmark=alpaca"], "unknown benchmark 'alpaca'. Did you mean alpaca-eval"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(folder: Path, words: list[str], message: str) -> None:
    done = command("watch", *words, "--recipe", "tiny.yaml", home=folder)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_results_are_printed_though_a_broken_checkpoint_makes_the_exit_code_2(folder: Path) -> None:
    shutil.copytree(folder / "out" / "checkpoint-7", folder / "out" / "checkpoint-8")
    (folder / "out" / "checkpoint-8" / "tokenizer.json").unlink()
    (folder / "out" / "checkpoint-8" / "trainer_state.json").write_text("{ }")
    done = command("watch", "out", "--recipe", "tiny.yaml", "--once", "--format", "json", home=folder)
    assert done.returncode == 2
    assert {(row["model"], row["step"], row["n"]) for row in json.loads(done.stdout)} == {("checkpoint-7", 7, 2)}
    assert "warning: checkpoint-8 can't be evaluated: model directory" in done.stderr
    assert "error: 1 of 2 checkpoints in out can't be evaluated: checkpoint-8: model directory" in done.stderr


def test_ctrl_c_ends_a_watch_with_its_curve(folder: Path) -> None:
    words = ["watch", "out", "--recipe", "tiny.yaml", "--every", "1", "--plot", "curve.png", "--format", "markdown"]
    process = subprocess.Popen(
        [COMMAND, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ZEPHYR_BENCH_STORE": f"sqlite:///{folder}/store.db"},
    )
    deadline = time.monotonic() + _SECONDS
    while not (folder / "curve.png").exists():  # it waits for more now
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=_SECONDS)
    assert process.returncode == 130
    assert "| 7 | checkpoint-7 |" in out
    assert err.splitlines()[-1] == "interrupted; what was done is stored, run the same command again to go on"


def evaluated(folder: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(folder / "zephyr-bench.db") as store:
        return store.execute("select model, status from runs").fetchall()


@pytest.mark.slow
def test_the_hubs_newest_revision_is_evaluated_once(folder: Path, tmp_path: Path) -> None:
    models = [make_tiny_model(tmp_path / f"revision-{seed}", seed=seed, max_length=2048) for seed in range(2)]
    published = [{file.name: file.read_bytes() for file in model.iterdir()} for model in models]
    files: dict[str, bytes] = {}

    def commit() -> str:
        return hashlib.sha1(b"".join(files.values())).hexdigest()

    def listed(name: str) -> dict[str, object]:
        digest, size = hashlib.sha256(files[name]).hexdigest(), len(files[name])
        lfs = {"lfs": {"sha256": digest, "size": size, "pointerSize": 1}} if name.endswith(".safetensors") else {}
        return {"rfilename": name, "size": size, **lfs}

    def reply(path: str) -> bytes | None:
        if "/tree/" in path:
            return json.dumps([{"type": "file", "path": name, "size": 1, "oid": commit()} for name in files]).encode()
        if path.startswith("/api/models/someone/tiny"):
            told = {"id": "someone/tiny", "sha": commit(), "siblings": [listed(name) for name in files]}
            return json.dumps(told).encode()
        return files.get(path.rpartition("/")[2])

    words = ("watch", "someone/tiny", "--recipe", "tiny.yaml", "--once", "--newest", "--tag", "nightly")
    with fake_hub(reply, commit=commit) as address:
        for revision, runs in ((0, 1), (1, 2), (1, 2)):
            files.update(published[revision])
            done = command(*words, home=folder, endpoint=address)
            assert done.returncode == 0, done.stderr
            assert evaluated(folder) == [("someone/tiny", "complete")] * runs
    done = command(*words, home=folder)
    assert done.returncode == 0, done.stderr
    assert len(evaluated(folder)) == 2
    assert "HF_HUB_OFFLINE forbids the hub; of someone/tiny the revision that is here is taken" in done.stderr
    done = command(*words, home=folder, endpoint="http://127.0.0.1:1")  # nobody listens there
    assert done.returncode == 4
    assert "error: watch someone/tiny: the hub does not answer from here" in done.stderr


@pytest.mark.slow
def test_the_revision_that_was_hashed_is_the_one_that_is_loaded(folder: Path, tmp_path: Path) -> None:
    """Though the hub goes on to another one meanwhile."""
    model = make_tiny_model(tmp_path / "revision", seed=0, max_length=2048)
    files = {file.name: file.read_bytes() for file in model.iterdir()}
    old, new = "a" * 40, "b" * 40
    asked: list[str] = []

    def listed(name: str) -> dict[str, object]:
        digest, size = hashlib.sha256(files[name]).hexdigest(), len(files[name])
        lfs = {"lfs": {"sha256": digest, "size": size, "pointerSize": 1}} if name.endswith(".safetensors") else {}
        return {"rfilename": name, "size": size, **lfs}

    def reply(path: str) -> bytes | None:
        if "/tree/" in path:
            return json.dumps([{"type": "file", "path": name, "size": 1, "oid": old} for name in files]).encode()
        if path.startswith("/api/models/someone/tiny"):
            return json.dumps({"id": "someone/tiny", "sha": old, "siblings": [listed(name) for name in files]}).encode()
        revision = path.partition("/resolve/")[2].partition("/")[0]
        if revision:
            asked.append(revision)
        return files.get(path.rpartition("/")[2]) if revision == old else None

    words = ("watch", "someone/tiny", "--recipe", "tiny.yaml", "--once")
    with fake_hub(reply, commit=lambda: old if asked[-1:] == [old] else new) as address:
        done = command(*words, home=folder, endpoint=address)
    assert done.returncode == 0, done.stderr
    assert set(asked) == {old}
