"""Two judges' scales side by side: what the new judge's mean would be on the old one's scale.

In: grades by both judges of a common set of answers. Out: bounds of the straight line from the new scale to the old,
and means brought over it with an interval that holds the line's own error. Knows no judge.

Both judges waver, so least squares draw the line too flat (regression dilution): a model two points better comes over
less than two points better. How much too flat, one grade of each judge doesn't tell. But the line of old on new is too
flat and that of new on old, turned round, too steep, so that the judges' own line lies between the two (Frisch 1934;
Fuller 1987, Measurement Error Models, section 1.1.3). Errors are clustered by question, as in `means`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from zephyr_bench.stats.means import as_finite, cluster_sums, clustered_mean
from zephyr_bench.stats.paired import cluster_means

_CONFIDENCE = 0.95  # that both slopes lie above zero, and of what one model's mean may be


@dataclass(frozen=True)
class Line:
    """y = intercept + slope * x, fitted by least squares."""

    intercept: float
    slope: float
    centre: float  # mean of x: there the line is best known
    centre_variance: float  # of the line's height there
    slope_variance: float
    covariance: float  # of the two
    residual_variance: float  # of one y about the line


@dataclass(frozen=True)
class Calibration(Line):
    """The flattest line, old on new; the steepest is `reverse`, new on old. `n` grades of `questions` questions."""

    reverse: Line
    correlation: float  # of the two judges, grade by grade
    degrees: float
    n: int
    questions: int
    lowest: float  # range of the models' new means: beyond it no model was judged by both
    highest: float

    @property
    def middle_slope(self) -> float:
        """Of the line that holds where both judges waver alike, measured in their spreads (reduced major axis)."""
        return self.slope / self.correlation


@dataclass(frozen=True)
class Calibrated:
    """A mean of the new judge, on the old judge's scale. The interval holds those of all lines that may be."""

    value: float  # by the middle line
    stderr: float  # half of the interval, over Student's t
    low: float
    high: float
    calibration_stderr: float  # the lines' part; the rest is what the mean had
    extrapolated: bool


def calibrate(
    old: Sequence[float],
    new: Sequence[float],
    questions: Sequence[Hashable],
    models: Sequence[Hashable] | None = None,
) -> Calibration | None:
    """None below four questions, and where the judges don't agree for certain: then no line can be told.

    `models`: whose answer each is; None: one model's. Errors by the sandwich over questions, with the factor
    C / (C - 1) * (n - 1) / (n - 2) for C questions, and C - 2 degrees of freedom.
    """
    if not len(old) == len(new) == len(questions) == len(models or old):
        raise ValueError(f"{len(old)} old grades, {len(new)} new ones, {len(questions)} questions")
    y, x = as_finite(old), as_finite(new)  # (grades,)
    n, count = len(y), len(set(questions))
    if count < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    forward, reverse = _fitted(x, y, questions), _fitted(y, x, questions)
    t = _t(count - 2, _CONFIDENCE)
    if any(line.slope <= t * math.sqrt(line.slope_variance) for line in (forward, reverse)):
        return None
    lowest, highest = _range(x, questions, models, t)
    return Calibration(
        **vars(forward),
        reverse=reverse,
        correlation=min(1.0, math.sqrt(forward.slope * reverse.slope)),
        degrees=float(count - 2),
        n=n,
        questions=count,
        lowest=lowest,
        highest=highest,
    )


def _fitted(x: NDArray[np.float64], y: NDArray[np.float64], questions: Sequence[Hashable]) -> Line:
    n, count = len(y), len(set(questions))
    centre = float(x.mean())
    off = x - centre
    squares = float(off @ off)
    slope = float(off @ y) / squares
    residuals = y - y.mean() - slope * off
    # what each question adds to the error of the height at the centre, and of the slope
    height_sums = cluster_sums(residuals, questions) / n  # (questions,)
    slope_sums = cluster_sums(residuals * off, questions) / squares
    factor = count / (count - 1) * (n - 1) / (n - 2)
    return Line(
        intercept=float(y.mean()) - slope * centre,
        slope=slope,
        centre=centre,
        centre_variance=factor * float(height_sums @ height_sums),
        slope_variance=factor * float(slope_sums @ slope_sums),
        covariance=factor * float(height_sums @ slope_sums),
        residual_variance=float(residuals @ residuals) / (n - 2),
    )


def _range(
    x: NDArray[np.float64], questions: Sequence[Hashable], models: Sequence[Hashable] | None, t: float
) -> tuple[float, float]:
    """Of the models' means; of one model alone its mean's interval."""
    means = cluster_means(x.tolist(), models or [0] * len(x))
    if len(means) > 1:
        return min(means), max(means)
    stderr = clustered_mean(x.tolist(), questions)[1] or 0.0
    return means[0] - t * stderr, means[0] + t * stderr


def on_old_scale(
    calibration: Calibration, mean: float, stderr: float, questions: int, *, confidence: float = 0.95
) -> Calibrated:
    """A mean by the new judge over so many questions, brought to the old scale by the flattest and the steepest line.

    The flattest one's variance: slope^2 SE^2 for the mean's own error, the line's at that place, and the scatter of
    single questions about the line, over their number. The steepest is the line of new on old read backwards, with
    Fieller's limits: the old means from which such a new one is to be expected. The interval is from the lower end of
    both to the higher. Where the questions are those of the common set, that is more than need be.
    """
    t = _t(calibration.degrees, confidence)
    away = mean - calibration.centre
    line = calibration.centre_variance + 2 * away * calibration.covariance + away**2 * calibration.slope_variance
    line = max(0.0, line) + calibration.residual_variance / questions
    flat = calibration.intercept + calibration.slope * mean
    half = t * math.sqrt((calibration.slope * stderr) ** 2 + line)
    steep = _read_backwards(calibration.reverse, mean, stderr, questions, t)
    low, high = min(flat - half, steep[0]), max(flat + half, steep[1])
    value = calibration.intercept + calibration.slope * calibration.centre + calibration.middle_slope * away
    total = (high - low) / 2 / t
    own = calibration.middle_slope * stderr
    outside = not calibration.lowest <= mean <= calibration.highest
    return Calibrated(value, total, low, high, math.sqrt(max(0.0, total**2 - own**2)), outside)


def _read_backwards(line: Line, y: float, stderr: float, questions: int, t: float) -> tuple[float, float]:
    """The x that are to be expected for a mean of y. At more confidence than 95 % they may know no bounds."""
    square = line.slope**2 - t**2 * line.slope_variance
    if square <= 0:
        return -math.inf, math.inf
    away = y - (line.intercept + line.slope * line.centre)
    middle = line.slope * away + t**2 * line.covariance
    rest = away**2 - t**2 * (line.centre_variance + line.residual_variance / questions + stderr**2)
    half = math.sqrt(max(0.0, middle**2 - square * rest))
    return line.centre + (middle - half) / square, line.centre + (middle + half) / square


def _t(degrees: float, confidence: float) -> float:
    return float(stats.t.ppf((1 + confidence) / 2, degrees))
