"""`gate --sequential` through the command line: killed and run again, and on what GPT-4 really said."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from judged_runs import answered, by_text, judge_at, judged, moody_judge
from killed import kill_once

from zephyr_bench.store import Store

COMMAND = str(Path(sys.executable).with_name("zephyr-bench"))
AT_ONCE = 4  # judgments under way


def gate(store: Path, *words: str) -> list[str]:
    told = ["--sequential", "--concurrency", str(AT_ONCE), "--no-annotations", "--quiet", "--format", "json"]
    return [COMMAND, "gate", *words, *told, "--store", f"sqlite:///{store}"]


def verdict(command: list[str]) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode in (0, 1, 3), done.stderr
    (entry,) = json.loads(done.stdout)["benchmarks"]
    return done.returncode, entry


def judgments(store: Path) -> int:
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
        return int(connection.execute("select count(*) from judgments").fetchone()[0])


def test_a_killed_gate_run_again_pays_nothing_twice_and_gives_the_same_verdict(tmp_path: Path) -> None:
    broken, unbroken = tmp_path / "broken.db", tmp_path / "unbroken.db"
    with moody_judge(tmp_path) as (mood, server, path):
        with Store(f"sqlite:///{broken}") as store:
            base = judged(store, "good", by_text(6, 8), judge_at(server, path)).run
            candidate = answered(store, "worse", by_text(3, 6)).run
        shutil.copy(broken, unbroken)
        words = ["--baseline", base, "--candidate", candidate, "--judge", str(path), "--judge-url", server.url]
        code, whole = verdict(gate(unbroken, *words))
        quick = mood.reply

        def slow(body: Mapping[str, Any]) -> str | int:
            time.sleep(0.2)
            return quick(body)

        server.reply, before = slow, judgments(broken)
        asked = len(server.requests)
        kill_once(gate(broken, *words), lambda: judgments(broken) >= before + 6)
        paid = judgments(broken) - before
        server.reply = quick
        again, entry = verdict(gate(broken, *words))
        lost = len(server.requests) - asked - entry["judge_calls"]["made"]
    assert paid >= 6
    assert (again, entry["verdict"], entry["sequential"]) == (code, whole["verdict"], whole["sequential"])
    assert entry["judge_calls"] == whole["judge_calls"]
    assert judgments(broken) - before == entry["judge_calls"]["made"]
    assert 0 <= lost <= AT_ONCE, "asked twice: what was under way when it was killed, and nothing else"


def test_what_gpt_4_said_of_two_real_models_is_certain_before_all_is_asked(real_mt_bench: Path, tmp_path: Path) -> None:
    """mistral-orpo and mistral-orpo-trl are 5.3 standard errors apart, over 80 questions of two turns."""
    graded = tmp_path / "graded.jsonl"
    graded.write_bytes(gzip.decompress((real_mt_bench / "orpo_gpt-4_single.jsonl.gz").read_bytes()))
    (tmp_path / "gpt-4.yaml").write_text("kind: recorded\ndescription: what GPT-4 said\nfiles: [graded.jsonl]\n")
    answers = [str(real_mt_bench / f"{name}.answers.jsonl.gz") for name in ("mistral-orpo", "mistral-orpo-trl")]
    store = tmp_path / "store.db"
    words = [COMMAND, "import", "fastchat", str(graded), *answers, "--store", f"sqlite:///{store}"]
    subprocess.run(words, check=True, capture_output=True, timeout=240)
    with Store(f"sqlite:///{store}") as opened:
        means = {run.model: opened.scores_of([run.id])[run.id][0].value or 0.0 for run in opened.runs() if run.judge}
    worse, better = sorted(("mistral-orpo", "mistral-orpo-trl"), key=lambda name: means[name])
    by = ["--judge", str(tmp_path / "gpt-4.yaml"), "--order-seed", "1"]
    code, entry = verdict(gate(store, "--baseline", better, "--candidate", worse, *by))
    assert (code, entry["reason"]) == (1, "lower")
    calls = entry["judge_calls"]
    assert (calls["planned"], calls["made"]) == (320, 4 * entry["sequential"]["judged"]), "it was judged twice"
    assert calls["made"] < 0.9 * calls["planned"]
    code, entry = verdict(gate(store, "--baseline", worse, "--candidate", better, *by))
    assert (code, entry["reason"], entry["judge_calls"]["planned"]) == (0, "not-inferior", 160)
    assert entry["judge_calls"]["made"] < 140
