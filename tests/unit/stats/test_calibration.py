from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from zephyr_bench.stats.calibration import calibrate, on_old_scale


def made(rng: np.random.Generator, n: int = 40) -> tuple[list[float], list[float]]:
    new = rng.uniform(2, 9, n)
    return (1.0 + 0.8 * new + rng.normal(0, 0.5, n)).tolist(), new.tolist()


def test_the_line_is_that_of_least_squares() -> None:
    old, new = made(np.random.default_rng(0))
    found = calibrate(old, new, list(range(40)))
    assert found is not None
    expected = stats.linregress(new, old)
    assert (found.slope, found.intercept) == pytest.approx((expected.slope, expected.intercept))
    assert found.correlation == pytest.approx(expected.rvalue)
    assert found.slope_variance**0.5 == pytest.approx(expected.stderr, rel=0.3)  # the sandwich's against the plain one


def test_errors_are_what_repeated_calibrations_scatter_by() -> None:
    rng, lines = np.random.default_rng(1), []
    for _ in range(400):
        found = calibrate(*made(rng), list(range(40)))
        assert found is not None
        lines.append(found)
    heights = [line.intercept + 8 * line.slope for line in lines]
    told = [
        line.centre_variance + 2 * (8 - line.centre) * line.covariance + (8 - line.centre) ** 2 * line.slope_variance
        for line in lines
    ]
    assert np.mean(told) == pytest.approx(np.var(heights), rel=0.2)


def test_two_turns_that_move_together_are_worth_one() -> None:
    old, new = made(np.random.default_rng(2))
    once = calibrate(old, new, list(range(40)))
    twice = calibrate(old * 2, new * 2, list(range(40)) * 2)
    assert once is not None
    assert twice is not None
    assert twice.slope_variance == pytest.approx(once.slope_variance, rel=0.05)
    assert twice.degrees == once.degrees


def test_the_interval_is_wider_than_the_mean_s_own_and_widest_far_away() -> None:
    line = calibrate(*made(np.random.default_rng(3)), list(range(40)))
    assert line is not None
    near, far = (on_old_scale(line, mean, 0.2, 80) for mean in (line.centre, 12.0))
    assert near.value == pytest.approx(line.intercept + line.slope * line.centre)
    assert near.stderr > abs(line.slope) * 0.2
    assert far.calibration_stderr > near.calibration_stderr
    assert far.extrapolated
    assert not near.extrapolated


def test_judges_that_agree_wholly_change_nothing() -> None:
    grades = [float(g) for g in range(1, 9)]
    line = calibrate(grades, grades, list(range(8)))
    assert line is not None
    found = on_old_scale(line, 5.0, 0.2, 80)
    assert (found.value, found.stderr, found.calibration_stderr) == pytest.approx((5.0, 0.2, 0.0), abs=1e-6)


def test_too_little_gives_no_line() -> None:
    assert calibrate([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1, 2, 3]) is None
    assert calibrate([1.0, 2.0, 3.0, 4.0], [5.0] * 4, [1, 2, 3, 4]) is None
    assert calibrate([5.0] * 4, [1.0, 2.0, 3.0, 4.0], [1, 2, 3, 4]) is None
    with pytest.raises(ValueError, match="2 old grades, 1 new"):
        calibrate([1.0, 2.0], [1.0], [1, 2])


def test_judges_that_do_not_agree_for_certain_tell_no_line() -> None:
    rng = np.random.default_rng(0)
    assert calibrate(rng.normal(0, 1, 40).tolist(), rng.normal(0, 1, 40).tolist(), list(range(40))) is None


def test_the_interval_holds_the_flattest_and_the_steepest_line() -> None:
    rng = np.random.default_rng(4)
    worth = rng.normal(5, 1, 200)
    old, new = (worth + rng.normal(0, 1, 200) for _ in range(2))
    line = calibrate(old.tolist(), new.tolist(), list(range(200)))
    assert line is not None
    assert (line.slope, 1 / line.reverse.slope) == (pytest.approx(0.5, abs=0.15), pytest.approx(2, abs=0.6))
    found = on_old_scale(line, line.centre + 2, 0.0, 80)
    middle = line.intercept + line.slope * line.centre
    assert found.low < middle + 2 * line.slope < found.value < middle + 2 / line.reverse.slope < found.high
    assert found.value == pytest.approx(middle + 2 * float(old.std() / new.std()))


def test_of_several_models_the_range_is_of_their_means_and_not_of_single_grades() -> None:
    new = [float(place % 5 + 2 * (place // 20)) for place in range(40)]
    line = calibrate(new, new, [place % 20 for place in range(40)], [place // 20 for place in range(40)])
    assert line is not None
    assert (line.lowest, line.highest) == (2.0, 4.0)
    assert [on_old_scale(line, mean, 0.0, 20).extrapolated for mean in (1.5, 3.0, 4.5)] == [True, False, True]
    alone = calibrate(new[:20], new[:20], list(range(20)))
    assert alone is not None
    assert 1 < alone.lowest < 2 < alone.highest < 3
