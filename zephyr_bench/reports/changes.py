"""One sentence a metric: what changed between two runs, and whether the interval shows it at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zephyr_bench.reports.compare import interval
from zephyr_bench.reports.comparison import MetricChange, compare_alike
from zephyr_bench.reports.protocols import compared_fields
from zephyr_bench.reports.render import number
from zephyr_bench.reports.sides import side_of

if TYPE_CHECKING:
    from zephyr_bench.store import Store


def changes(store: Store, base_run: str, candidate_run: str) -> list[str]:
    """`average 31.20 -> 31.90 (+0.70, 95 % -2.10 to +3.50: wide, no change shown)`, headline first.

    Below them a line for each thing that makes the runs less than comparable: a recipe's own runs are never refused.
    """
    base, candidate = (side_of(store, store.run(id)) for id in (base_run, candidate_run))
    found = compare_alike(base, candidate, compared_fields(base.run, candidate.run))
    return [*(sentence(change) for change in found.metrics), *(f"note: {note}" for note in found.notes)]


def sentence(change: MetricChange) -> str:
    found = change.difference
    values = f"{change.metric} {number(change.base)} -> {number(change.candidate)}"
    if found.value is None:
        return f"{values} (no value on one side)"
    if found.low is None or found.high is None:
        return f"{values} ({number(found.value, signed=True)}, {_without_interval(change)})"
    moved = "higher" if found.value > 0 else "lower"
    reading = "wide, no change shown" if found.low <= 0 <= found.high else moved
    return f"{values} ({number(found.value, signed=True)}, 95 % {interval(found.low, found.high)}: {reading})"


def _without_interval(change: MetricChange) -> str:
    found = change.difference
    if found.n == 0:
        return "not paired: no interval"
    if found.stderr is None:
        return "too few questions for an interval"
    return "no question changed" if found.value == 0 else "all changed alike: no interval"
