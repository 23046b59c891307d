"""Wilson's interval and the bootstrap's, against scipy and by coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from zephyr_bench.stats.intervals import bootstrap_interval, wilson_interval


@given(st.integers(1, 400), st.data())
def test_wilson_interval_is_scipys(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson_interval(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_takes_half_a_win_for_a_tie() -> None:
    low, high = wilson_interval(10.5, 20)
    assert wilson_interval(10, 20)[0] < low < high < wilson_interval(11, 20)[1]


def test_wilson_of_nothing_is_everything() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_forgives_rounding_and_nothing_more() -> None:
    assert wilson_interval(100.00000000000001 / 100 * 60, 60) == pytest.approx(wilson_interval(60, 60))
    with pytest.raises(ValueError, match="7 successes of 6"):
        wilson_interval(7, 6)


def test_wilson_covers_a_small_sample() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for successes in rng.binomial(24, 0.85, size=2000):
        low, high = wilson_interval(int(successes), 24)
        hits += low <= 0.85 <= high
    assert 0.93 < hits / 2000 < 0.985


def test_bootstrap_is_the_same_for_the_same_seed() -> None:
    values = np.random.default_rng(0).normal(size=30).tolist()
    first = bootstrap_interval(values, np.median, seed=4, resamples=500)
    assert first == bootstrap_interval(values, np.median, seed=4, resamples=500)
    assert first != bootstrap_interval(values, np.median, seed=5, resamples=500)


def test_bootstrap_of_the_mean_is_near_the_t_interval() -> None:
    values = np.random.default_rng(1).normal(50, 10, size=200)
    found = bootstrap_interval(values.tolist(), resamples=4000)
    half = stats.t.ppf(0.975, 199) * stats.sem(values)
    assert found == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15)


def test_bootstrap_covers_the_mean() -> None:
    rng = np.random.default_rng(11)
    hits = 0
    for sample in rng.normal(size=(200, 40)).tolist():
        found = bootstrap_interval(sample, resamples=400)
        assert found is not None
        hits += found[0] <= 0 <= found[1]
    assert 0.89 < hits / 200 < 0.99


def test_bootstrap_knows_no_interval_of_one_value() -> None:
    assert bootstrap_interval([3.0]) is None


def test_bootstrap_of_a_constant_is_the_constant() -> None:
    assert bootstrap_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)


def test_bootstrap_falls_back_where_bca_is_not_defined() -> None:
    """The maximum doesn't move with most left-out values, which BCa can't always take."""
    found = bootstrap_interval([0.0] * 20 + [1.0], np.max, resamples=300)
    assert found is not None
    assert found[0] <= found[1] <= 1.0
