"""Did the judge itself move? Told by anchors: answers that it graded when the baseline was made, graded again now.

In: the grades then and now of the same answers, on the scale that the gate's margin is on. Out: by how much it moved,
and whether that matters. Knows no judge.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from zephyr_bench.stats.claims import Difference, p_above, p_below
from zephyr_bench.stats.paired import paired_difference


class DriftVerdict(StrEnum):
    STEADY = "steady"  # for certain by less than the tolerance
    MOVED = "moved"  # for certain, and not for certain by less than the tolerance
    UNCLEAR = "unclear"  # the anchors are too few, or too noisy, to say either


@dataclass(frozen=True)
class Drift:
    verdict: DriftVerdict
    difference: Difference  # now - then, paired by answer
    tolerance: float  # a smaller drift doesn't matter
    least_seen: float | None  # smallest drift that these anchors would show in 80 of 100 repetitions

    @property
    def moved(self) -> bool:
        return self.verdict is DriftVerdict.MOVED


def judge_drift(
    then: Sequence[float],
    now: Sequence[float],
    questions: Sequence[Hashable] | None = None,
    *,
    tolerance: float,
    confidence: float = 0.95,
) -> Drift:
    """Paired by anchor; the turns of a question count together. An answer judged several times comes as its mean.

    Moved: the interval lies off zero. Steady: it lies within the tolerance (Schuirmann's two one-sided tests), even
    where it lies off zero as well: certain but too small to matter. A judge that grades each anchor as it did then is
    steady: nothing speaks against it. One that hasn't moved is said to have in at most 1 - confidence of runs.
    """
    found = paired_difference(then, now, questions, confidence=confidence)
    return Drift(_verdict(found, tolerance, confidence), found, tolerance, found.detectable)


def _verdict(found: Difference, tolerance: float, confidence: float) -> DriftVerdict:
    if found.changes is not None and not found.changes.changed:
        return DriftVerdict.STEADY
    level = (1 - confidence) / 2
    sides = (p_above(found, -tolerance), p_below(found, tolerance))
    if all(p is not None and p <= level for p in sides):
        return DriftVerdict.STEADY
    off_zero = (p_below(found), p_above(found))
    return DriftVerdict.MOVED if any(p is not None and p <= level for p in off_zero) else DriftVerdict.UNCLEAR
