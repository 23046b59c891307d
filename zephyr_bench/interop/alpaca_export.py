"""Runs as alpaca_eval's files: MODEL/model_outputs.json, MODEL/JUDGE/annotations.json, reference_outputs.json.

Where alpaca_eval 0.6.6 looks for them: `evaluate` of the model's outputs, with the judge's name as `annotators_config`
and `is_recompute_metrics_only`, takes the annotations beside them. Imported rows come out as they were read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from zephyr_bench.interop.alpaca_written import annotation_rows, check_kind, output_rows, reference_rows
from zephyr_bench.interop.stored_run import Row, StoredRun, apart, stored_runs
from zephyr_bench.interop.written_files import safe_name, write_new
from zephyr_bench.store import Store

_OUTPUTS, _ANNOTATIONS, _REFERENCE = "model_outputs.json", "annotations.json", "reference_outputs.json"


def export_alpaca_eval(store: Store, runs: Sequence[str], folder: Path) -> dict[Path, int]:
    """The files of these runs, with their number of rows.

    Raises UserError, before anything is written, for an unknown run or one that is not AlpacaEval's, for runs that
    contradict each other, and for a file that is there and holds something else.
    """
    stored = stored_runs(store, runs)
    for run in stored:
        check_kind(run)
    files = {folder / name: rows for name, rows in _files(stored).items()}
    write_new({path: f"{json.dumps(rows, indent=2)}\n" for path, rows in files.items()})
    return {path: len(rows) for path, rows in files.items()}


def _files(runs: Sequence[StoredRun]) -> dict[Path, list[Row]]:
    reference = reference_rows(runs)
    found = {Path(_folder(model), _OUTPUTS): rows for model, rows in output_rows(runs).items()}
    written: dict[Path, StoredRun] = {}
    for run in runs:
        if rows := annotation_rows(run):
            path = Path(_folder(run.info.model), _folder(run.judge), _ANNOTATIONS)
            if found.setdefault(path, rows) != rows:
                raise apart(written[path], run, f"hold different verdicts of {run.judge} on {run.info.model}")
            written[path] = run
    if reference:
        found[Path(_REFERENCE)] = reference
    return found


def _folder(name: str) -> str:
    """A model's or judge's; one with the name of a file that lies beside it is written with %2E for the dot."""
    safe = safe_name(name)
    return safe.replace(".", "%2E") if safe.lower() in (_OUTPUTS, _REFERENCE) else safe
