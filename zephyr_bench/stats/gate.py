"""The gate's verdicts: did a candidate get worse than its baseline, stay as good, or can't that be told?

In: the paired difference of each benchmark with its margin, higher being better, and whether the judge moved. Out: a
verdict each and one for all. Knows no run and no exit code. Why it decides so: docs/design/gate.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from zephyr_bench.stats.claims import LEAST_QUESTIONS, Difference, careful_interval, p_above, p_below
from zephyr_bench.stats.drift import Drift
from zephyr_bench.stats.holm import holm


class Verdict(StrEnum):
    PASS = "pass"
    REGRESSION = "regression"
    INCONCLUSIVE = "inconclusive"


class Reason(StrEnum):
    """Why a verdict is what it is; the first that holds, in this order."""

    SAME_ANSWERS = "same-answers"  # pass: the candidate said what the baseline said
    JUDGE_DRIFT = "judge-drift"  # inconclusive: the judge moved, so a difference may be its own
    TOO_FEW = "too-few"  # inconclusive: fewer than six questions, or a spread that isn't known
    SAME_SCORES = "same-scores"  # pass: other answers, and not one of the grades moved
    BETTER = "better"  # pass: the interval lies above zero
    WITHIN_MARGIN = "within-margin"  # pass: lower for certain, and for certain by less than the margin
    NOT_INFERIOR = "not-inferior"  # pass: the lower end lies above -margin
    LOWER = "lower"  # regression: the interval lies below zero
    LOWER_ALONE = "lower-alone"  # inconclusive: below zero on its own, but not among so many benchmarks
    WIDE = "wide"  # inconclusive: the interval holds both zero and -margin


@dataclass(frozen=True)
class Gated:
    """One benchmark that is gated, by its headline metric."""

    benchmark: str
    difference: Difference
    margin: float  # largest loss that is accepted, in the benchmark's units; 0 or more
    same_answers: bool  # one run, or each answer the very text of the baseline's: then no chance is in play
    drift: Drift | None = None  # of the judge, on the anchors; None: not looked at

    def __post_init__(self) -> None:
        if not self.margin >= 0:
            raise ValueError(f"margin {self.margin} of {self.benchmark}; expected 0 or more")


@dataclass(frozen=True)
class Ruling:
    gated: Gated
    verdict: Verdict
    reason: Reason
    low: float | None  # of the interval that both rules go by: at least as wide as the difference's own
    high: float | None
    p_lower: float | None  # significance: of "no worse than the baseline", one-sided
    p_lower_adjusted: float | None  # after Holm, over the benchmarks gated
    p_not_inferior: float | None  # non-inferiority: of "worse by the margin or more", one-sided


@dataclass(frozen=True)
class GateResult:
    """`level` is one-sided: half of what is outside of the interval."""

    verdict: Verdict
    rulings: tuple[Ruling, ...]  # in the order given
    level: float


def gate(benchmarks: Sequence[Gated], *, confidence: float = 0.95) -> GateResult:
    """Both rules on each benchmark, and what follows for all.

    At most a share of (1 - confidence) / 2 of candidates that are as good everywhere get any regression at all (Holm
    1979), and at most that share of those that are worse by a margin somewhere pass: all have to pass, so no
    adjustment is needed there (intersection-union test, Berger 1982, Technometrics 24, 295-300).

    Raises ValueError where nothing is gated: no verdict is no pass.
    """
    if not benchmarks:
        raise ValueError("no benchmark to gate")
    level = (1 - confidence) / 2
    p_lower = [p_below(entry.difference) for entry in benchmarks]
    adjusted = holm(p_lower)
    rulings = tuple(
        _rule(entry, lower, lower_adjusted, confidence)
        for entry, lower, lower_adjusted in zip(benchmarks, p_lower, adjusted, strict=True)
    )
    return GateResult(overall([ruling.verdict for ruling in rulings]), rulings, level)


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """A regression anywhere is one; all must pass to pass."""
    for verdict in (Verdict.REGRESSION, Verdict.INCONCLUSIVE):
        if verdict in verdicts:
            return verdict
    return Verdict.PASS


def _rule(entry: Gated, p_lower: float | None, p_lower_adjusted: float | None, confidence: float) -> Ruling:
    p_not_inferior = p_above(entry.difference, -entry.margin)
    verdict, reason = _verdict(entry, p_lower, p_lower_adjusted, p_not_inferior, (1 - confidence) / 2)
    low, high = careful_interval(entry.difference, confidence) or (None, None)
    return Ruling(entry, verdict, reason, low, high, p_lower, p_lower_adjusted, p_not_inferior)


def _verdict(
    entry: Gated, p_lower: float | None, p_lower_adjusted: float | None, p_not_inferior: float | None, level: float
) -> tuple[Verdict, Reason]:
    if entry.same_answers:
        return Verdict.PASS, Reason.SAME_ANSWERS
    if entry.drift is not None and entry.drift.moved:
        return Verdict.INCONCLUSIVE, Reason.JUDGE_DRIFT
    changes = entry.difference.changes
    if changes is None or changes.questions < LEAST_QUESTIONS:
        return Verdict.INCONCLUSIVE, Reason.TOO_FEW
    if not changes.changed and changes.swing is None:
        return Verdict.PASS, Reason.SAME_SCORES
    if p_lower is None or p_lower_adjusted is None or p_not_inferior is None:
        return Verdict.INCONCLUSIVE, Reason.TOO_FEW
    p_better = p_above(entry.difference)
    if p_not_inferior <= level:
        if p_better is not None and p_better <= level:
            return Verdict.PASS, Reason.BETTER
        return Verdict.PASS, Reason.WITHIN_MARGIN if p_lower <= level else Reason.NOT_INFERIOR
    if p_lower_adjusted <= level:
        return Verdict.REGRESSION, Reason.LOWER
    return Verdict.INCONCLUSIVE, Reason.LOWER_ALONE if p_lower <= level else Reason.WIDE
