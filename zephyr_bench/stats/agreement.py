"""How far raters agree beyond chance: Cohen's kappa, Krippendorff's alpha, Spearman's rank correlation.

In: labels or values of the same items, by two raters or by many. Out: 1 where they agree wholly, 0 where chance would
have done as well, None where nothing varies: then there is nothing to agree on, and no chance to compare with.
Knows no judge.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Literal

Metric = Literal["nominal", "interval"]


def cohen_kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """(p_o - p_e) / (1 - p_e) of (label by one, label by the other), an item each (Cohen 1960, eq. 1).

    None for no item, or where both gave one and the same label throughout.
    """
    n = len(pairs)
    agreed = sum(one == other for one, other in pairs)
    left, right = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    by_chance = sum(times * right[label] for label, times in left.items())  # of n^2
    if by_chance == n * n:
        return None
    return (n * agreed - by_chance) / (n * n - by_chance)


def krippendorff_alpha(units: Iterable[Sequence[Any]], *, metric: Metric) -> float | None:
    """1 - D_o / D_e over units, each with the values that it was given; None for a missing one (Krippendorff 2011).

    Disagreement of two values is 1 where they differ ("nominal"), or their difference squared ("interval"). A unit
    with fewer than two values says nothing. None where all values that count are the same.
    """
    disagreement = _DISAGREEMENT[metric]
    known = ([value for value in unit if value is not None] for unit in units)
    paired = [unit for unit in known if len(unit) > 1]
    values = [value for unit in paired for value in unit]
    if len(set(values)) < 2:
        return None
    observed = math.fsum(disagreement(unit) / (len(unit) - 1) for unit in paired)  # n D_o
    return 1 - observed / (disagreement(values) / (len(values) - 1))


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Rank correlation, ties at their mean rank. None below two items, or where either side doesn't vary."""
    from scipy.stats import spearmanr

    if len(one) != len(other):
        raise ValueError(f"{len(one)} values but {len(other)}")
    if len(set(one)) < 2 or len(set(other)) < 2:
        return None
    return float(spearmanr(one, other).statistic)


def spearman_within(groups: Iterable[Sequence[tuple[float, float]]]) -> tuple[float | None, int]:
    """Mean of the groups' own rank correlations, and how many groups have one.

    What differs from group to group, such as how hard a question is, has no part in it.
    """
    found = [spearman([one for one, _ in group], [other for _, other in group]) for group in groups]
    known = [value for value in found if value is not None]
    return (math.fsum(known) / len(known) if known else None), len(known)


def _nominal(values: Sequence[Hashable]) -> float:
    return float(len(values) ** 2 - sum(times**2 for times in Counter(values).values()))


def _interval(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return 2 * len(values) * math.fsum((value - mean) ** 2 for value in values)


# a metric's disagreement, summed over the ordered pairs of the values
_DISAGREEMENT: dict[Metric, Callable[[Sequence[Any]], float]] = {"nominal": _nominal, "interval": _interval}
