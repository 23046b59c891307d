"""Runs as lm-eval's files, laid as its EvaluationTracker does: MODEL/results_TIME.json, MODEL/samples_TASK_TIME.jsonl.

MODEL is lm-eval's form of the name, TIME the run's beginning in UTC. lm-eval 0.4.13 makes its table of the results. An
imported run's results come out as they were read, a file each; of its samples, rows of generated texts do, and of
other rows the numbers that count here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from zephyr_bench.interop.lm_eval_names import task_since_0_4
from zephyr_bench.interop.lm_eval_written_results import check_kind, results_of, time_of
from zephyr_bench.interop.lm_eval_written_rows import sample_rows
from zephyr_bench.interop.stored_run import Row, StoredRun, stored_runs
from zephyr_bench.interop.written_files import safe_name, write_new
from zephyr_bench.store import Store


def export_lm_eval(store: Store, runs: Sequence[str], folder: Path) -> dict[Path, int]:
    """The files of these runs, with their number of rows: of results, the tasks and groups.

    Raises UserError, before anything is written, for an unknown run or one that is of none of lm-eval's tasks, and for
    a file that is there and holds something else.
    """
    stored = stored_runs(store, runs)
    for run in stored:
        check_kind(run)
    texts: dict[Path, str] = {}
    rows: dict[Path, int] = {}
    for run in stored:
        home = folder / folder_name(run.info.model)
        samples = sample_rows(run)
        for results, time in _timed(run, home, texts):
            path = home / f"results_{time}.json"
            texts[path], rows[path] = f"{json.dumps(results, indent=2)}\n", len(results["results"])
            for task in map(task_since_0_4, results["results"]):
                if task in samples:
                    path = home / f"samples_{safe_name(task)}_{time}.jsonl"
                    texts[path], rows[path] = "".join(map(_line, samples[task])), len(samples[task])
    write_new(texts)
    return rows


def _timed(run: StoredRun, home: Path, taken: dict[Path, str]) -> list[tuple[Row, str]]:
    """Each results file with its time as lm-eval writes it; a moment later where that is taken."""
    found: list[tuple[Row, str]] = []
    for results in results_of(run):
        time = time_of(run, results)
        while (name := _written(time)) in {other for _, other in found} or home / f"results_{name}.json" in taken:
            time += timedelta(microseconds=1)
        found.append((results, name))
    return found


def _written(time: datetime) -> str:
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds").replace(":", "-")


def _line(row: Row) -> str:
    return f"{json.dumps(row)}\n"


def folder_name(model: str) -> str:
    """lm-eval's, where that is a folder's name; some are none, such as two dots."""
    from lm_eval.utils import sanitize_model_name

    name = str(sanitize_model_name(model))
    plain = name.isprintable() and not name.startswith(".") and 0 < len(name.encode("utf-8", "replace")) <= 200
    return name if plain else safe_name(model)
