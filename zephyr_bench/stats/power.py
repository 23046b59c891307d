"""What a design can see: the smallest true difference that a test of this error would find, and how often it finds one.

In: standard error and degrees of freedom. Out: a difference on the same scale, or a share. Knows no data.
Miller 2024, arXiv 2411.00640, section 5, with Student's t in place of the normal distribution.
"""

from __future__ import annotations

import math
from functools import lru_cache

from zephyr_bench.stats.distributions import noncentral_t_above, normal_cdf, normal_quantile, t_quantile

LEVEL = 0.05
POWER = 0.8


def power_of(difference: float, stderr: float, degrees: float | None, *, level: float = LEVEL) -> float:
    """Share of repetitions whose t-test, two-sided at `level`, tells that the true difference isn't 0, and its sign.

    Degrees None: the error is known, not estimated.
    """
    distance = abs(difference) / stderr
    if degrees is None:
        return normal_cdf(distance - normal_quantile(1 - level / 2))
    return noncentral_t_above(t_quantile(1 - level / 2, degrees), degrees, distance)


def detectable(stderr: float, degrees: float | None, *, level: float = LEVEL, power: float = POWER) -> float:
    """The smallest true difference that is found with this power.

    It is also the smallest margin that a candidate no worse than its baseline is likely to clear: both tests are
    one-sided at level / 2, and lie as far from the truth. Some 2.8 standard errors where questions are many.
    """
    return _distance(degrees, level, power) * stderr


@lru_cache(maxsize=1024)  # a comparison asks the same for each of its metrics, and each time takes milliseconds
def _distance(degrees: float | None, level: float, power: float) -> float:
    """In standard errors; by bisection, as scipy.optimize takes longer to load than this takes."""
    low, high = 0.0, 8.0
    while power_of(high, 1.0, degrees, level=level) < power and high < 1e6:
        low, high = high, 4 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if power_of(middle, 1.0, degrees, level=level) < power:
            low = middle
        else:
            high = middle
    return high


def pairs_needed(difference: float, spread: float, *, level: float = LEVEL, power: float = POWER) -> int:
    """Questions that a true difference needs to be found, where paired differences have this standard deviation."""
    if difference == 0:
        raise ValueError("a difference of 0 is never found")
    n = 2
    while power_of(difference, spread / math.sqrt(n), n - 1, level=level) < power:
        n += max(1, n // 64)
    return n
