"""Confidence intervals of one sample: Wilson's for a proportion, the bootstrap's for any statistic.

Knows no benchmark; the scale is the caller's (proportions in [0, 1]).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from zephyr_bench.stats.means import as_finite


def wilson_interval(successes: float, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, in [0, 1] (Wilson 1927; Brown, Cai, DasGupta 2001).

        (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    It stays inside [0, 1] and is honest for small n, where p +- z SE is not. `successes` may be a half
    where a tie counts half. n = 0 tells nothing: (0, 1).
    """
    if n == 0:
        return 0.0, 1.0
    # a share that went through per cent and back may leave the range by a rounding error
    share = min(max(successes / n, 0.0), 1.0)
    if abs(share - successes / n) > 1e-9:
        raise ValueError(f"{successes} successes of {n}")
    z = float(stats.norm.ppf((1 + confidence) / 2))
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def bootstrap_interval(
    values: Sequence[float],
    statistic: Callable[..., Any] = np.mean,
    *,
    seed: int = 0,
    resamples: int = 9999,
    confidence: float = 0.95,
) -> tuple[float, float] | None:
    """Bootstrap interval of a statistic of independent values, the same for the same seed.

    BCa (Efron 1987), or the percentile interval where BCa isn't defined, as for a statistic that a
    resample doesn't move. `statistic` takes an array and, as numpy's do, `axis`. None below two values.
    """
    if len(values) < 2:
        return None
    array = as_finite(values)
    if np.ptp(array) == 0:
        constant = float(statistic(array, axis=-1))
        return constant, constant
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            found = stats.bootstrap(
                (array,),
                statistic,
                n_resamples=resamples,
                batch=max(1, 2_000_000 // len(array)),  # 16 MB of resamples at a time
                confidence_level=confidence,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        if np.isfinite(found.low) and np.isfinite(found.high):
            return float(found.low), float(found.high)
    return None
