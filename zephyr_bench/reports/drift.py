"""Whether the judge itself moved, as people read it: the anchors' grades then and now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zephyr_bench.reports.render import number
from zephyr_bench.stats.drift import Drift, DriftVerdict

_SO = {
    DriftVerdict.STEADY: "it is steady",
    DriftVerdict.MOVED: "the judge moved",
    DriftVerdict.UNCLEAR: "too few or too noisy to say whether it moved",
}


@dataclass(frozen=True)
class AnchorCheck:
    """A judge's grades of the same answers, when the baseline was made and now."""

    benchmark: str
    judge: str
    metric: str
    questions: int
    then: float | None  # means, on the metric's scale
    now: float | None
    drift: Drift
    run: str  # that holds the grades of now
    made: int  # judgments asked for this time
    stored: int  # asked for before, for this candidate


def drift_told(check: AnchorCheck) -> str:
    """One sentence."""
    found = check.drift.difference
    between = "" if found.low is None else f" [{number(found.low, signed=True)}, {number(found.high, signed=True)}]"
    seen = check.drift.least_seen
    shown = "" if seen is None else f", and these anchors would show {number(seen)}"
    return (
        f"{check.judge} graded {found.n} anchors on {check.questions} questions again, {check.metric} "
        f"{number(check.then)} then and {number(check.now)} now, {number(found.value, signed=True)}{between}: "
        f"{_SO[check.drift.verdict]}; {check.drift.tolerance:g} is tolerated{shown}; run {check.run}"
    )


def drift_record(check: AnchorCheck) -> Mapping[str, Any]:
    """For machines, at full precision."""
    found = check.drift.difference
    return {
        "verdict": check.drift.verdict.value,
        "metric": check.metric,
        "then": check.then,
        "now": check.now,
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
        "tolerance": check.drift.tolerance,
        "least_seen": check.drift.least_seen,
        "questions": check.questions,
        "judgments": check.made + check.stored,
        "run": check.run,
    }
