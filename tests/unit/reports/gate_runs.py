"""Runs to gate, and the gate of them as the command makes it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conftest_reports import chat_samples, preference_samples

from zephyr_bench.recipe import Recipe
from zephyr_bench.records import SampleScore
from zephyr_bench.reports.gate import GateReport, Row, report
from zephyr_bench.reports.gate_margins import read_margins
from zephyr_bench.reports.gate_plan import entry_of, plan_gate
from zephyr_bench.reports.references import find
from zephyr_bench.store import Store


def gate(
    store: Store | None,
    base: str,
    candidate: str,
    *,
    margin: Sequence[str] = (),
    metric: Sequence[str] = (),
    benchmarks: Sequence[str] = (),
    allow: Sequence[str] = (),
    confidence: float = 0.95,
    recipe: Recipe | None = None,
    include: Sequence[Path] = (),
    **more: Any,
) -> GateReport:
    margins = read_margins(margin, metric, recipe, include)
    plan = plan_gate(find(store, base), find(store, candidate), margins, benchmarks)
    entries = [entry_of(pairing, allow=allow, **more) for pairing in plan.pairs]
    return report(
        entries, confidence=confidence, ungated=plan.ungated, baseline=base, candidate=candidate, notes=plan.notes
    )


def only_row(found: GateReport) -> Row:
    (row,) = found.rows
    return row


def graded(change: float, *, spread: float = 0.5, questions: int = 24, seed: int = 0) -> list[SampleScore]:
    """Grades about 5 + change, half of the questions a bit above and half below; the mean change is exact."""
    drawn = random.Random(seed)
    noise = [drawn.gauss(0, spread) for _ in range(questions)]
    middle = sum(noise) / questions
    return chat_samples(*[(5 + change + n - middle, 5 + change + n - middle) for n in noise])


def level(questions: int = 24) -> list[SampleScore]:
    """The baseline: 5 throughout."""
    return chat_samples(*[(5, 5)] * questions)


def preferred(change: float, *, spread: float = 0.1, questions: int = 24, seed: int = 0) -> list[SampleScore]:
    """Preferences about 0.5 + change."""
    drawn = random.Random(seed)
    noise = [drawn.gauss(0, spread) for _ in range(questions)]
    middle = sum(noise) / questions
    return preference_samples(*[0.5 + change + n - middle for n in noise])
