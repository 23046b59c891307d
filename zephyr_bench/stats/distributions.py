"""Distribution functions of one number, by scipy.special: the same figures as scipy.stats', whose import takes longer
than most reports (half a second), and each call fifty times as long.
"""

from __future__ import annotations

import numpy as np
from scipy import special


def normal_cdf(x: float) -> float:
    return float(special.ndtr(x))


def normal_quantile(p: float) -> float:
    return float(special.ndtri(p))


def t_cdf(x: float, degrees: float) -> float:
    return float(special.stdtr(degrees, x))


def t_quantile(p: float, degrees: float) -> float:
    return float(special.stdtrit(degrees, p))


def noncentral_t_above(x: float, degrees: float, noncentrality: float) -> float:
    """P(T > x). scipy.special has no number for some x far from `noncentrality`: those are integrated here."""
    found = float(special.nctdtr(degrees, noncentrality, x))
    return 1.0 - found if found == found else _noncentral_t_above(x, degrees, noncentrality)


def _noncentral_t_above(x: float, degrees: float, noncentrality: float) -> float:
    """T is (Z + noncentrality) / sqrt(V / degrees), Z normal and V chi-squared: over Z, by the trapezoidal rule.

    With so smooth a density it is exact to some 1e-12 where `noncentrality` is 8 or more, as there T changes its sign
    outside of the range, and for x of 0 at once.
    """
    if x == 0:
        return normal_cdf(noncentrality)
    z = np.linspace(-9.0, 9.0, 3601)
    numerator = z + noncentrality
    nearer_0 = special.chdtr(degrees, degrees * (numerator / x) ** 2)  # P(|T| > |x|), given Z
    above = np.where(numerator > 0, nearer_0, 0.0) if x > 0 else np.where(numerator > 0, 1.0, 1.0 - nearer_0)
    density = np.exp(-(z**2) / 2)
    return float(above @ density / density.sum())


def half_binomial_cdf(count: int, trials: int) -> float:
    """P(as many successes or fewer), where each trial is as likely to go either way."""
    return float(special.bdtr(count, trials, 0.5))
