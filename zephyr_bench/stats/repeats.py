"""How much of a mean's error is the judge's own, told by judging the same answers several times.

In: values on any scale, which item each repeats and which question the item belongs to. Out: the parts of the standard
error on the same scale. Knows no judge. Variances add up as in Miller 2024, arXiv 2411.00640, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from zephyr_bench.stats.means import as_finite, cluster_sums, clustered_mean


@dataclass(frozen=True)
class ErrorParts:
    """`judge_stderr`^2 + `question_stderr`^2 = the mean's standard error, squared."""

    repeats: int  # of the item that has most
    spread: float  # standard deviation of one judgment about its item's mean
    judge_stderr: float  # what the error would be with endless questions
    question_stderr: float | None  # what it would be with a judge that never wavers; None for one question


def error_parts(values: Sequence[float], items: Sequence[Hashable], questions: Sequence[Hashable]) -> ErrorParts | None:
    """None where nothing was judged twice.

    Repeats of an item differ by the judge alone, so their pooled variance s^2 is the judge's, and s^2 / n of the
    variance of a mean of n judgments is. The rest is the questions': other questions would have given another mean.
    """
    array = as_finite(values)
    counts = cluster_sums(np.ones(len(array)), items)  # (items,)
    if len(counts) == 0 or counts.max() < 2:
        return None
    of_item = dict(zip(dict.fromkeys(items), cluster_sums(array, items) / counts, strict=True))
    residuals = array - np.array([of_item[item] for item in items])  # (judgments,)
    variance = float(residuals @ residuals) / float((counts - 1).sum())
    judge = variance / len(array)
    _, stderr = clustered_mean(values, questions)
    rest = None if stderr is None else math.sqrt(max(0.0, stderr**2 - judge))
    return ErrorParts(int(counts.max()), math.sqrt(variance), math.sqrt(judge), rest)
