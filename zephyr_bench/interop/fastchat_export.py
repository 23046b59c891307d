"""Runs as FastChat's files: question.jsonl, model_answer/MODEL.jsonl, model_judgment/JUDGE_single.jsonl and JUDGE_pair.

Imported rows come out as they were read; where zephyr-bench's own verdict is missing stand FastChat's -1 and "error".
Several runs go into one folder, what they share once. FastChat 0.2.36 reads all of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from zephyr_bench.benchmarks.pairing import CONSISTENT, VERDICT
from zephyr_bench.errors import UserError
from zephyr_bench.interop.fastchat_written import (
    answer_rows,
    check_graded_alike,
    pair_rows,
    question_rows,
    single_rows,
)
from zephyr_bench.interop.stored_run import Row, StoredRun, stored_runs
from zephyr_bench.interop.written_files import safe_name, write_new
from zephyr_bench.store import Store

_METRICS = {"score", VERDICT, CONSISTENT}  # of MT-Bench's samples, graded and compared


def export_fastchat(store: Store, runs: Sequence[str], folder: Path) -> dict[Path, int]:
    """The files of these runs, with their number of rows.

    Raises UserError, before anything is written, for an unknown run or one that is not MT-Bench's, for runs that
    contradict each other, and for a file that is there and holds something else.
    """
    stored = stored_runs(store, runs)
    for run in stored:
        _check_kind(run)
    check_graded_alike(stored)
    files = {folder / name: rows for name, rows in _files(stored).items()}
    write_new({path: "".join(f"{json.dumps(row)}\n" for row in rows) for path, rows in files.items()})
    return {path: len(rows) for path, rows in files.items()}


def _check_kind(run: StoredRun) -> None:
    answers = {answer.key for answer in run.answers}
    judged = {key for verdict in run.verdicts for key in (verdict.answer, verdict.rival) if key is not None}
    if not {sample.metric for sample in run.samples} <= _METRICS or not judged <= answers:
        raise UserError(
            f"run {run.info.id} is of {run.info.benchmark}, and FastChat's files hold MT-Bench's runs only."
        )
    if not run.verdicts and all(answer.text is None for answer in run.answers):
        raise UserError(f"run {run.info.id} has no answers and no judgments to export.")


def _files(runs: Sequence[StoredRun]) -> Mapping[Path, Sequence[Row]]:
    answers = {Path("model_answer", _file_name(model)): rows for model, rows in answer_rows(runs).items()}
    singles = {_judged(judge, "single"): rows for judge, rows in single_rows(runs).items()}
    pairs = {_judged(judge, "pair"): rows for judge, rows in pair_rows(runs).items()}
    return {Path("question.jsonl"): question_rows(runs), **answers, **singles, **pairs}


def _judged(judge: str, how: str) -> Path:
    return Path("model_judgment", _file_name(f"{judge}_{how}"))


def _file_name(name: str) -> str:
    return f"{safe_name(name)}.jsonl"
