"""A real store with runs in it, and samples whose scores the real benchmarks compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.store import RunStart, Store

AddRun = Callable[..., str]
HEADLINES = {"alpaca-eval-mini": "win-rate", "mt-bench-mini": "score", "open-llm-mini": "average"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path / 'results.db'}") as opened:
        yield opened


@pytest.fixture
def add_run(store: Store) -> AddRun:
    """`put_run` into the fixture's store."""
    return partial(put_run, store)


def put_run(
    store: Store,
    model: str,
    benchmark: str = "mt-bench-mini",
    *,
    samples: Sequence[SampleScore] = (),
    scores: Sequence[Score] | None = None,
    judge: str | None = "rubric",
    judge_version: str = "1",
    weights: str | None = None,
    note: str = "",
    status: str = "complete",
    protocol: Mapping[str, Any] | None = None,
    seed: int = 0,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Into the store; returns its id. Without `scores` they come from the samples."""
    checkpoint = fingerprint(weights or model.encode("utf-8", "backslashreplace").hex())
    store.put_model(fingerprint=checkpoint, name=model, location="somewhere", note=note, lineage={})
    start = RunStart(
        benchmark=benchmark,
        model=model,
        model_fingerprint=checkpoint,
        engine_fingerprint=fingerprint([checkpoint, "engine"]),
        judge=judge,
        judge_fingerprint=fingerprint([judge, judge_version]) if judge else None,
        protocol=dict(protocol or {"limit": None}),
        seed=seed,
        environment=dict(environment or {}),
    )
    run = store.start_run(start)
    run.add_samples(list(samples))
    if scores is None:
        scores = open_benchmark(benchmark).aggregate(samples) if samples else []
    run.finish(status, list(scores) if status == "complete" else [])
    return run.id


def chat_samples(*values: tuple[float | None, float | None]) -> list[SampleScore]:
    """Grades of two-turn questions q1, q2, …, every other one of writing, the rest of math."""
    return [
        SampleScore(f"q{index}", ("writing", "math")[index % 2], "score", value, turn, reason)
        for index, turns in enumerate(values, start=1)
        for turn, value in enumerate(turns, start=1)
        for reason in [None if value is not None else "no verdict"]
    ]


def preference_samples(*values: float) -> list[SampleScore]:
    """Preferences and lengths, in two categories."""
    rows = []
    for index, value in enumerate(values):
        category = ("advice", "facts")[index % 2]
        rows.append(SampleScore(f"i{index}", category, "length", 100.0 + index))
        rows.append(SampleScore(f"i{index}", category, "preference", value))
    return rows


_BY_LENGTH = {"arc_challenge", "hellaswag"}  # the tasks whose metric is acc_norm


def task_samples(**rows: Sequence[int]) -> list[SampleScore]:
    """Right (1) and wrong (0) rows by lm-eval's task name."""
    return [
        SampleScore(f"{task}/{index}", task, "acc_norm" if task in _BY_LENGTH else "acc", float(value))
        for task, values in rows.items()
        for index, value in enumerate(values)
    ]
