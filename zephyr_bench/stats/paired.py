"""Differences between two models on the same questions, with 95 % intervals and p-values.

Both answered the same questions, so the spread of the differences counts, not that of the two scores:
hard questions are hard for both (Miller 2024, arXiv 2411.00640, section 4.2). In: paired values on any
scale. Out: candidate minus base on the same scale. Knows no benchmark and no store.

What few questions or skewed scores do to Student's t, and what a verdict should rather go by, is in claims.py.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zephyr_bench.stats.claims import Changes, Difference, careful_interval, counted, p_above, p_below, spread
from zephyr_bench.stats.distributions import t_cdf, t_quantile
from zephyr_bench.stats.means import as_finite, cluster_sums
from zephyr_bench.stats.power import detectable
from zephyr_bench.stats.sign_flips import MOST_TERMS

__all__ = ["Difference", "cluster_means", "mean_of_differences", "paired_difference"]

_LARGE = 0.01  # of the swing: with a smaller change a question hasn't turned


def paired_difference(
    base: Sequence[float],
    candidate: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    confidence: float = 0.95,
    swing: float | None = None,
) -> Difference:
    """Mean of candidate - base over pairs, by Student's t: mean +- t(1 - alpha/2, C - 1) SE.

    Pairs of one cluster (the turns of a question, the rows of a subject) count together: SE as in
    `means.clustered_mean`, C clusters. Without clusters each pair is its own, and this is the paired t-test, or for
    accuracies the difference of paired proportions. With one cluster, or where all differences are the same, the spread
    is not known and there is no interval; from six questions that all changed alike on, their count gives one.

    `swing` is what a question adds that turns, 100 for accuracies and preferences in per cent; None for grades, which
    may move by any size. A few right answers that went wrong, or wrong ones right, are counted: Tango's score interval,
    McNemar's exact p-value. They give an interval where no question turned, too.
    """
    if len(base) != len(candidate):
        raise ValueError(f"{len(base)} base values but {len(candidate)} candidate values")
    left, right = as_finite(base), as_finite(candidate)
    differences = right - left  # (pairs,)
    rounding = 1e-12 * float(max(np.abs(left).max(initial=0.0), np.abs(right).max(initial=0.0)))
    differences[np.abs(differences) <= rounding] = 0.0
    n = len(differences)
    if n == 0:
        return Difference(None, None, None, None, None, 0)
    if clusters is not None and len(clusters) != n:
        raise ValueError(f"{n} values but {len(clusters)} clusters")
    sums = differences if clusters is None else cluster_sums(differences, clusters)  # (clusters,)
    sizes = np.ones(n) if clusters is None else cluster_sums(np.ones(n), clusters)
    sums[np.abs(sums) <= rounding * sizes] = 0.0
    value, stderr = float(differences.mean()), None
    if len(sums) > 1:  # as `means.clustered_mean`, whose sums these are
        off = (sums - value * sizes) / n
        stderr = math.sqrt(len(sums) / (len(sums) - 1) * float(off @ off))
        stderr = 0.0 if stderr <= rounding else stderr
    degrees = float(len(sums) - 1) if len(sums) > 1 else None
    found = Difference(value, stderr, None, None, None, n, degrees, changes=_changes(sums, sizes, swing))
    return _told(found, confidence)


def mean_of_differences(parts: Sequence[Difference], *, confidence: float = 0.95) -> Difference:
    """Mean of independent differences, each counted alike, as an average over tasks is.

    SE = sqrt(sum of SE_k^2) / K; degrees of freedom by Welch and Satterthwaite:
    (sum of SE_k^2)^2 / sum of (SE_k^4 / degrees_k).
    """
    n = sum(part.n for part in parts)
    values = [part.value for part in parts if part.value is not None]
    if not parts or len(values) < len(parts):
        return Difference(None, None, None, None, None, n)
    value = math.fsum(values) / len(parts)
    if any(part.stderr is None for part in parts):
        return Difference(value, None, None, None, None, n)
    # a part whose pairs all moved alike (its error is 0) takes no part in the spread
    known = [(part.stderr, part.degrees) for part in parts if part.stderr and part.degrees]
    total = math.fsum(stderr**2 for stderr, _ in known)
    # shares of the variance, so that tiny errors don't underflow at the fourth power
    degrees = 1 / math.fsum((stderr**2 / total) ** 2 / degrees for stderr, degrees in known) if known else None
    changes = _changes_of_parts([(part.changes, part.stderr or 0.0) for part in parts], math.sqrt(total))
    found = Difference(value, math.sqrt(total) / len(parts), None, None, None, n, degrees, changes=changes)
    return _told(found, confidence)


def cluster_means(values: Sequence[float], clusters: Sequence[Hashable]) -> list[float]:
    """Mean of each cluster, in order of first sight: MMLU's subjects, say, each of which counts alike."""
    array = as_finite(values)
    means = cluster_sums(array, clusters) / cluster_sums(np.ones(len(array)), clusters)
    return [float(mean) for mean in means]


def _told(found: Difference, confidence: float) -> Difference:
    """With interval, p-value, effect size and the smallest difference that the design sees."""
    value, changes, about = found.value, found.changes, spread(found)
    if value is None or changes is None or found.stderr is None:
        return found
    low, high = _interval(found, confidence)
    effect = None
    if found.stderr and found.degrees:
        effect = value / (found.stderr * math.sqrt(changes.questions))
        effect *= 1 - 3 / (4 * found.degrees - 1) if found.degrees > 1 else 1  # Hedges 1981
    return replace(
        found,
        low=low,
        high=high,
        p_value=_p_value(found),
        effect_size=effect,
        detectable=detectable(*about, level=1 - confidence) if about else None,
    )


def _interval(found: Difference, confidence: float) -> tuple[float | None, float | None]:
    if counted(found):
        return careful_interval(found, confidence) or (None, None)
    if found.value is None or not found.stderr or not found.degrees:
        return None, None
    half = t_quantile((1 + confidence) / 2, found.degrees) * found.stderr
    return found.value - half, found.value + half


def _p_value(found: Difference) -> float | None:
    """Two-sided."""
    if found.stderr == 0 and found.value == 0:
        return 1.0  # no pair differs: nothing speaks against no difference
    if counted(found):
        sides = p_below(found), p_above(found)
        return min(1.0, 2 * min(p for p in sides if p is not None))
    if found.value is None or not found.stderr or not found.degrees:
        return None  # a p-value would need a spread
    return 2 * t_cdf(-abs(found.value) / found.stderr, found.degrees)


def _changes(sums: NDArray[np.float64], sizes: NDArray[np.float64], swing: float | None) -> Changes:
    """Of clusters' summed differences and their numbers of pairs."""
    n = float(sizes.sum())
    terms = sums / n
    share = float(sizes.max()) / n
    moved = terms[terms != 0]
    large = moved[np.abs(moved) > _LARGE * (swing or 0.0) * share]
    off = terms - terms.sum() * sizes / n
    squares = float(off @ off)
    return Changes(
        questions=len(sums),
        better=int(np.sum(moved > 0)),
        worse=int(np.sum(moved < 0)),
        large=len(large),
        size=float(np.sqrt(np.mean(large**2))) / share if len(large) else swing,
        alike=bool(np.ptp(sizes) == 0) and (len(moved) == 0 or bool(np.ptp(np.abs(moved)) <= 1e-9 * share)),
        swing=swing,
        share=share,
        skew=float(np.sum(off**3)) / squares**1.5 if squares > 0 else 0.0,
        terms=tuple(moved.tolist()) if len(moved) <= MOST_TERMS else (),
    )


def _changes_of_parts(parts: Sequence[tuple[Changes | None, float]], root: float) -> Changes | None:
    """With each part's standard error, and the root of their squares' sum."""
    known = [part for part, _ in parts if part is not None]
    if len(known) < len(parts):
        return None
    count = len(known)
    if count == 1:
        return known[0]
    share = max(part.share for part in known) / count
    changed, large = (sum(getattr(part, name) for part in known) for name in ("changed", "large"))
    # mean square of what a large change adds, over all of them
    square = math.fsum(part.large * ((part.size or 0.0) * part.share / count) ** 2 for part in known)
    swings = [part.swing for part in known if part.swing is not None]
    swing = max(swings) if len(swings) == count else None
    third = math.fsum(part.skew * stderr**3 for part, (_, stderr) in zip(known, parts, strict=True))
    return Changes(
        questions=sum(part.questions for part in known),
        better=sum(part.better for part in known),
        worse=sum(part.worse for part in known),
        large=large,
        size=math.sqrt(square / large) / share if large else swing,
        alike=False,
        swing=swing,
        share=share,
        skew=third / root**3 if root else 0.0,
        terms=tuple(term / count for part in known for term in part.terms) if changed <= MOST_TERMS else (),
    )
