"""Runs as FastChat's files: question.jsonl, model_answer/MODEL.jsonl, model_judgment/JUDGE_single.jsonl and JUDGE_pair.

Imported rows come out as they were read; where zephyr-bench's own verdict is missing stand FastChat's -1 and "error".
Several runs go into one folder, what they share once. FastChat 0.2.36 reads all of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from zephyr_bench.benchmarks.pairing import CONSISTENT, VERDICT
from zephyr_bench.errors import UserError
from zephyr_bench.interop.fastchat_written import (
    Row,
    StoredRun,
    answer_rows,
    check_graded_alike,
    pair_rows,
    question_rows,
    single_rows,
)
from zephyr_bench.store import RunInfo, Store
from zephyr_bench.store.run_info import Verdict
from zephyr_bench.written_file import write_text

_METRICS = {"score", VERDICT, CONSISTENT}  # of MT-Bench's samples, graded and compared
_LONGEST_NAME = 200  # bytes; file systems take 255, and the ending comes to it


def export_fastchat(store: Store, runs: Sequence[str], folder: Path) -> dict[Path, int]:
    """The files of these runs, with their number of rows.

    Raises UserError, before anything is written, for an unknown run or one that is not MT-Bench's, for runs that
    contradict each other, and for a file that is there and holds something else.
    """
    ids = dict.fromkeys(store.run(run).id for run in runs)
    stored = [_stored(store, id) for id in ids]
    check_graded_alike(stored)
    files = {folder / name: rows for name, rows in _files(stored).items()}
    texts = {path: "".join(f"{json.dumps(row)}\n" for row in rows) for path, rows in files.items()}
    there = {path for path, text in texts.items() if _is_there(path, text)}
    for path, text in texts.items():
        if path not in there:
            write_text(path, text)
    return {path: len(rows) for path, rows in files.items()}


def _stored(store: Store, id: str) -> StoredRun:
    info = store.run(id)
    run = StoredRun(
        info=info,
        questions=store.questions_of(id),
        answers=store.answers_of(id),
        verdicts=_verdicts(store, info),
        samples=store.samples_of(id),
    )
    answers = {answer.key for answer in run.answers}
    judged = {key for verdict in run.verdicts for key in (verdict.answer, verdict.rival) if key is not None}
    if not {sample.metric for sample in run.samples} <= _METRICS or not judged <= answers:
        raise UserError(f"run {id} is of {run.info.benchmark}, and FastChat's files hold MT-Bench's runs only.")
    if not run.verdicts and all(answer.text is None for answer in run.answers):
        raise UserError(f"run {id} has no answers and no judgments to export.")
    return run


def _verdicts(store: Store, run: RunInfo) -> list[Verdict]:
    """The run's judge's; a jury's run holds its members', too."""
    verdicts = store.verdicts_of(run.id)
    return [verdict for verdict in verdicts if verdict.judgment.judge == run.judge] or verdicts


def _files(runs: Sequence[StoredRun]) -> Mapping[Path, Sequence[Row]]:
    answers = {Path("model_answer", _file_name(model)): rows for model, rows in answer_rows(runs).items()}
    singles = {_judged(judge, "single"): rows for judge, rows in single_rows(runs).items()}
    pairs = {_judged(judge, "pair"): rows for judge, rows in pair_rows(runs).items()}
    return {Path("question.jsonl"): question_rows(runs), **answers, **singles, **pairs}


def _judged(judge: str, how: str) -> Path:
    return Path("model_judgment", _file_name(f"{judge}_{how}"))


def _file_name(name: str) -> str:
    """A name of one's own for each, safe everywhere; the rows keep the name as it is."""
    safe = quote(name.encode("utf-8", "surrogatepass"), safe=" +,=@")
    safe = f"%2E{safe[1:]}" if safe.startswith(".") else safe  # glob, and so FastChat, passes over hidden files
    if len(safe) > _LONGEST_NAME:
        safe = f"{safe[:_LONGEST_NAME]}-{hashlib.sha256(safe.encode()).hexdigest()[:16]}"
    return f"{safe}.jsonl"


def _is_there(path: Path, text: str) -> bool:
    """Whether the file is as it would be written. Raises UserError where it is another."""
    if not path.exists():
        return False
    if not path.is_file() or path.read_bytes() != text.encode():
        raise UserError(f"{path} is there and holds something else; name another folder with --output.")
    return True
