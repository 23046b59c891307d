"""Is a published figure reproduced? Two one-sided tests (TOST) of ours against it.

In: both means with their standard errors, and how far apart they may be. Out: reproduced, not reproduced, or can't tell
with this n. Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680. Knows no model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from scipy import stats

from zephyr_bench.stats.power import LEVEL, power_of


class Reproduction(StrEnum):
    REPRODUCED = "reproduced"  # for certain nearer than the margin
    NOT_REPRODUCED = "not reproduced"  # for certain as far as the margin, or farther
    CANT_TELL = "can't tell"


@dataclass(frozen=True)
class Equivalence:
    verdict: Reproduction
    difference: float | None  # ours - published
    stderr: float | None
    low: float | None  # of the interval at 1 - 2 level, which the tests are equal to
    high: float | None
    p_equivalent: float | None  # the larger of the two: of "as far apart as the margin, or farther"
    p_apart: float | None  # of "nearer than the margin"
    margin: float
    published_stderr_assumed: bool  # none was published: taken to be ours
    power: float | None  # chance of "reproduced" where both are the same but for chance


@dataclass(frozen=True)
class Figure:
    """A mean as it is printed. `n` is the number of questions behind it, or None."""

    value: float | None
    stderr: float | None = None
    n: int | None = None


def equivalence(ours: Figure, published: Figure, *, margin: float, level: float = LEVEL) -> Equivalence:
    """Reproduced where ours - published lies in (-margin, margin) for certain: t interval at 1 - 2 level within it.

    Both are taken as independent. They share their questions, so that they lie nearer than the errors say and a verdict
    is rather withheld than wrong. A figure published without its error is no less uncertain for that: it is taken to
    have ours. Degrees of freedom by Welch and Satterthwaite, n - 1 of each; a published figure without n has endless.
    Without our value, or our error, it can't be told.
    """
    if not margin > 0:
        raise ValueError(f"margin {margin}; expected more than 0")
    assumed = published.stderr is None
    difference = None if ours.value is None or published.value is None else ours.value - published.value
    other = ours.stderr if assumed else published.stderr
    if difference is None or ours.stderr is None or other is None:
        return Equivalence(Reproduction.CANT_TELL, difference, None, None, None, None, None, margin, assumed, None)
    stderr = math.hypot(ours.stderr, other)
    if stderr == 0:
        near = abs(difference) < margin
        verdict = Reproduction.REPRODUCED if near else Reproduction.NOT_REPRODUCED
        ends = (difference, difference)
        return Equivalence(verdict, difference, 0.0, *ends, float(not near), float(near), margin, assumed, 1.0)
    degrees = _welch((ours.stderr, ours.n), (other, ours.n if assumed else published.n))
    half = float(stats.t.ppf(1 - level, degrees)) * stderr
    above = float(stats.t.sf((difference + margin) / stderr, degrees))  # of "-margin or less"
    below = float(stats.t.cdf((difference - margin) / stderr, degrees))  # of "margin or more"
    p_equivalent = max(above, below)
    p_apart = min(1.0, 2 * min(1 - above, 1 - below))  # either side may be the one
    verdict = Reproduction.CANT_TELL
    if p_equivalent <= level:
        verdict = Reproduction.REPRODUCED
    elif p_apart <= level:
        verdict = Reproduction.NOT_REPRODUCED
    power = max(0.0, 2 * power_of(margin, stderr, degrees, level=2 * level) - 1)
    low, high = difference - half, difference + half
    return Equivalence(verdict, difference, stderr, low, high, p_equivalent, p_apart, margin, assumed, power)


def _welch(*figures: tuple[float, int | None]) -> float:
    total = sum(stderr**2 for stderr, _ in figures)
    parts = [(stderr**2 / total) ** 2 / max(1, n - 1) for stderr, n in figures if n is not None and stderr > 0]
    return 1 / math.fsum(parts) if parts else math.inf
