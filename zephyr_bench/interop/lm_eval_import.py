"""Runs that lm-eval's files tell of (lm_eval_plan.py), into the store, and what a user is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zephyr_bench.interop.imported_runs import Plan, add_to_store
from zephyr_bench.interop.lm_eval_plan import PlannedRun
from zephyr_bench.store import Store


@dataclass(frozen=True)
class ImportedScores:
    """A run that the files told of, and what the store has of it now."""

    run: str
    model: str
    benchmark: str
    tasks: int  # of the benchmark's, whole
    samples: int  # rows' values
    without_score: int  # of them
    missing: tuple[str, ...]  # the benchmark's tasks that the files lack, or have parts of only
    left_out: tuple[str, ...]  # tasks in the files that are not the benchmark's
    new: bool


def store_runs(store: Store, planned: Sequence[PlannedRun]) -> list[ImportedScores]:
    """The runs as they are stored now, in their order."""
    done = add_to_store(store, Plan((), (), scored=[each.run for each in planned]))
    return [
        ImportedScores(
            run=stored.run,
            model=stored.model,
            benchmark=stored.benchmark,
            tasks=each.tasks,
            samples=sum(sample.question != "" for sample in each.run.samples),
            without_score=sum(sample.value is None and sample.question != "" for sample in each.run.samples),
            missing=each.missing,
            left_out=each.left_out,
            new=stored.new,
        )
        for each, stored in zip(planned, done, strict=True)
    ]
