"""`zephyr-bench import fastchat` and `export fastchat` as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from fastchat_files import QUESTIONS, answer, multiset, pair, read, single, write

from zephyr_bench.store import Store

COMMAND = str(Path(sys.executable).with_name("zephyr-bench"))


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *words], capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


def test_files_become_runs_of_the_leaderboard_and_files_again(tmp_path: Path) -> None:
    rows = [single("m", 81, 1), single("m", 81, 2, -1), single("n", 81, 1, 9), single("n", 81, 2, 8.5)]
    write(tmp_path / "q.jsonl", QUESTIONS)
    write(tmp_path / "judged.jsonl", rows)
    write(tmp_path / "answers.jsonl", [answer("m"), answer("base")])
    write(tmp_path / "pairs.jsonl", [pair("m", "base", ("model_1", "tie"))])
    files = ["q.jsonl", "judged.jsonl", "answers.jsonl", "pairs.jsonl"]

    done = run("import", "fastchat", *files, "--format", "json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    keys = ("model", "benchmark", "judge", "answers", "judgments", "without_score", "not_judged", "state")
    with Store(f"sqlite:///{tmp_path / 'zephyr-bench.db'}") as store:  # for the first leaderboard
        assert store.kept([row["run"] for row in found], "terms-1/score").keys() == {row["run"] for row in found[:2]}
    assert [tuple(row[key] for key in keys) for row in found] == [
        ("m", "mt-bench", "gpt-4", 2, 2, 1, 0, "new"),
        ("n", "mt-bench", "gpt-4", 0, 2, 0, 0, "new"),
        ("m", "mt-bench-pairwise", "gpt-4", 3, 2, 0, 1, "new"),
        ("base", "mt-bench", None, 2, 0, 0, 0, "new"),
    ]
    again = json.loads(run("import", "fastchat", *files, "--format", "json", cwd=tmp_path).stdout)
    assert again == [{**row, "state": "already there"} for row in found]

    board = json.loads(run("leaderboard", "--benchmark", "mt-bench", "--format", "json", cwd=tmp_path).stdout)
    assert {row["model"]: row["value"] for row in board if row["metric"] == "score"} == {"m": 7.0, "n": 8.75}
    compared = run("compare", "m", "n", "--benchmark", "mt-bench", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr

    words = ["export", "fastchat", *(row["run"] for row in found), "-o", "out"]
    written = run(*words, "--format", "json", cwd=tmp_path)
    assert (written.returncode, written.stderr) == (0, "")
    assert {row["file"]: row["rows"] for row in json.loads(written.stdout)} == {
        "out/question.jsonl": 1,
        "out/model_answer/base.jsonl": 1,
        "out/model_answer/m.jsonl": 1,
        "out/model_judgment/gpt-4_single.jsonl": 4,
        "out/model_judgment/gpt-4_pair.jsonl": 1,
    }
    assert multiset(read(tmp_path / "out" / "model_judgment" / "gpt-4_single.jsonl")) == multiset(rows)
    assert "already there" in run("import", "fastchat", *files, cwd=tmp_path).stdout


def test_a_mistake_is_one_sentence_and_makes_no_store(tmp_path: Path) -> None:
    write(tmp_path / "mixed.jsonl", [single(), answer()])
    mistakes = {
        ("mixed.jsonl",): "mixed.jsonl line 2: found an answer",
        ("absent.jsonl",): "absent.jsonl: can't be read",
        ("mixed.jsonl", "--benchmark", "mt-bensh"): "unknown benchmark 'mt-bensh'. Did you mean mt-bench",
        (
            "mixed.jsonl",
            "--benchmark",
            "alpaca-eval-1",
        ): "--benchmark alpaca-eval-1: FastChat's files are of MT-Bench's",
    }
    for words, message in mistakes.items():
        done = run("import", "fastchat", *words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    done = run("export", "fastchat", "some-run", "-o", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is none yet" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mixed.jsonl"]


def test_questions_of_ones_own_make_a_benchmark_of_ones_own(tmp_path: Path) -> None:
    """Imported under its name, with the questions' own ids and categories."""
    write(tmp_path / "judged.jsonl", [single("m", "mini-writing-1")])
    write(tmp_path / "q.jsonl", [{**QUESTIONS[0], "question_id": "mini-writing-1", "category": "essays"}])
    done = run("import", "fastchat", "judged.jsonl", "q.jsonl", "--benchmark", "mt-bench-mini", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    board = run("leaderboard", "--benchmark", "mt-bench-mini", "--format", "json", cwd=tmp_path)
    assert {row["metric"] for row in json.loads(board.stdout)} == {"score", "turn-1", "essays"}
