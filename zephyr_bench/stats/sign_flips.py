"""Fisher's test of paired differences: could chance alone have put the signs so?

In: the terms by which questions changed. Out: a one-sided p-value that is exact at any number of questions, for any
shape of the scores and with any ties, where nothing changed: two answers of one and the same model may as well have
come the other way round, so that each term is as likely with the other sign. Equal terms make it McNemar's exact test.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zephyr_bench.stats.distributions import half_binomial_cdf

MOST_TERMS = 28  # two halves of 2^14 ways to put the signs


def flipped_as_low(terms: Sequence[float]) -> float:
    """Share of all ways to put the signs whose sum is as low as the one seen, itself counted (Fisher 1935, section 21).

    At most `MOST_TERMS` terms; a zero changes nothing and may be left out. No term: 1.
    """
    if len(terms) > MOST_TERMS:
        raise ValueError(f"{len(terms)} terms; all ways to put the signs are tried for at most {MOST_TERMS}")
    array = np.asarray(terms, dtype=np.float64)
    half = len(array) // 2
    left, right = _all_sums(array[:half]), np.sort(_all_sums(array[half:]))
    seen = float(array.sum()) + 1e-9 * float(np.abs(array).sum())  # so that rounding parts no tie
    return float(np.searchsorted(right, seen - left, side="right").sum() / (len(left) * len(right)))


def _all_sums(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2^k,) sums of k terms, each with either sign."""
    sums = np.zeros(1)
    for size in np.abs(terms):
        sums = np.concatenate([sums - size, sums + size])
    return sums


def mcnemar_as_low(better: int, worse: int) -> float:
    """P(as few better ones or fewer), had each pair that changed been as likely to go either way (McNemar 1947, exact).

    None changed: 1.
    """
    return half_binomial_cdf(better, better + worse)
