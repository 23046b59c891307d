"""Means and standard errors against their formulas and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from zephyr_bench.stats.means import clustered_mean, mean_of_means, mean_stderr

numbers = st.floats(-1e6, 1e6)


@given(st.lists(numbers, min_size=2, max_size=40))
def test_mean_and_error_are_scipys(values: list[float]) -> None:
    mean, stderr = mean_stderr(values)
    assert mean == pytest.approx(np.mean(values))
    assert stderr == pytest.approx(stats.sem(values), abs=1e-9)


def test_one_value_has_no_error_and_none_has_no_mean() -> None:
    assert mean_stderr([7.0]) == (7.0, None)
    assert mean_stderr([]) == (None, None)


def test_a_missing_value_is_refused_rather_than_averaged() -> None:
    with pytest.raises(ValueError, match="NaN"):
        mean_stderr([1.0, math.nan])


@given(st.lists(numbers, min_size=2, max_size=40))
def test_clusters_of_one_give_the_plain_error(values: list[float]) -> None:
    plain, clustered = mean_stderr(values), clustered_mean(values, range(len(values)))
    assert clustered == (pytest.approx(plain[0]), pytest.approx(plain[1], abs=1e-9))


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=20))
def test_two_equal_turns_say_no_more_than_one(questions: list[tuple[float, float]]) -> None:
    """A question graded twice alike is one observation: the plain error would shrink by sqrt(2)."""
    once = [turn for turn, _ in questions]
    twice = [turn for turn in once for _ in range(2)]
    clusters = [index for index in range(len(once)) for _ in range(2)]
    assert clustered_mean(twice, clusters)[1] == pytest.approx(mean_stderr(once)[1], abs=1e-6)


def test_clustered_error_follows_the_published_formula() -> None:
    """arXiv 2411.00640, eq. 4: SE_CLT^2 + sum over i != j within a cluster of the products / n^2."""
    values = np.array([3.0, 5.0, 8.0, 9.0, 2.0, 1.0, 7.0])
    clusters = ["a", "a", "b", "b", "c", "c", "d"]
    off = values - values.mean()
    n, count = len(values), 4
    cross = sum(off[i] * off[j] for i in range(n) for j in range(n) if i != j and clusters[i] == clusters[j])
    variance = float(off @ off) / n**2 + cross / n**2
    expected = math.sqrt(count / (count - 1) * variance)
    assert clustered_mean(values.tolist(), clusters)[1] == pytest.approx(expected)


def test_one_question_has_no_clustered_error() -> None:
    assert clustered_mean([6.0, 8.0], ["q", "q"]) == (7.0, None)


def test_clusters_must_match_values() -> None:
    with pytest.raises(ValueError, match="2 values but 1 clusters"):
        clustered_mean([1.0, 2.0], ["a"])


def test_average_counts_each_task_alike() -> None:
    mean, stderr = mean_of_means([(60.0, 3.0), (40.0, 4.0)])
    assert mean == 50.0
    assert stderr == pytest.approx(2.5)  # sqrt(9 + 16) / 2


@pytest.mark.parametrize("means", [[], [(50.0, 1.0), (None, None)]])
def test_average_with_a_task_missing_is_missing(means: list[tuple[float | None, float | None]]) -> None:
    assert mean_of_means(means) == (None, None)


def test_average_keeps_its_value_where_one_error_is_unknown() -> None:
    assert mean_of_means([(50.0, 1.0), (60.0, None)]) == (55.0, None)


def test_clustered_intervals_cover_where_plain_ones_do_not() -> None:
    """Two turns with correlation 0.8, 40 questions: a 95 % interval should hold the true mean."""
    rng = np.random.default_rng(7)
    rounds, questions = 600, 40
    shared = rng.normal(size=(rounds, questions, 1))
    turns = math.sqrt(0.8) * shared + math.sqrt(0.2) * rng.normal(size=(rounds, questions, 2))
    clusters = [question for question in range(questions) for _ in range(2)]
    hits = {"clustered": 0, "plain": 0}
    for values in turns.reshape(rounds, -1).tolist():
        for name, (mean, stderr) in {
            "clustered": clustered_mean(values, clusters),
            "plain": mean_stderr(values),
        }.items():
            assert mean is not None
            assert stderr is not None
            hits[name] += abs(mean) <= stats.t.ppf(0.975, questions - 1) * stderr
    assert 0.925 < hits["clustered"] / rounds < 0.975
    assert hits["plain"] / rounds < 0.9
