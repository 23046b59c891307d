from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from zephyr_bench.stats.score_interval import score_interval, score_z

COUNTS = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 60))


@given(COUNTS, st.integers(-90, 90).filter(bool).map(lambda percent: percent / 100))
def test_the_variance_is_that_of_the_likeliest_shares(counts: tuple[int, int, int], supposed: float) -> None:
    """Against a search for the share of worse pairs that makes the counts likeliest, where the difference is known."""
    better, worse, same = counts
    n = better + worse + same

    def unlikely(share: float) -> float:
        shares = share + supposed, share, 1 - 2 * share - supposed
        seen = zip((better, worse, same), shares, strict=True)
        return -sum(times * np.log(max(part, 1e-300)) for times, part in seen if times)

    ends = max(0.0, -supposed), (1 - supposed) / 2
    share = minimize_scalar(unlikely, bounds=ends, method="bounded", options={"xatol": 1e-12}).x
    expected = (better - worse - n * supposed) / np.sqrt(n * (2 * share + supposed - supposed**2))
    assert score_z(better, worse, n, supposed) == pytest.approx(expected, rel=1e-3, abs=1e-3)


@given(COUNTS)
def test_the_interval_holds_what_was_seen_and_turns_with_the_sign(counts: tuple[int, int, int]) -> None:
    better, worse, same = counts
    n = better + worse + same
    low, high = score_interval(better, worse, n)
    assert -1 <= low <= (better - worse) / n <= high <= 1
    assert score_interval(worse, better, n) == pytest.approx((-high, -low), abs=1e-9)


def test_its_ends_are_where_the_test_ceases_to_refute() -> None:
    low, high = score_interval(3, 11, 100)
    assert score_z(3, 11, 100, low) == pytest.approx(1.959964, abs=1e-6)
    assert score_z(3, 11, 100, high) == pytest.approx(-1.959964, abs=1e-6)


def test_no_pair_that_differs_is_no_proof_that_none_would() -> None:
    low, high = score_interval(0, 0, 24)
    assert high == pytest.approx(3.8415 / (24 + 3.8415), abs=1e-4)  # z^2 / (n + z^2)
    assert low == pytest.approx(-high)


def test_all_pairs_alike_leave_room_on_one_side() -> None:
    low, high = score_interval(0, 80, 80)
    assert low == -1
    assert -0.95 < high < -0.9


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="of 0 pairs"):
        score_interval(0, 0, 0)
    with pytest.raises(ValueError, match="3 worse of 4"):
        score_interval(2, 3, 4)
