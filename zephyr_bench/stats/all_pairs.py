"""Every pair of many models on the same questions at once: what `paired.py` says of one pair, by matrices.

In: the models' values as sums of clusters, part by part of a nested mean. Out: differences, standard errors and
p-values as matrices (models, models), of the column's model minus the row's. No pair's differences are ever made, but
of the few that nearly agree: with centred terms T, |T_j - T_i|^2 = |T_i|^2 + |T_j|^2 - 2 T_i . T_j, and only where that
loses digits, or where `paired.py` counts changes, the pair is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NEAR = 0.01  # of both models' variance: below, the difference of squares has lost digits
_ROUNDING = 1e-12  # of the largest value, as in paired.py


@dataclass(frozen=True)
class Part:
    """A mean over pairs that are independent of the other parts': all of a plain mean, one task of an average."""

    sums: Array  # (models, clusters)
    sizes: Array  # (clusters,) pairs behind each sum
    weight: float = 1.0  # of this mean in the whole
    swing: float | None = None  # as in `paired_difference`


@dataclass(frozen=True)
class AllPairs:
    """(models, models) each, [base, candidate]; NaN where a pair can't tell."""

    value: Array
    stderr: Array
    p_value: Array  # two-sided, of no difference


def all_pairs(parts: Sequence[Part]) -> AllPairs:
    """As `mean_of_differences` of `paired_difference` of each part, for every two models; at least one part."""
    models = len(parts[0].sums)
    means = [part.sums.sum(axis=1) / part.sizes.sum() for part in parts]
    whole = np.sum([part.weight * mean for part, mean in zip(parts, means, strict=True)], axis=0)  # (models,)
    value = whole[None, :] - whole[:, None]
    scale = np.max([np.abs(part.sums / part.sizes).max(axis=1) for part in parts], axis=0)  # (models,)
    rounding = _ROUNDING * np.maximum(scale[None, :], scale[:, None])
    value[np.abs(value) <= rounding] = 0.0
    total, shares = np.zeros((models, models)), np.zeros((models, models))
    for part, mean in zip(parts, means, strict=True):
        variance = _variance(part, mean)
        variance[variance <= rounding**2] = 0.0
        variance *= part.weight**2
        total += variance
        shares += variance**2 / max(1, len(part.sizes) - 1)
    stderr = np.sqrt(total)
    if len(parts) == 1:
        degrees = np.full_like(total, max(1, len(parts[0].sizes) - 1))
    else:  # Welch and Satterthwaite
        degrees = np.divide(total**2, shares, out=np.ones_like(total), where=shares > 0)
    p_value = _by_t(value, stderr, degrees)
    if len(parts) == 1:
        _count(parts[0], value, stderr, p_value, rounding)
    return AllPairs(value, stderr, p_value)


def _variance(part: Part, mean: Array) -> Array:
    """(models, models): C / (C - 1) times the sum of squared centred terms, means.py's eq. 4; NaN for one cluster."""
    clusters = len(part.sizes)
    if clusters < 2:
        return np.full((len(mean), len(mean)), np.nan)
    terms = (part.sums - mean[:, None] * part.sizes) / part.sizes.sum()  # (models, clusters)
    products = terms @ terms.T
    own = np.diag(products)
    both = own[None, :] + own[:, None]
    squares = both - 2 * products
    for row, near in _rows(squares < _NEAR * both):
        apart = terms[near] - terms[row]
        squares[row, near] = squares[near, row] = np.einsum("ij,ij->i", apart, apart)
    np.fill_diagonal(squares, 0.0)
    return squares * (clusters / (clusters - 1))


def _rows(chosen: NDArray[np.bool_]) -> list[tuple[int, NDArray[np.intp]]]:
    """Of the pairs above the diagonal: (row, its columns)."""
    found = ((row, np.flatnonzero(chosen[row, row + 1 :]) + row + 1) for row in range(len(chosen)))
    return [(row, columns) for row, columns in found if len(columns)]


def _by_t(value: Array, stderr: Array, degrees: Array) -> Array:
    """Student's, two-sided; 1 where no pair differs, NaN where all differ alike or the spread isn't known."""
    from scipy.special import stdtr

    p_value = np.ones_like(value)
    above = np.triu_indices(len(value), 1)  # as a pair turned around has the same
    values, errors = value[above], stderr[above]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 2 * stdtr(degrees[above], -np.abs(values) / errors)
    found[errors == 0] = np.nan
    found[(errors == 0) & (values == 0)] = 1.0
    p_value[above] = p_value.T[above] = found
    return p_value


def _count(part: Part, value: Array, stderr: Array, p_value: Array, rounding: Array) -> None:
    """Put in the p-values of pairs whose changes are few and of one size: `claims.counted`."""
    from zephyr_bench.stats.claims import COUNTED

    size, clusters = float(part.sizes[0]), len(part.sizes)
    if clusters < 2 or np.ptp(part.sizes) > 0:
        return
    # as all clusters are of one size, the sum of squared changes is that around their mean and that of the mean
    squares = stderr**2 * (clusters - 1) * clusters + clusters * value**2  # of changes by cluster mean
    few = stderr == 0
    if part.swing is not None:
        few |= squares <= 1.001 * COUNTED * part.swing**2
    few &= value != 0
    for row, columns in _rows(few):
        changes = (part.sums[columns] - part.sums[row]) / size  # (pairs, clusters)
        changes[np.abs(changes) <= rounding[row, columns, None]] = 0.0
        better, worse = (changes > 0).sum(axis=1), (changes < 0).sum(axis=1)
        sizes = np.abs(changes)
        largest = sizes.max(axis=1)
        smallest = np.where(sizes > 0, sizes, np.inf).min(axis=1)
        alike = largest - smallest <= 1e-9
        if part.swing is not None:
            turned = alike & (np.abs(largest - part.swing) <= 1e-9 * part.swing) & (better + worse <= COUNTED)
        else:
            turned = np.zeros_like(alike)
        # all moved alike, so that there is no spread: from six on their count tells, else nothing does
        level = alike & (stderr[row, columns] == 0)
        for pair in np.flatnonzero(turned | level):
            column, counts = columns[pair], (int(better[pair]), int(worse[pair]))
            p_value[row, column] = p_value[column, row] = _by_count(*counts, clusters, part.swing, float(largest[pair]))


@lru_cache(maxsize=4096)
def _by_count(better: int, worse: int, clusters: int, swing: float | None, size: float) -> float:
    """NaN where the changes can't be counted."""
    from zephyr_bench.stats.claims import Changes, Difference, counted, p_above, p_below

    moved = better + worse
    changes = Changes(
        questions=clusters,
        better=better,
        worse=worse,
        large=moved,
        size=size,
        alike=True,
        swing=swing,
        share=1 / clusters,
        skew=0.0,
        terms=(),
    )
    value = size * (better - worse) / clusters
    stderr = 0.0 if moved == clusters and 0 in (better, worse) else 1.0
    found = Difference(value, stderr, None, None, None, clusters, clusters - 1, changes=changes)
    if not counted(found):
        return float("nan")
    sides = [p for p in (p_below(found), p_above(found)) if p is not None]
    return min(1.0, 2 * min(sides))


def holm_rejects(p_values: Array, level: float = 0.05) -> NDArray[np.bool_]:
    """Which of many tests `holm.holm` adjusts to `level` or less. NaN, a test that can't tell, is one more test."""
    told = np.flatnonzero(~np.isnan(p_values))
    order = told[np.argsort(p_values[told], kind="stable")]
    left = len(p_values) - np.arange(len(order))  # tests not yet rejected, before each
    adjusted = np.maximum.accumulate(np.minimum(1.0, left * p_values[order]))
    rejected = np.zeros(len(p_values), dtype=np.bool_)
    rejected[order] = adjusted <= level
    return rejected
