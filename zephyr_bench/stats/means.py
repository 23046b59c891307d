"""Means with standard errors: of single values, of values that share a question, of a suite's tasks.

In: values on any scale, none missing. Out: (mean, standard error) on the same scale. Knows no benchmark.
Formulas after Miller 2024, "Adding Error Bars to Evals", arXiv 2411.00640, sections 2.1 and 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Mean = tuple[float | None, float | None]  # (mean, standard error); None where the data can't tell


def mean_stderr(values: Sequence[float]) -> Mean:
    """Mean and its standard error, s / sqrt(n) with s over n - 1 (arXiv 2411.00640, eq. 1).

    No value: (None, None). One value: its spread is not known, so the error is None.
    """
    if len(values) == 0:
        return None, None
    array = as_finite(values)
    if len(array) == 1:
        return float(array[0]), None
    return float(array.mean()), float(array.std(ddof=1) / math.sqrt(len(array)))


def clustered_mean(values: Sequence[float], clusters: Sequence[Hashable]) -> Mean:
    """Mean over all values, with the standard error clustered by question.

    Two turns of a question rise and fall together, so they are not two independent samples:
        SE^2 = C / (C - 1) * sum over clusters c of (sum over i in c of (x_ic - mean))^2 / n^2
    which is arXiv 2411.00640, eq. 4, with the small-sample factor C / (C - 1) for C clusters; where
    every cluster holds one value it equals `mean_stderr`. One cluster alone: the error is None.
    """
    return joint_mean([(values, clusters)])


def joint_mean(parts: Sequence[tuple[Sequence[float], Sequence[Hashable]]]) -> Mean:
    """Mean of several means of the same questions, each counted alike: IFEval's two accuracies, say.

    They rise and fall together, so the error is that of one linear statistic, clustered by question: value i of part
    k adds (x_ki - mean_k) / (n_k K) to its question's sum, and SE^2 = C / (C - 1) * sum of squared sums, as in
    `clustered_mean`, which is this with one part. A part without values: (None, None).
    """
    if not parts or not all(len(values) for values, _ in parts):
        return None, None
    means, deviations, labels = [], [], []
    for values, clusters in parts:
        if len(values) != len(clusters):
            raise ValueError(f"{len(values)} values but {len(clusters)} clusters")
        array = as_finite(values)
        means.append(float(array.mean()))
        deviations.append((array - means[-1]) / (len(array) * len(parts)))
        labels += list(clusters)
    mean = math.fsum(means) / len(means)
    sums = cluster_sums(np.concatenate(deviations), labels)  # (clusters,)
    count = len(sums)
    if count == 1:
        return mean, None
    return mean, math.sqrt(count / (count - 1) * float(sums @ sums))


def mean_of_means(means: Sequence[Mean]) -> Mean:
    """Mean of independent means, each counted alike: SE = sqrt(sum of SE_k^2) / K.

    How the Open LLM average and a group such as MMLU come from their tasks. Where one mean is missing
    the whole is missing, and likewise the error: an average over what happened to work is another number.
    """
    if not means or any(mean is None for mean, _ in means):
        return None, None
    mean = math.fsum(mean for mean, _ in means if mean is not None) / len(means)
    if any(stderr is None for _, stderr in means):
        return mean, None
    return mean, math.sqrt(math.fsum(stderr**2 for _, stderr in means if stderr is not None)) / len(means)


def cluster_sums(values: NDArray[np.float64], clusters: Sequence[Hashable]) -> NDArray[np.float64]:
    """Sum of the values of each cluster, clusters in order of first sight."""
    index: dict[Hashable, int] = {}
    labels = [index.setdefault(cluster, len(index)) for cluster in clusters]
    sums = np.zeros(len(index))  # (clusters,)
    np.add.at(sums, labels, values)
    return sums


def as_finite(values: Sequence[float]) -> NDArray[np.float64]:
    """The values as an array. Raises ValueError for NaN or infinity: a missing value is left out before."""
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("values hold NaN or infinity; leave missing values out and count them")
    return array
