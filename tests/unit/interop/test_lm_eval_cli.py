"""`zephyr-bench import lm-eval` and `export lm-eval` as a user meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from lm_eval_files_made import gsm8k_rows, results, rows, write, write_all

from zephyr_bench.store import Store

COMMAND = str(Path(sys.executable).with_name("zephyr-bench"))


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "XDG_DATA_HOME": str(cwd / "kept")}
    return subprocess.run([COMMAND, *words], capture_output=True, text=True, cwd=cwd, env=env, timeout=120, check=False)


def test_files_become_runs_that_are_compared_and_files_again(tmp_path: Path) -> None:
    one = {"arc_challenge": rows("arc_challenge", 1.0, 0.0, 1.0, 0.0), "gsm8k": gsm8k_rows(1.0, 0.0)}
    other = {"arc_challenge": rows("arc_challenge", 1.0, 1.0, 1.0, 0.0)}
    files = [*write_all(tmp_path / "a__one", one, model="a/one"), *write_all(tmp_path / "other", other, model="other")]
    names = [str(path.relative_to(tmp_path)) for path in files]

    done = run("import", "lm-eval", *names, "--format", "json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    keys = ("model", "benchmark", "tasks", "samples", "without_score", "missing", "state")
    assert [tuple(row[key] for key in keys) for row in found] == [
        ("a/one", "open-llm-1", 2, 6, 0, "hellaswag, mmlu, truthfulqa_mc2, winogrande", "new"),
        ("other", "open-llm-1", 1, 4, 0, "hellaswag, mmlu, truthfulqa_mc2, winogrande, gsm8k", "new"),
    ]
    with Store(f"sqlite:///{tmp_path / 'zephyr-bench.db'}") as store:  # for the first leaderboard
        for id, scores in store.scores_of([row["run"] for row in found]).items():
            assert store.kept([id], f"terms-1/{scores[0].metric}").keys() == {id}
    again = run("import", "lm-eval", *names, cwd=tmp_path).stdout
    assert again.count("already there") == 2
    assert f"run {found[1]['run']}: no average, for it lacks hellaswag" in again

    board = json.loads(run("leaderboard", "--benchmark", "open-llm-1", "--format", "json", cwd=tmp_path).stdout)
    values = {(row["model"], row["metric"]): row["value"] for row in board}
    assert (values["a/one", "arc_challenge"], values["other", "arc_challenge"]) == (50.0, 75.0)
    assert values.get(("a/one", "average")) is None
    compared = run("compare", "a/one", "other", "--format", "json", cwd=tmp_path)
    assert compared.returncode == 0
    assert '"n": 4' in compared.stdout

    written = run("export", "lm-eval", *(row["run"] for row in found), "-o", "out", "--format", "json", cwd=tmp_path)
    assert (written.returncode, written.stderr) == (0, "")
    time = "2026-09-21T14-13-20.250000"
    assert {row["file"]: row["rows"] for row in json.loads(written.stdout)} == {
        f"out/a__one/results_{time}.json": 2,
        f"out/a__one/samples_arc_challenge_{time}.jsonl": 4,
        f"out/a__one/samples_gsm8k_{time}.jsonl": 4,
        f"out/other/results_{time}.json": 1,
        f"out/other/samples_arc_challenge_{time}.jsonl": 4,
    }


def test_a_mistake_is_one_sentence_and_makes_no_store(tmp_path: Path) -> None:
    told = results({"piqa": rows("piqa", 1.0)})
    write(tmp_path / "piqa.json", told)
    write(tmp_path / "samples_piqa_1.jsonl", rows("piqa", 1.0))
    mistakes = {
        ("absent.json",): "absent.json: can't be read",
        ("piqa.json",): "piqa.json: piqa is no task of open-llm-1; name its benchmark with --benchmark",
        ("piqa.json", "--benchmark", "open-llm-1"): "piqa.json: has none of open-llm-1's tasks; found piqa",
        ("piqa.json", "--benchmark", "mt-bench"): "--benchmark mt-bench: lm-eval's files are of the kind of open-llm-1",
        ("piqa.json", "--benchmark", "open-llm-3"): "unknown benchmark 'open-llm-3'. Did you mean",
        ("samples_piqa_1.jsonl",): "samples_piqa_1.jsonl: samples alone don't tell how many shots",
    }
    for words, message in mistakes.items():
        done = run("import", "lm-eval", *words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert run("export", "lm-eval", "some-run", "-o", "out", cwd=tmp_path).returncode == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["piqa.json", "samples_piqa_1.jsonl"]
