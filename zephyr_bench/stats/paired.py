"""Differences between two models on the same questions, with 95 % intervals and p-values.

Both answered the same questions, so the spread of the differences counts, not that of the two scores:
hard questions are hard for both (Miller 2024, arXiv 2411.00640, section 4.2). In: paired values on any
scale. Out: candidate minus base on the same scale. Knows no benchmark and no store.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from scipy import stats

from zephyr_bench.stats.means import as_finite, clustered_mean


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


def paired_difference(
    base: Sequence[float],
    candidate: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    confidence: float = 0.95,
) -> Difference:
    """Mean of candidate - base over pairs, by Student's t: mean +- t(1 - alpha/2, C - 1) SE.

    Pairs of one cluster (the turns of a question) count together: SE as in `means.clustered_mean`, C
    clusters. Without clusters each pair is its own, and this is the paired t-test. With one cluster,
    or where all differences are the same, the spread is not known and there is no interval.
    """
    if len(base) != len(candidate):
        raise ValueError(f"{len(base)} base values but {len(candidate)} candidate values")
    differences = as_finite(candidate) - as_finite(base)  # (pairs,)
    n = len(differences)
    groups: Sequence[Hashable] = range(n) if clusters is None else clusters
    value, stderr = clustered_mean(differences.tolist(), groups)
    count = len(set(groups))
    largest = max((abs(float(x)) for x in (*base, *candidate)), default=0.0)
    if stderr is not None and stderr <= 1e-12 * largest:
        stderr = 0.0  # what is left is rounding
    return _with_interval(value, stderr, float(count - 1) if count > 1 else None, n, confidence)


def mean_of_differences(parts: Sequence[Difference], *, confidence: float = 0.95) -> Difference:
    """Mean of independent differences, each counted alike, as an average over tasks is.

    SE = sqrt(sum of SE_k^2) / K; degrees of freedom by Welch and Satterthwaite:
    (sum of SE_k^2)^2 / sum of (SE_k^4 / degrees_k).
    """
    n = sum(part.n for part in parts)
    values = [part.value for part in parts if part.value is not None]
    if not parts or len(values) < len(parts):
        return _with_interval(None, None, None, n, confidence)
    value = math.fsum(values) / len(parts)
    if any(part.stderr is None for part in parts):
        return _with_interval(value, None, None, n, confidence)
    # a part whose pairs all moved alike (its error is 0) takes no part in the spread
    known = [(part.stderr, part.degrees) for part in parts if part.stderr and part.degrees]
    if not known:
        return _with_interval(value, 0.0, None, n, confidence)
    total = math.fsum(stderr**2 for stderr, _ in known)
    # shares of the variance, so that tiny errors don't underflow at the fourth power
    degrees = 1 / math.fsum((stderr**2 / total) ** 2 / degrees for stderr, degrees in known)
    return _with_interval(value, math.sqrt(total) / len(parts), degrees, n, confidence)


def _with_interval(
    value: float | None, stderr: float | None, degrees: float | None, n: int, confidence: float
) -> Difference:
    if value is None or stderr is None:
        return Difference(value, None, None, None, None, n)
    if stderr == 0 or degrees is None:
        # no pair differs: nothing speaks against no difference; otherwise a p-value would need a spread
        return Difference(value, stderr, None, None, 1.0 if value == 0 else None, n, degrees)
    half = float(stats.t.ppf((1 + confidence) / 2, degrees)) * stderr
    p_value = float(2 * stats.t.sf(abs(value) / stderr, degrees))
    return Difference(value, stderr, value - half, value + half, p_value, n, degrees)
