"""`zephyr-bench import alpaca-eval` and `export alpaca-eval` as a user meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from alpaca_eval_rows import annotation, output, read, write
from alpaca_files import instructions, write_data

from zephyr_bench.store import Store

COMMAND = str(Path(sys.executable).with_name("zephyr-bench"))


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "XDG_DATA_HOME": str(cwd / "kept")}
    return subprocess.run([COMMAND, *words], capture_output=True, text=True, cwd=cwd, env=env, timeout=120, check=False)


def test_files_become_runs_of_the_leaderboard_and_files_again(tmp_path: Path) -> None:
    write_data(tmp_path / "data", 4)
    rows = [
        annotation(n, preference, instruction=text)
        for n, (text, preference) in enumerate(zip(instructions(4), [2, 0, None, 1.75], strict=True))
    ]
    write(tmp_path / "judged.json.gz", rows)
    write(tmp_path / "second.jsonl", [annotation(0, 1.0, model="n", instruction=instructions(4)[0])])
    write(tmp_path / "outputs.json", [output(0, model="alone", instruction=instructions(4)[0])])
    files = ["judged.json.gz", "second.jsonl", "outputs.json", "--data", "data"]

    done = run("import", "alpaca-eval", *files, "--format", "json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    keys = ("model", "benchmark", "judge", "answers", "judgments", "without_score", "not_judged", "state")
    assert [tuple(row[key] for key in keys) for row in found] == [
        ("m", "alpaca-eval-1", "alpaca_eval_gpt4", 8, 4, 1, 0, "new"),
        ("n", "alpaca-eval-1", "alpaca_eval_gpt4", 2, 1, 0, 3, "new"),
        ("alone", "alpaca-eval-2", None, 1, 0, 0, 0, "new"),
    ]
    with Store(f"sqlite:///{tmp_path / 'zephyr-bench.db'}") as store:  # for the first leaderboard
        assert store.kept([row["run"] for row in found], "terms-1/win-rate").keys() == {row["run"] for row in found[:2]}
    again = json.loads(run("import", "alpaca-eval", *files, "--format", "json", cwd=tmp_path).stdout)
    assert again == [{**row, "state": "already there"} for row in found]

    board = json.loads(run("leaderboard", "--benchmark", "alpaca-eval-1", "--format", "json", cwd=tmp_path).stdout)
    assert {row["model"]: (row["value"], row["n"]) for row in board if row["metric"] == "win-rate"} == {
        "m": (75.0, 3),
        "n": (0.0, 1),
    }
    words = ["export", "alpaca-eval", *(row["run"] for row in found), "-o", "out", "--format", "json"]
    written = run(*words, cwd=tmp_path)
    assert (written.returncode, written.stderr) == (0, "")
    assert {row["file"]: row["rows"] for row in json.loads(written.stdout)} == {
        "out/m/model_outputs.json": 4,
        "out/n/model_outputs.json": 1,
        "out/alone/model_outputs.json": 1,
        "out/m/alpaca_eval_gpt4/annotations.json": 4,
        "out/n/alpaca_eval_gpt4/annotations.json": 1,
        "out/reference_outputs.json": 4,
    }
    assert read(tmp_path / "out" / "m" / "alpaca_eval_gpt4" / "annotations.json") == rows
    exported = [str(path) for path in sorted((tmp_path / "out").rglob("*.json"))]
    table = run("import", "alpaca-eval", *exported, "--data", "data", cwd=tmp_path).stdout
    assert (table.count("already there"), table.count("new")) == (3, 0)


def test_a_mistake_is_one_sentence_and_makes_no_store(tmp_path: Path) -> None:
    write(tmp_path / "a.json", [annotation(), annotation(1, 7)])
    write(tmp_path / "b.json", [annotation()])
    mistakes = {
        (
            "a.json",
        ): "a.json row 2: preference: expected 1 (output_1 is better) to 2 (output_2 is), 0 for a draw, or null",
        ("absent.json",): "absent.json: can't be read",
        ("b.json", "--version", "2"): "b.json row 1: generator_1, the baseline, is text_davinci_003, and alpaca-eval-2",
        ("b.json", "--version", "1", "--benchmark", "alpaca-eval-1"): "give one of them",
        ("b.json", "--benchmark", "alpaca-eval-3"): "unknown benchmark 'alpaca-eval-3'. Did you mean",
        ("b.json", "--data", "nowhere"): "--data nowhere: no such folder",
    }
    for words, message in mistakes.items():
        done = run("import", "alpaca-eval", *words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    done = run("export", "alpaca-eval", "some-run", "-o", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is none yet" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]
