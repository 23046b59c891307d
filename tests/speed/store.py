"""A million scores: `leaderboard` and `compare` against pandas, which reads the same scores by SQL and groups them.

    .venv/bin/python tests/speed/store.py [--json] [--quick] [--rounds N]

A store in a temporary SQLite file: 100 models, each asked 10,000 questions, graded from 1 to 10. Questions are hard or
easy for all, models differ a little, so that many pairs of models are close.

leaderboard-1M        `render_leaderboard`, opening the store included: means, errors, and the rank ranges by all 4,950
                      pairs of models. The peer reads model, benchmark, question and grade of every sample by `read_sql`
                      over sqlite3, and takes mean and standard error of each model by `groupby`; it ranks nobody
compare-1M            `render_comparison` of two of the models, opening the store included: every metric and category
                      with interval, p-value and effect, and the questions that moved most; it reads the two models'
                      20,000 scores. The peer is "pandas reading the same scores by SQL and grouping them", the
                      leaderboard's million of them, and then takes two of the models by question: mean difference and
                      its error. It reads fifty times the rows that its answer needs, which is most of its time
compare-two           the same against a peer whose SQL asks for the two models only, as a careful user's would: 20,000
                      scores on both sides

Both sides run in this process, in turn, imports and a first call before the clock starts. So `leaderboard-1M` is of a
store whose table `kept` is full, as the commands that evaluate and import leave it. A line of its own tells the cold
leaderboard: the first of a store without (an old one, or one loaded from a dump), beside pandas' once. Before any
round, both must find the same numbers. The commands themselves, from the shell's side, Python's start included, are
held to 2 seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from ratio_row import HEAD, Row

from zephyr_bench.benchmarks import headlines
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.reports.compare import render_comparison
from zephyr_bench.reports.leaderboard import render_leaderboard
from zephyr_bench.store import RunStart, Store

TARGET = 3.0
MOST_SECONDS = 2.0  # of a command
BENCHMARK, METRIC = "mt-bench-mini", "score"
CATEGORIES = ("coding", "extraction", "humanities", "math", "reasoning", "roleplay", "stem", "writing")
BASE, CANDIDATE = "model-000", "model-001"
EVERY_SCORE = (
    "SELECT runs.model, runs.benchmark, samples.question, samples.value FROM samples "
    "JOIN runs ON runs.number = samples.run WHERE samples.metric = 'score' AND runs.status = 'complete'"
)


@dataclass(frozen=True)
class Size:
    models: int
    questions: int
    rounds: int


FULL = Size(models=100, questions=10_000, rounds=5)
QUICK = Size(models=20, questions=1_000, rounds=2)


def fill(url: str, size: Size) -> None:
    random = np.random.default_rng(0)
    hardness = random.normal(0, 2, size.questions)  # (questions,)
    names = [f"q{number:06}" for number in range(size.questions)]
    with Store(url) as store:
        for number in range(size.models):
            grades = 6 + 0.02 * number - hardness + random.normal(0, 1.5, size.questions)
            grades = np.clip(np.round(grades), 1, 10)
            model = f"model-{number:03}"
            store.put_model(fingerprint=fingerprint(model), name=model, location="somewhere")
            start = RunStart(
                benchmark=BENCHMARK,
                model=model,
                model_fingerprint=fingerprint(model),
                engine_fingerprint=fingerprint([model, "engine"]),
                judge="rubric",
                judge_fingerprint=fingerprint("rubric"),
                protocol={"limit": None},
            )
            run = store.start_run(start)
            run.add_samples(
                SampleScore(name, CATEGORIES[place % len(CATEGORIES)], METRIC, grade, 1)
                for place, (name, grade) in enumerate(zip(names, grades.tolist(), strict=True))
            )
            run.finish("complete", _scores(grades))


def _scores(grades: Any) -> list[Score]:
    by_category = {name: grades[place :: len(CATEGORIES)] for place, name in enumerate(CATEGORIES)}
    return [_score(METRIC, grades), *(_score(name, own) for name, own in by_category.items())]


def _score(metric: str, grades: Any) -> Score:
    return Score(metric, float(grades.mean()), float(grades.std(ddof=1) / math.sqrt(len(grades))), len(grades))


def our_leaderboard(url: str) -> list[dict[str, Any]]:
    with Store(url) as store:
        found: list[dict[str, Any]] = json.loads(render_leaderboard(store, headlines(), format="json"))
    return [row for row in found if row["metric"] == METRIC]


def our_comparison(url: str) -> dict[str, Any]:
    with Store(url) as store:
        (found,) = json.loads(render_comparison(store, BASE, CANDIDATE, format="json"))
    (row,) = [row for row in found["metrics"] if row["metric"] == METRIC]
    return dict(row)


def read(path: Path, query: str = EVERY_SCORE) -> pd.DataFrame:
    connection = sqlite3.connect(path)
    try:
        return pd.read_sql(query, connection)
    finally:
        connection.close()


def pandas_leaderboard(path: Path) -> pd.DataFrame:
    grouped = read(path).groupby(["model", "benchmark"])["value"].agg(["mean", "sem", "count"])
    return grouped.sort_values("mean", ascending=False)


def pandas_comparison(path: Path, query: str = EVERY_SCORE) -> tuple[float, float]:
    """Mean difference of paired questions, and its standard error."""
    table = read(path, query).groupby(["question", "model"])["value"].mean().unstack()
    differences = (table[CANDIDATE] - table[BASE]).dropna()
    return float(differences.mean()), float(differences.sem())


def pandas_comparison_of_two(path: Path) -> tuple[float, float]:
    return pandas_comparison(path, f"{EVERY_SCORE} AND runs.model IN ('{BASE}', '{CANDIDATE}')")


def check(url: str, path: Path) -> None:
    """Raises SystemExit where the two sides don't say the same."""
    ours = {row["model"]: (row["value"], row["stderr"]) for row in our_leaderboard(url)}
    theirs = {model: (row["mean"], row["sem"]) for (model, _), row in pandas_leaderboard(path).iterrows()}
    change = our_comparison(url)
    found = [(change["difference"], change["stderr"]), *ours.values()]
    expected = [pandas_comparison(path), *(theirs[model] for model in ours)]
    if len(ours) != len(theirs) or not np.allclose(found, expected, rtol=1e-9, atol=1e-12):
        raise SystemExit("ours and pandas' numbers differ")
    if pandas_comparison(path) != pandas_comparison_of_two(path):
        raise SystemExit("pandas finds something else in two models than in all")


def row(name: str, ours: Callable[[], Any], peer: Callable[[], Any], rounds: int) -> Row:
    ours(), peer()
    pairs = [(seconds(ours), seconds(peer)) for _ in range(rounds)]
    return Row(name, "s", pairs, TARGET, less_is_better=True)


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def command_seconds(rounds: int, *words: str) -> list[float]:
    """Of the command line, start to end."""
    command = [sys.executable, "-m", "zephyr_bench", *words]
    return sorted(seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="20,000 scores: whether it works, not how fast it is")
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    rounds = options.rounds or size.rounds
    with TemporaryDirectory() as folder:
        path = Path(folder) / "results.db"
        url = f"sqlite:///{path}"
        filled = seconds(lambda: fill(url, size))
        cold = seconds(lambda: our_leaderboard(url)), seconds(lambda: pandas_leaderboard(path))
        check(url, path)
        rows = [
            row("leaderboard-1M", lambda: our_leaderboard(url), lambda: pandas_leaderboard(path), rounds),
            row("compare-1M", lambda: our_comparison(url), lambda: pandas_comparison(path), rounds),
            row("compare-two", lambda: our_comparison(url), lambda: pandas_comparison_of_two(path), rounds),
        ]
        timed = {
            "leaderboard": command_seconds(rounds, "leaderboard", "--store", url),
            f"leaderboard --benchmark {BENCHMARK}": command_seconds(
                rounds, "leaderboard", "--benchmark", BENCHMARK, "--store", url
            ),
            f"compare {BASE} {CANDIDATE}": command_seconds(rounds, "compare", BASE, CANDIDATE, "--store", url),
        }
        bytes_of_store = path.stat().st_size
    say = sys.stderr if options.json else sys.stdout
    print(
        f"{size.models} models x {size.questions:,} questions, {bytes_of_store / 2**20:.0f} MiB; "
        f"pandas {pd.__version__}; load {os.getloadavg()[0]:.1f}",
        file=say,
    )
    print(f"filled in {filled:.1f} s", file=say)
    print(
        f"leaderboard, cold (it derives and keeps the terms): {cold[0]:.1f} s; pandas once: {cold[1]:.1f} s", file=say
    )
    print(HEAD, *(one.line() for one in rows), sep="\n", file=say)
    for name, times in timed.items():
        median = times[len(times) // 2]
        met = "met" if median <= MOST_SECONDS else "missed"
        print(
            f"zephyr-bench {name}: {times[0]:.2f} {median:.2f} {times[-1]:.2f} s of {MOST_SECONDS:g}, {met}", file=say
        )
    if options.json:
        print(json.dumps([one.told() for one in rows], indent=2))


if __name__ == "__main__":
    main()
