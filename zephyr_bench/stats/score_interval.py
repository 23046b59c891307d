"""Tango's score test for a difference of paired proportions, honest where few pairs differ, or none.

In: how many of n pairs went up and how many down. Out: z of a supposed difference, and the interval of those that the
counts don't contradict, in [-1, 1]. Tango 1998, Statistics in Medicine 17, 891-908, eq. 3; where nothing went up it
comes near Wilson's interval. It takes the variance that a supposed difference would bring, not the one seen: no pair
that differs is no proof that none ever would.
"""

from __future__ import annotations

import math

from zephyr_bench.stats.distributions import normal_quantile

_EDGE = 1 - 1e-9


def score_z(better: int, worse: int, n: int, supposed: float) -> float:
    """(better - worse - n d) by its standard deviation where d, `supposed`, in (-1, 1), is the true difference."""
    a = 2.0 * n
    b = (2 * n - better + worse) * supposed - better - worse
    c = -worse * supposed * (1 - supposed)
    share_worse = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)  # likeliest where d is true
    variance = n * (2 * share_worse + supposed * (1 - supposed))
    distance = better - worse - n * supposed
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def score_interval(better: int, worse: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Of better / n - worse / n. Raises ValueError for no pair, or more that changed than there are."""
    if n < 1 or better + worse > n:
        raise ValueError(f"{better} better and {worse} worse of {n} pairs")
    from scipy.optimize import brentq  # here, as it loads much, and few intervals are of this kind

    z = normal_quantile((1 + confidence) / 2)
    seen = (better - worse) / n

    def excess(supposed: float) -> float:
        return abs(score_z(better, worse, n, supposed)) - z

    low = -1.0 if excess(-_EDGE) <= 0 or seen <= -_EDGE else brentq(excess, -_EDGE, seen, xtol=1e-12)
    high = 1.0 if excess(_EDGE) <= 0 or seen >= _EDGE else brentq(excess, seen, _EDGE, xtol=1e-12)
    return float(low), float(high)
