"""AlpacaEval 2's figures: ours against alpaca_eval's, on the same annotations.

    .venv/bin/python tests/speed/alpaca_eval.py [--json] [--quick]

aggregate-20x805      from stored annotations of 20 models, 805 each, to a leaderboard, length control included.
                      alpaca_eval 0.6.6: make_leaderboard, over its own cache of annotations; no judge is asked. Ours:
                      from the store's samples of 20 runs to the leaderboard's text
aggregate-metrics     the same of ours against alpaca_eval's quickest way: evaluate(is_recompute_metrics_only=True) for
                      each model, which reads annotations.json and matches no outputs
aggregate-memory      the most that ours holds at once while it does that for all models, against for a quarter of them
length-control        plain and length-controlled rates of 20 models, 805 annotations each, function against function:
                      alpaca_eval 0.6.6's get_length_controlled_winrate on a data frame a model, saving no weights, its
                      download replaced by a local file; ours on the same rows as dictionaries, the file read once

Annotations and df_gamed.csv are made up. Both sides run in this process and alternate. Before, both must have computed
the same: plain rates to 1e-9 points, length-controlled ones to 1e-6, or the script fails.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

from ratio_row import HEAD, Row

HERE = Path(__file__).resolve().parent
sys.path = [place for place in sys.path if Path(place).resolve() != HERE]  # or this script is found for the package

import alpaca_eval.metrics.glm_winrate as peer
import numpy as np
import pandas as pd
from alpaca_eval import main as alpaca_eval_main

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.alpaca_data import baseline_answer, question_of
from zephyr_bench.benchmarks.alpaca_eval import AlpacaEval
from zephyr_bench.benchmarks.alpaca_scores import pair_facts, preference_sample
from zephyr_bench.benchmarks.one_order import Pair
from zephyr_bench.benchmarks.pairing import PairVerdict
from zephyr_bench.records import Answer
from zephyr_bench.reports.leaderboard import metric_table
from zephyr_bench.reports.standings import Standing
from zephyr_bench.stats.gamed_rows import read_gamed_rows
from zephyr_bench.stats.length_control import length_controlled
from zephyr_bench.stats.win_rates import head_to_head, preference_of
from zephyr_bench.store import RunStart, Store

sys.path.insert(0, str(HERE.parent))  # what tests share lies beside this folder

from gamed_file import write_gamed_file

INSTRUCTIONS = 805

Result = TypeVar("Result")
Annotation = dict[str, Any]
Figures = list[tuple[float, ...]]  # by model: win rate, its error, length-controlled rate, its error


@dataclass(frozen=True)
class Size:
    models: int
    rounds: int


FULL = Size(models=20, rounds=5)
QUICK = Size(models=4, rounds=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print rows for machines on stdout")
    parser.add_argument("--quick", action="store_true", help="few models, for a trial; the ratios mean little")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    logging.disable(logging.WARNING)  # alpaca_eval's, of dropped rows
    warnings.simplefilter("ignore", FutureWarning)  # scikit-learn's, of alpaca_eval's arguments
    load = os.getloadavg()[0]
    with TemporaryDirectory() as folder:
        rows = [*aggregate(size, Path(folder)), length_control(size, Path(folder))]
    remark = f"load {load:.1f} before; {os.cpu_count()} cores"
    if options.json:
        print(json.dumps([row.told() for row in rows]))
        print(remark, file=sys.stderr)
        return
    print(f"{size.models} models, {INSTRUCTIONS} annotations each, {size.rounds} rounds")
    print(HEAD)
    print(*(row.line() for row in rows), remark, sep="\n")


def aggregate(size: Size, folder: Path) -> list[Row]:
    """Milliseconds a model."""
    models = {f"model-{seed}": annotations(seed) for seed in range(size.models)}
    data = folder / "data" / "tatsu-lab" / "alpaca_eval"
    data.mkdir(parents=True)
    write_gamed_file(data / "df_gamed.csv", instructions=INSTRUCTIONS)
    reference = write_json(data / "alpaca_eval_gpt4_baseline.json", outputs(models["model-0"], "1"))
    peer.hf_hub_download = lambda **_: str(data / "df_gamed.csv")
    os.environ["XDG_DATA_HOME"] = str(folder)  # where ours keeps hashes of such files
    benchmark = cast(AlpacaEval, open_benchmark("alpaca-eval-2", data=folder / "data"))
    url = f"sqlite:///{folder}/store.db"
    fill_store(url, models, benchmark)
    config, all_outputs, cache = fill_caches(folder, models)
    recomputed = {name: recompute_folder(folder / name, rows) for name, rows in models.items()}

    def ours(most: int | None = None) -> Figures:
        standings = []
        with Store(url) as store:
            for run in list(reversed(store.runs()))[:most]:
                scores = benchmark.aggregate(store.samples_of(run.id))
                standings.append(Standing(run.model, "", run.benchmark, run.judge, tuple(scores), run.id))
        metric_table(standings, {"alpaca-eval-2": "win-rate"}, "markdown")
        found = [[standing.score(metric) for metric in ("win-rate", "lc-win-rate")] for standing in standings]
        return [tuple(v for s in pair if s for v in (s.value or 0.0, s.stderr or 0.0)) for pair in found]

    def make_leaderboard() -> Figures:
        board = folder / "board.csv"
        board.unlink(missing_ok=True)
        made, _ = alpaca_eval_main.make_leaderboard(
            board,
            annotators_config=config,
            all_model_outputs=all_outputs,
            reference_outputs=reference,
            is_return_instead_of_print=True,
            output_path=None,
            caching_path=cache,
            **METRIC,
        )
        return [figures(made.loc[name]) for name in models]

    def recompute() -> Figures:
        found = []
        for name, (given, known) in recomputed.items():
            made, _ = alpaca_eval_main.evaluate(
                given,
                reference,
                annotators_config=CONFIG,
                output_path=folder / name,
                precomputed_leaderboard=known,
                is_recompute_metrics_only=True,
                is_return_instead_of_print=True,
                is_cache_leaderboard=False,
                **METRIC,
            )
            found.append(figures(made.loc[name]))
        return found

    check_alike(ours(), quietly(make_leaderboard))
    check_alike(ours(), recompute())
    rows = []
    for name, theirs, rounds, target in (
        ("aggregate-20x805", make_leaderboard, size.rounds, 10.0),
        ("aggregate-metrics", recompute, size.rounds, 1.0),
    ):
        rows.append(Row(name, "ms a model", alternating(ours, theirs, rounds=rounds, models=size.models), target, True))
    rows.append(memory(ours, size.models))
    return rows


def memory(aggregate: Callable[[int], object], models: int) -> Row:
    """Most MiB held at once over a quarter of the models, and over all; the same where memory is flat."""
    held = []
    for count in (models, max(1, models // 4)):
        tracemalloc.start()
        aggregate(count)
        held.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    return Row("aggregate-memory", "MiB", [(held[0], held[1])], 0.8, True)


METRIC: dict[str, Any] = {
    "fn_metric": "get_length_controlled_winrate",
    "metric_kwargs": {"save_weights_dir": None},
    "sort_by": "length_controlled_winrate",
}
CONFIG = "weighted_alpaca_eval_gpt4_turbo"


def fill_store(url: str, models: Mapping[str, Sequence[Annotation]], benchmark: AlpacaEval) -> None:
    """As an import leaves them."""
    with Store(url) as store:
        for name, rows in models.items():
            store.put_model(fingerprint=name, name=name, location="")
            run = store.start_run(RunStart("alpaca-eval-2", name, name, name, judge=CONFIG, judge_fingerprint=CONFIG))
            samples = []
            for row in rows:
                question = question_of(row["instruction"], "")
                own = Answer(f"{name} {question.id}", name, question.id, 1, row["output_2"])
                pair = Pair(question, own, baseline_answer("gpt4_1106_preview", question, row["output_1"]))
                verdict = PairVerdict(preference_of(row["preference"]), None, "made up")
                samples += [*pair_facts([pair]), preference_sample(pair, verdict)]
            run.add_samples(samples)
            run.finish("complete", benchmark.aggregate(samples))


def fill_caches(folder: Path, models: Mapping[str, Sequence[Annotation]]) -> tuple[Path, Path, Path]:
    """An evaluator config of alpaca_eval outside its package, all outputs, and its cache of annotations."""
    config = folder / CONFIG
    shutil.copytree(Path(alpaca_eval_main.__file__).parent / "evaluators_configs" / CONFIG, config)
    prompt = "alpaca_eval_clf_gpt4_turbo"
    shutil.copytree(Path(alpaca_eval_main.__file__).parent / "evaluators_configs" / prompt, folder / prompt)
    rows = [row for annotated in models.values() for row in annotated]
    cached = [
        {key: row[key] for key in ("instruction", "output_1", "output_2", "annotator")}
        | {"preference": -1 if row["preference"] is None else row["preference"]}  # its mark of a failed one
        for row in rows
    ]
    return config, write_json(folder / "outputs.json", outputs(rows, "2")), write_json(folder / "cache.json", cached)


def recompute_folder(folder: Path, rows: Sequence[Annotation]) -> tuple[Path, Path]:
    """What evaluate() left there: outputs and annotations; and the leaderboard with the model on it."""
    (folder / CONFIG).mkdir(parents=True)
    write_json(folder / CONFIG / "annotations.json", list(rows))
    board = folder / "board.csv"
    board.write_text(f",win_rate,standard_error\n{folder.name},1.0,1.0\n")
    return write_json(folder / "model_outputs.json", outputs(rows, "2")), board


def outputs(rows: Sequence[Annotation], side: str) -> list[dict[str, Any]]:
    return [
        {"instruction": row["instruction"], "output": row[f"output_{side}"], "generator": row[f"generator_{side}"]}
        for row in rows
    ]


def write_json(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def figures(row: Any) -> tuple[float, ...]:
    names = ("win_rate", "standard_error", "length_controlled_winrate", "lc_standard_error")
    return tuple(float(row[name]) for name in names)


def alternating(
    ours: Callable[[], object], theirs: Callable[[], object], *, rounds: int, models: int
) -> list[tuple[float, float]]:
    """(ours, theirs) of each round, in milliseconds a model; who begins changes."""
    pairs = []
    for number in range(rounds):
        seconds = {}
        for side in (ours, theirs) if number % 2 else (theirs, ours):
            started = time.perf_counter()
            quietly(side)
            seconds[side] = time.perf_counter() - started
        pairs.append((seconds[ours] / models * 1e3, seconds[theirs] / models * 1e3))
        tell(f"round {number + 1} of {rounds}: {pairs[-1][0]:.1f} against {pairs[-1][1]:.1f} ms a model")
    return pairs


def quietly(side: Callable[[], Result]) -> Result:
    """alpaca_eval draws bars."""
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        return side()


def length_control(size: Size, folder: Path) -> Row:
    """Milliseconds a model."""
    gamed = write_gamed_file(folder / "df_gamed.csv", instructions=INSTRUCTIONS)
    peer.hf_hub_download = lambda **_: str(gamed)
    models = [annotations(seed) for seed in range(size.models)]
    frames = [pd.DataFrame(rows) for rows in models]

    def ours() -> Figures:
        with gamed.open(encoding="utf-8", newline="") as lines:
            calibration = read_gamed_rows(lines, name=gamed.name)
        found: Figures = []
        for rows in models:
            preferences = [preference_of(row["preference"]) for row in rows]
            lengths = [float(len(row["output_1"]) - len(row["output_2"])) for row in rows]
            plain = head_to_head(preferences)
            controlled = length_controlled(
                preferences, lengths, difficulties=calibration.difficulties, gamed=calibration
            )
            told = (plain.win_rate_percent, plain.stderr_percent)
            found.append((*told, controlled.win_rate_percent, controlled.stderr_percent))  # type: ignore[arg-type]
        return found

    def theirs() -> Figures:
        controlled = [
            peer.get_length_controlled_winrate(frame, save_weights_dir=None, is_add_glm_preference_inplace=False)
            for frame in frames
        ]
        return [figures(metrics) for metrics in controlled]

    check_alike(ours(), theirs())  # warms both, too
    return Row(
        "length-control", "ms a model", alternating(ours, theirs, rounds=size.rounds, models=size.models), 1.0, True
    )


def annotations(seed: int) -> list[Annotation]:
    """As a weighted judge's: most preferences near an end, one in a hundred missing. Answers of real lengths."""
    rng = np.random.default_rng(seed)
    lengths = rng.gamma(3, 600, (INSTRUCTIONS, 2)).astype(int) + 1
    lengths[:, 1] = lengths[:, 1] * rng.uniform(0.4, 1.3) + 1
    pull = rng.normal(-1.5, 1.5) + rng.normal(0, 3, INSTRUCTIONS) + (lengths[:, 1] - lengths[:, 0]) / 1000
    values = 1 + 1 / (1 + np.exp(-pull))
    missing = rng.random(INSTRUCTIONS) < 0.01
    names = {"generator_1": "gpt4_1106_preview", "generator_2": f"model-{seed}", "annotator": CONFIG}
    baseline = np.random.default_rng(0).gamma(3, 600, INSTRUCTIONS).astype(int) + 1  # the same for all models
    rows = zip(baseline.tolist(), lengths[:, 1].tolist(), values.tolist(), missing.tolist(), strict=True)
    return [
        {
            "instruction": f"Instruction {number}",
            "output_1": "a" * base,
            "output_2": f"{seed} {number} {'b' * own}",  # alpaca_eval's cache goes by the texts
            "preference": None if gone else value,
            **names,
        }
        for number, (base, own, value, gone) in enumerate(rows)
    ]


def check_alike(ours: Figures, theirs: Figures) -> None:
    """Exits where they didn't compute the same."""
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        plain, controlled = np.abs(np.subtract(one, other)).reshape(2, 2)
        if not (plain.max() < 1e-9 and controlled.max() < 1e-6):
            sys.exit(f"model {number}: ours {one}, alpaca_eval's {other}; they aren't the same, so no speed is told")
    off = np.abs(np.subtract(ours, theirs)).max()
    tell(f"the same figures of {len(ours)} models; at most {off:.1e} percentage points apart")


def tell(text: str) -> None:
    print(f"[load {os.getloadavg()[0]:.1f}] {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
