"""Plain and discrete win rates from preferences. tests/parity/test_alpaca_eval_metrics.py has alpaca_eval's own."""

from __future__ import annotations

import math

import pytest

from zephyr_bench.stats.win_rates import head_to_head, preference_of


def test_a_half_is_a_draw_and_counts_half() -> None:
    found = head_to_head([1, 0.5, 0, 0.9])
    assert (found.wins, found.losses, found.draws, found.n) == (2, 1, 1, 4)
    assert found.win_rate_percent == pytest.approx(60)
    assert found.discrete_win_rate_percent == pytest.approx(62.5)


def test_a_missing_preference_is_no_loss() -> None:
    assert head_to_head([1, None, math.nan, 0]) == head_to_head([1, 0])


def test_none_has_no_rate_and_one_has_no_error() -> None:
    none, one = head_to_head([None]), head_to_head([0.75])
    assert (none.win_rate_percent, none.discrete_win_rate_percent, none.n) == (None, None, 0)
    assert (one.win_rate_percent, one.stderr_percent) == (75, None)
    assert (one.discrete_win_rate_percent, one.discrete_stderr_percent) == (100, None)


@pytest.mark.parametrize("value", [-0.01, 1.01, 2])
def test_a_preference_outside_0_to_1_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="expected 0"):
        head_to_head([0.5, value])


@pytest.mark.parametrize(
    ("value", "preference"),
    [(1, 0.0), (2, 1.0), (1.25, 0.25), (1.5, 0.5), (0, 0.5), (0.0, 0.5)]
    + [(missing, None) for missing in (None, math.nan, -1, 0.6, 2.4, 3, math.inf)],
)
def test_values_of_a_file_become_preferences(value: float | None, preference: float | None) -> None:
    assert preference_of(value) == preference
