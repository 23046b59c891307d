"""The command line as a user meets it: light to start, clear when refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("zephyr-bench"))


def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *words], capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


@pytest.mark.parametrize("module", ["zephyr_bench", "zephyr_bench.cli"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    heavy = ["torch", "transformers", "pandas", "datasets", "lm_eval", "scipy", "sqlalchemy", "openai"]
    code = f"import {module}, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_lists_the_commands() -> None:
    done = run("--help")
    assert done.returncode == 0
    for command in (
        "train-and-eval",
        "train",
        "mtbench",
        "alpaca-eval",
        "open-llm",
        "leaderboard",
        "compare",
        "runs",
        "list",
        "doctor",
    ):
        assert command in done.stdout


def test_a_word_in_a_message_writes_no_line_and_no_command_of_a_workflow(tmp_path: Path) -> None:
    """GitHub's runner reads commands in stderr, too."""
    for name in ("ev\n::error::pwn", "::error::pwn", "ev ##[error]pwn"):
        done = run("compare", f"{name}.json", "other.json", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert "##[" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["mtbench", "--model", "m", "--benchmark", "mt-bensh"],
            "unknown benchmark 'mt-bensh'. Did you mean mt-bench",
        ),
        (
            ["mtbench", "--model", "m", "--judge", "rubrick", "--benchmark", "mt-bench-mini"],
            "unknown judge 'rubrick'. Did you mean rubric",
        ),
        (["train-and-eval", "--recipe", "smoll"], "unknown recipe 'smoll'. Did you mean smol"),
        (["mtbench", "--model", "./absent", "--benchmark", "mt-bench-mini"], "./absent"),
        (
            [
                "mtbench",
                "--model",
                "smollm2-135m-instruct",
                "--batch-size",
                "many",
                "--benchmark",
                "mt-bench-mini",
            ],
            "--batch-size many: expected auto",
        ),
        (
            [
                "open-llm",
                "--model",
                "smollm2-135m-instruct",
                "--benchmark",
                "open-llm-mini",
                "--tasks",
                "hellaswagg",
            ],
            "no task 'hellaswagg'. Did you mean hellaswag",
        ),
        (
            ["alpaca-eval", "--model", "m", "--version", "1", "--benchmark", "alpaca-eval-mini"],
            "give one of them",
        ),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_2(words: list[str], message: str, tmp_path: Path) -> None:
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []  # no store is made for a mistake


def test_a_missing_api_key_is_found_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    done = run("mtbench", "--model", "smollm2-135m-instruct", cwd=tmp_path)
    assert done.returncode == 2
    assert "OPENAI_API_KEY" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_zephyr7b_says_all_that_is_missing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = run("train-and-eval", "--recipe", "zephyr7b", cwd=tmp_path)
    assert done.returncode == 2
    for part in ("GPU memory", "hub", "OPENAI_API_KEY", "mistralai/Mistral-7B-v0.1", "ultrachat_200k"):
        assert part in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_dry_run_prints_the_whole_plan_and_does_nothing(tmp_path: Path) -> None:
    done = run("train-and-eval", "--recipe", "zephyr7b", "--dry-run", "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert [stage["stage"] for stage in plan["stages"]] == ["dsft", "ddpo"]
    assert plan["stages"][1]["steps"] == 5733
    assert {e["benchmark"]: e["questions"] for e in plan["evaluations"]}["alpaca-eval-1"] == 805
    assert list(tmp_path.iterdir()) == []


def test_list_prints_what_can_be_named() -> None:
    done = run("list", "benchmarks", "--format", "json")
    assert {"mt-bench", "mt-bench-mini", "alpaca-eval-mini", "open-llm-mini"} <= {
        row["name"] for row in json.loads(done.stdout)
    }


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    done = run("leaderboard", cwd=tmp_path)
    assert "mtbench" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
