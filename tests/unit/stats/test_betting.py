from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.stats.betting import bounds, log_wealth_above, log_wealth_below

VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30).map(np.array)


def test_wealth_is_a_fair_game_where_the_supposed_mean_is_true() -> None:
    rng = np.random.default_rng(0)
    values = rng.choice([0.0, 0.25, 1.0], p=[0.4, 0.4, 0.2], size=(60_000, 4))
    assert np.exp(log_wealth_above(values, 0.3)[:, -1]).mean() == pytest.approx(1.0, abs=0.02)
    drawn = rng.permuted(np.tile([0.0, 0.2, 0.3, 0.7, 0.8], (60_000, 1)), axis=1)[:, :3]
    assert np.exp(log_wealth_above(drawn, 0.4, population=5)[:, -1]).mean() == pytest.approx(1.0, abs=0.02)


@given(VALUES, st.floats(0.05, 0.9), st.floats(0.0, 0.1))
def test_wealth_falls_as_the_supposed_mean_rises(values: np.ndarray, mean: float, more: float) -> None:
    before, after = (log_wealth_above(values, m) for m in (mean, mean + more))
    assert np.all(after <= before + 1e-9)


@given(VALUES)
def test_bounds_close_in_on_what_was_seen(values: np.ndarray) -> None:
    low, high = bounds(values, level=0.025)
    assert 0 <= low <= values.mean() + 1e-6
    assert values.mean() - 1e-6 <= high <= 1
    more_low, more_high = bounds(np.concatenate([values, values]), level=0.025)
    assert more_low >= low - 1e-6
    assert more_high <= high + 1e-6


def test_once_all_are_drawn_the_mean_is_known() -> None:
    values = np.random.default_rng(1).beta(2, 3, 60)
    low, high = bounds(values, level=0.025, population=60)
    assert low <= values.mean() <= high
    assert high - low < 0.1
    assert high - low < 0.6 * np.ptp(bounds(values, level=0.025))


def test_a_mean_that_those_to_come_can_not_reach_is_refuted() -> None:
    ones = np.ones(9)
    assert np.isinf(log_wealth_above(ones, 0.5, population=10)[-1])
    assert log_wealth_below(ones, 0.95, population=10)[-1] < 3


def test_nothing_seen_bounds_nothing() -> None:
    assert bounds(np.array([]), level=0.05) == (0.0, 1.0)
