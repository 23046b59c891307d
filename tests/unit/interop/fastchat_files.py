"""Rows of FastChat's files, made as it makes them; files of them; what a store holds of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.mt_bench import MtBench
from zephyr_bench.interop.fastchat_import import read_fastchat
from zephyr_bench.interop.imported_runs import Imported, add_to_store
from zephyr_bench.store import Store

Row = dict[str, Any]
QUESTIONS: list[Row] = [
    {"question_id": 81, "category": "writing", "turns": ["Write.", "Write again."]},
    {"question_id": 101, "category": "reasoning", "turns": ["Think.", "Why?"], "reference": ["a note", "another"]},
    {
        "question_id": "own-1",
        "category": "stem",
        "turns": ["Explain.", "Shorter."],
        "author": {"name": "me"},
        "text": None,
    },
]


def single(model: str = "m", question: int | str = 81, turn: int = 1, score: float | None = 7, **other: Any) -> Row:
    return {
        "question_id": question,
        "model": model,
        "judge": ["gpt-4", "single-v1" if turn == 1 else "single-v1-multi-turn"],
        "user_prompt": "the whole prompt",
        "judgment": f"Rating: [[{score}]]",
        "score": score,
        "turn": turn,
        "tstamp": 1705.25,
        **other,
    }


def pair(one: str, two: str, winners: tuple[str, str], question: int | str = 81, turn: int = 1, **other: Any) -> Row:
    return {
        "question_id": question,
        "model_1": one,
        "model_2": two,
        "g1_winner": winners[0],
        "g2_winner": winners[1],
        "judge": ["gpt-4", "pair-v2" if turn == 1 else "pair-v2-multi-turn"],
        "g1_user_prompt": "as given",
        "g1_judgment": "first reply",
        "g2_user_prompt": "exchanged",
        "g2_judgment": "second reply",
        "turn": turn,
        "tstamp": 1705.5,
        **other,
    }


def answer(model: str = "m", question: int | str = 81, *choices: Sequence[str], **other: Any) -> Row:
    return {
        "question_id": question,
        "answer_id": f"of {model} to {question}",
        "model_id": model,
        "choices": [{"index": index, "turns": list(turns)} for index, turns in enumerate(choices or [("one", "two")])],
        "tstamp": 1704.0,
        **other,
    }


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def mt_bench() -> MtBench:
    benchmark = open_benchmark("mt-bench")
    assert isinstance(benchmark, MtBench)
    return benchmark


def put(store: Store, *paths: Path) -> list[Imported]:
    return add_to_store(store, read_fastchat(paths, mt_bench()))


def put_rows(store: Store, folder: Path, *files: Sequence[Row]) -> list[Imported]:
    """Each of `files` as a file, the questions beside them."""
    paths = [write(folder / f"{number}.jsonl", rows) for number, rows in enumerate([QUESTIONS, *files])]
    return put(store, *paths)


def multiset(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """To compare rows as dicts, whatever their order; 7 and 7.0 are not the same."""
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def told(store: Store) -> list[Any]:
    """All that a store holds of its runs, but for ids, times and order."""
    runs = store.runs()
    scores = store.scores_of(run.id for run in runs)
    return sorted(
        (
            repr(
                (run.model, run.benchmark, run.judge, run.status, run.note, dict(run.protocol), run.judge_fingerprint)
            ),
            repr(dict(run.environment)),
            scores[run.id],
            sorted(store.samples_of(run.id), key=repr),
            sorted(store.answers_of(run.id), key=lambda answer: answer.key),
            sorted(store.judgments_of(run.id), key=lambda judgment: judgment.key),
            sorted(store.questions_of(run.id), key=lambda question: question.id),
        )
        for run in runs
    )
