from __future__ import annotations

import numpy as np
import pytest

from zephyr_bench.stats.means import clustered_mean
from zephyr_bench.stats.repeats import error_parts


def test_nothing_judged_twice_tells_nothing_of_the_judge() -> None:
    assert error_parts([], [], []) is None
    assert error_parts([5.0, 6.0], ["a", "b"], ["a", "b"]) is None


def test_a_judge_that_never_wavers_has_no_part() -> None:
    parts = error_parts([5.0, 5.0, 7.0, 7.0], [1, 1, 2, 2], [1, 1, 2, 2])
    assert parts is not None
    assert (parts.repeats, parts.spread, parts.judge_stderr) == (2, 0, 0)
    assert parts.question_stderr == pytest.approx(clustered_mean([5.0, 5.0, 7.0, 7.0], [1, 1, 2, 2])[1])


def test_spread_is_pooled_over_items_of_unlike_size() -> None:
    parts = error_parts([4.0, 6.0, 5.0, 9.0, 9.0, 9.0], ["a", "a", "b", "c", "c", "c"], ["a", "a", "b", "c", "c", "c"])
    assert parts is not None
    assert parts.spread == pytest.approx((2 / 3) ** 0.5)  # (1 + 1) over (2-1) + (1-1) + (3-1)
    assert parts.judge_stderr == pytest.approx((2 / 3 / 6) ** 0.5)


def test_parts_are_those_that_the_values_were_made_with() -> None:
    rng = np.random.default_rng(0)
    questions, repeats, spread, noise = 400, 3, 2.0, 1.2
    truth = rng.normal(6, spread, questions)
    values = (truth[:, None] + rng.normal(0, noise, (questions, repeats))).ravel()
    ids = np.repeat(np.arange(questions), repeats).tolist()
    parts = error_parts(values.tolist(), ids, ids)
    assert parts is not None
    assert parts.spread == pytest.approx(noise, rel=0.06)
    assert parts.judge_stderr == pytest.approx(noise / (questions * repeats) ** 0.5, rel=0.06)
    assert parts.question_stderr == pytest.approx(spread / questions**0.5, rel=0.1)


def test_parts_add_up_to_the_error_of_the_mean() -> None:
    values = [4.0, 5.0, 8.0, 7.0, 2.0, 3.0]
    ids = [1, 1, 2, 2, 3, 3]
    parts = error_parts(values, ids, ids)
    assert parts is not None
    assert parts.question_stderr is not None
    _, stderr = clustered_mean(values, ids)
    assert parts.judge_stderr**2 + parts.question_stderr**2 == pytest.approx((stderr or 0) ** 2)
