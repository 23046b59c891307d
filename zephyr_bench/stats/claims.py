"""What a paired difference lets one claim: that the true one lies below a bound, or above it.

In: a mean difference, its error, and how the questions changed behind it. Out: one-sided p-values and an interval that
keep their word for few questions, ties and skewed scores, where Student's t alone would not. Knows no benchmark.
Which fails where, by simulation: docs/design/gate.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from zephyr_bench.stats.distributions import normal_cdf, t_cdf, t_quantile
from zephyr_bench.stats.score_interval import score_interval, score_z
from zephyr_bench.stats.sign_flips import MOST_TERMS, flipped_as_low, mcnemar_as_low

LEAST_QUESTIONS = 6  # all of them worse, it is 1 / 2^6 likely by chance: 0.016; of five, 0.031
COUNTED = 30  # as many changes of one size, or fewer, are counted; beyond, the score interval and t's are one
_SPARSE = 10  # with fewer changes, in at most half of the questions, those not seen yet widen the interval


@dataclass(frozen=True)
class Changes:
    """How the questions moved that the difference is of."""

    questions: int  # clusters
    better: int
    worse: int
    large: int  # changes by more than a hundredth of the swing; all of them where there is none
    size: float | None  # of a large one, root mean square; without any the swing
    alike: bool  # all changes are of one size, and all questions count alike
    swing: float | None  # what a question that turns adds: 100 for right and wrong in per cent; None: any size
    share: float  # of one question in the difference
    skew: float  # skewness of the difference itself: that of a question, over the root of their number
    terms: tuple[float, ...]  # what each change adds to the difference; empty where more than `MOST_TERMS`

    @property
    def changed(self) -> int:
        return self.better + self.worse


@dataclass(frozen=True)
class Difference:
    """Candidate minus base. What the pairs can't tell is None: never a zero, never an infinity."""

    value: float | None
    stderr: float | None
    low: float | None  # of the interval
    high: float | None
    p_value: float | None  # two-sided, of no difference
    n: int  # pairs
    degrees: float | None = None  # of freedom, of the t distribution behind the interval
    effect_size: float | None = None  # by the standard deviation of a question's difference (d_z), Hedges' correction
    detectable: float | None = None  # smallest true difference that this design finds in 80 of 100 repetitions
    changes: Changes | None = None


def p_below(found: Difference, bound: float = 0.0) -> float | None:
    """One-sided p-value of "the true difference is `bound` or more": small where it lies below. None: can't tell.

    The largest of: Student's t; t with skewness taken out (Hall 1992, JRSS B 54, 221-228), so that a long tail on the
    other side doesn't pass for a difference; and, at 0, the exact test of signs. Few changes of one size are counted
    instead (Tango 1998, McNemar 1947).
    """
    value, changes = found.value, found.changes
    if value is None or changes is None:
        return None
    if not changes.changed and bound == 0:
        return 1.0
    if counted(found):
        p = _p_by_count(changes, bound)
    else:
        about = spread(found)
        if about is None:
            return None
        stderr, degrees = about
        t = (value - bound) / stderr
        p = t_cdf(max(t, _unskewed(t, changes.skew)), degrees)
    return max(p, _signs_as_low(changes)) if bound == 0 else p


def p_above(found: Difference, bound: float = 0.0) -> float | None:
    """One-sided p-value of "the true difference is `bound` or less": small where it lies above."""
    return p_below(_turned(found), -bound)


def careful_interval(found: Difference, confidence: float = 0.95) -> tuple[float, float] | None:
    """The bounds that `p_above` and `p_below` don't refute at (1 - confidence) / 2 each. None: can't tell."""
    value, changes = found.value, found.changes
    if value is None or changes is None:
        return None
    if counted(found):
        ends = score_interval(changes.better, changes.worse, changes.questions, confidence=confidence)
        low, high = ((changes.size or 0.0) * end for end in ends)
    else:
        about = spread(found)
        if about is None:
            return None
        stderr, degrees = about
        t = t_quantile((1 + confidence) / 2, degrees)
        low = value - stderr * max(t, _skewed(t, -changes.skew))
        high = value + stderr * max(t, _skewed(t, changes.skew))
    level = (1 - confidence) / 2
    if high < 0 and _signs_as_low(changes) > level:
        high = 0.0
    if low > 0 and _signs_as_low(_changes_turned(changes)) > level:
        low = 0.0
    return low, high


def counted(found: Difference) -> bool:
    """True where changes are told by how many there are: all of one size, and few, or without any other spread."""
    changes = found.changes
    if changes is None or not changes.alike or found.stderr is None or changes.size is None:
        return False
    if found.stderr == 0 and changes.changed:
        return changes.changed >= LEAST_QUESTIONS
    # a grade that moved by 2 doesn't say that grades move by 2; a right answer gone wrong does
    return changes.swing is not None and math.isclose(changes.size, changes.swing) and changes.changed <= COUNTED


def spread(found: Difference) -> tuple[float, float] | None:
    """Standard error and degrees of freedom of the t distribution; None where the pairs don't tell them.

    A few changes among many questions that stayed say little of the changes not seen yet. So one more up and one more
    down, of the same size or of the swing, are added to the variance: as Bonett and Price (2012, Psychological Methods
    17, 382-393) do for paired proportions.
    """
    changes = found.changes
    if found.stderr is None or changes is None:
        return None
    unseen = 0.0
    if changes.large < _SPARSE and 2 * changes.large <= changes.questions:
        unseen = 2 * ((changes.swing or changes.size or 0.0) * changes.share) ** 2
    stderr = math.sqrt(found.stderr**2 + unseen)
    degrees = found.degrees or (float(changes.questions - 1) if unseen else None)
    return (stderr, degrees) if stderr > 0 and degrees else None


def _p_by_count(changes: Changes, bound: float) -> float:
    supposed = bound / (changes.size or 1.0)
    if abs(supposed) > 1 + 1e-9:
        return float(supposed < 0)  # beyond what can be, where a change is of this size
    supposed = min(max(supposed, -1 + 1e-9), 1 - 1e-9)
    return normal_cdf(score_z(changes.better, changes.worse, changes.questions, supposed))


def _unskewed(t: float, skew: float) -> float:
    """Hall's monotone transformation of t, near to normal: ((1 + skew t / 3)^3 - 1) / skew + skew / 6."""
    return t + skew * t * t / 3 + skew**2 * t**3 / 27 + skew / 6


def _skewed(t: float, skew: float) -> float:
    """The distance that `_unskewed(-distance, skew)` takes to -t."""
    if abs(skew) < 1e-9:
        return t
    return 3 / skew * (1 - float(_cube_root(1 - skew * (t + skew / 6))))


def _cube_root(value: float) -> float:
    return math.copysign(abs(value) ** (1 / 3), value)


def _signs_as_low(changes: Changes) -> float:
    """The exact one-sided p-value of no change; 0, no objection, where there are too many changes to try all signs."""
    if changes.alike:
        return mcnemar_as_low(changes.better, changes.worse)
    if changes.changed > MOST_TERMS:
        return 0.0
    return flipped_as_low(changes.terms)


def _changes_turned(changes: Changes) -> Changes:
    terms = tuple(-term for term in changes.terms)
    return replace(changes, better=changes.worse, worse=changes.better, skew=-changes.skew, terms=terms)


def _turned(found: Difference) -> Difference:
    """Base minus candidate."""
    value = None if found.value is None else -found.value
    return replace(found, value=value, changes=found.changes and _changes_turned(found.changes))
