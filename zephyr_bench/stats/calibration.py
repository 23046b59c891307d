"""Two judges' scales side by side: what the new judge's mean would be on the old one's scale.

In: grades by both judges of a common set of answers. Out: a straight line from the new scale to the old, and means
brought over it with an interval that holds the line's own error. Knows no judge. Regression calibration (Carroll et al.
2006, Measurement Error in Nonlinear Models, chapter 4); the line's error clustered by question, as in `means`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from zephyr_bench.stats.means import as_finite, cluster_sums


@dataclass(frozen=True)
class Calibration:
    """old = intercept + slope * new, fitted by least squares. `n` grades of `questions` questions."""

    intercept: float
    slope: float
    centre: float  # mean of the new grades: there the line is best known
    centre_variance: float  # of the line's height there
    slope_variance: float
    covariance: float  # of the two
    residual_variance: float  # of one old grade about the line
    correlation: float  # of the two judges, grade by grade
    degrees: float
    n: int
    questions: int
    lowest: float  # range of the new grades: a mean outside of it is an extrapolation
    highest: float


@dataclass(frozen=True)
class Calibrated:
    """A mean of the new judge, on the old judge's scale."""

    value: float
    stderr: float
    low: float
    high: float
    calibration_stderr: float  # the line's part; the rest is what the mean had
    extrapolated: bool


def calibrate(old: Sequence[float], new: Sequence[float], questions: Sequence[Hashable]) -> Calibration | None:
    """None below four questions, or where the new judge gives one grade throughout: then no line can be told.

    Errors by the sandwich over questions, with the factor C / (C - 1) * (n - 1) / (n - 2) for C questions, and C - 2
    degrees of freedom.
    """
    if not len(old) == len(new) == len(questions):
        raise ValueError(f"{len(old)} old grades, {len(new)} new ones, {len(questions)} questions")
    y, x = as_finite(old), as_finite(new)  # (grades,)
    n, count = len(y), len(set(questions))
    if count < 4 or np.ptp(x) == 0:
        return None
    centre = float(x.mean())
    off = x - centre
    squares = float(off @ off)
    slope = float(off @ y) / squares
    residuals = y - y.mean() - slope * off
    # what each question adds to the error of the height at the centre, and of the slope
    height_sums = cluster_sums(residuals, questions) / n  # (questions,)
    slope_sums = cluster_sums(residuals * off, questions) / squares
    factor = count / (count - 1) * (n - 1) / (n - 2)
    spread = math.sqrt(float((y - y.mean()) @ (y - y.mean())))
    return Calibration(
        intercept=float(y.mean()) - slope * centre,
        slope=slope,
        centre=centre,
        centre_variance=factor * float(height_sums @ height_sums),
        slope_variance=factor * float(slope_sums @ slope_sums),
        covariance=factor * float(height_sums @ slope_sums),
        residual_variance=float(residuals @ residuals) / (n - 2),
        correlation=slope * math.sqrt(squares) / spread if spread else 0.0,
        degrees=float(count - 2),
        n=n,
        questions=count,
        lowest=float(x.min()),
        highest=float(x.max()),
    )


def on_old_scale(
    calibration: Calibration, mean: float, stderr: float, questions: int, *, confidence: float = 0.95
) -> Calibrated:
    """A mean by the new judge over so many questions, brought to the old scale.

    Its variance: slope^2 SE^2 for the mean's own error, the line's at that place, and the scatter of single questions
    about the line, over their number. Where the questions are those of the common set, that is more than need be.
    """
    away = mean - calibration.centre
    line = calibration.centre_variance + 2 * away * calibration.covariance + away**2 * calibration.slope_variance
    line = max(0.0, line) + calibration.residual_variance / questions
    value = calibration.intercept + calibration.slope * mean
    total = math.sqrt((calibration.slope * stderr) ** 2 + line)
    half = float(stats.t.ppf((1 + confidence) / 2, calibration.degrees)) * total
    outside = not calibration.lowest <= mean <= calibration.highest
    return Calibrated(value, total, value - half, value + half, math.sqrt(line), outside)
