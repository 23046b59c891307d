from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from zephyr_bench.stats.power import detectable, pairs_needed, power_of


def test_with_a_known_error_it_is_two_point_eight_standard_errors() -> None:
    assert detectable(0.5, None) == pytest.approx(0.5 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)))


@pytest.mark.parametrize("degrees", [2.0, 5.0, 23.0, 804.0])
def test_a_detectable_difference_is_found_in_four_of_five(degrees: float) -> None:
    assert power_of(detectable(2.0, degrees), 2.0, degrees) == pytest.approx(0.8)
    assert detectable(1.0, degrees) > detectable(1.0, None)


def test_power_is_what_simulated_t_tests_have() -> None:
    rng, n = np.random.default_rng(0), 12
    p = stats.ttest_1samp(rng.normal(1.0, 1.3, size=(20_000, n)), 0, axis=1, alternative="greater").pvalue
    assert power_of(1.0, 1.3 / n**0.5, n - 1) == pytest.approx(np.mean(p < 0.025), abs=0.012)


def test_a_difference_far_beyond_the_error_is_found_for_certain() -> None:
    """From 35.75 standard errors on scipy.special has no number for some of them."""
    for degrees in (29, 79, 804):
        for distance in np.arange(30.0, 60.0, 0.25).tolist():
            assert power_of(distance, 1.0, degrees) == pytest.approx(1.0, abs=1e-12)
    assert pairs_needed(50.0, 1e-3) == 2
    assert pairs_needed(50.0, 30.0) == pytest.approx((2.8 * 30 / 50) ** 2 + 2.3, abs=1)


def test_no_difference_is_found_at_half_the_level_on_its_side() -> None:
    assert power_of(0.0, 1.0, 10) == pytest.approx(0.025)
    assert detectable(0.0, 10) == 0.0


def test_enough_questions_find_a_difference() -> None:
    n = pairs_needed(0.5, 2.0)
    assert 120 < n < 135  # (2.8 * 2 / 0.5)^2 = 125.6, and t a little more
    assert power_of(0.5, 2.0 / n**0.5, n - 1) >= 0.8
    with pytest.raises(ValueError, match="never found"):
        pairs_needed(0.0, 1.0)
