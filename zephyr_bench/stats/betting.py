"""Means of bounded values told at any time: how rich a gambler gets who bets against a supposed mean.

In: values in [0, 1] in random order. Out: wealth after each value, and bounds of the mean that hold at all times at
once, so that one may look after each value and stop where one likes. Waudby-Smith and Ramdas 2024, Estimating means of
bounded random variables by betting, JRSS B 86, 1-27 (arXiv 2010.09686), section 4, and section 5 for values drawn
without replacement from a finite number. Ville's inequality: where the supposed mean is true, wealth ever reaches
1 / level in at most a share `level` of runs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

Floats = NDArray[np.float64]

# Shares of the largest bet that can't ruin. The purse is split among them alike, as no one knows which is best; it
# costs log 4 at most (the mixture of section B.6, after Cover's universal portfolio).
_FRACTIONS = np.array([0.1, 0.3, 0.6, 0.95])


def log_wealth_above(values: Floats, mean: float, *, population: int | None = None) -> Floats:
    """Log of the wealth after each value, of bets that the mean is more than `mean`; starts at 0, before any value.

    values: (..., n) in [0, 1]. Out: (..., n). `population`: the values are drawn without replacement from so many,
    whose mean is meant; otherwise the mean of all that might come.
    """
    n = values.shape[-1]
    if population is None:
        rest = np.full(values.shape, mean)
    else:
        # what the mean of those still to come would have to be
        sums = np.cumsum(values, axis=-1) - values
        rest = (population * mean - sums) / (population - np.arange(n))
    # a mean of the rest below 0 can't be: the supposed mean is refuted, and wealth has no bound. Above 1 neither, but
    # that speaks for a mean below the supposed one: bets stop.
    refuted = np.maximum.accumulate(rest < -1e-9, axis=-1)
    safe = np.clip(rest, 1e-9, None)
    with np.errstate(divide="ignore"):
        gains = np.log1p(_FRACTIONS[:, None] * ((values / safe)[..., None, :] - 1))  # (..., fractions, n)
    gains = np.where((rest > 1)[..., None, :], 0.0, gains)
    paths = np.cumsum(gains, axis=-1)
    top = paths.max(axis=-2, keepdims=True)
    logs = np.log(np.mean(np.exp(paths - top), axis=-2)) + top[..., 0, :]
    return np.where(refuted, math.inf, logs)


def log_wealth_below(values: Floats, mean: float, *, population: int | None = None) -> Floats:
    """The same of bets that the mean is less than `mean`."""
    return log_wealth_above(1 - values, 1 - mean, population=population)


def bounds(values: Floats, *, level: float, population: int | None = None) -> tuple[float, float]:
    """Lower and upper bound of the mean after all of these values (n,), each wrong at any time in a share `level`."""
    low = _lower_bound(values, level, population)
    return low, 1 - _lower_bound(1 - values, level, population)


def _lower_bound(values: Floats, level: float, population: int | None) -> float:
    """Wealth falls as the supposed mean rises, so what is refuted lies below one place."""
    if len(values) == 0:
        return 0.0

    def surplus(mean: float) -> float:
        wealth = log_wealth_above(values, mean, population=population)
        return float(np.clip(wealth.max(), -700, 700)) + math.log(level)

    if surplus(0.0) <= 0:
        return 0.0
    if surplus(1.0) >= 0:
        return 1.0
    return float(brentq(surplus, 0.0, 1.0, xtol=1e-6))
