"""Paired differences against scipy, by coverage, and at the edges where there is little to say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from zephyr_bench.stats.paired import mean_of_differences, paired_difference


@given(st.lists(st.tuples(st.floats(1, 10), st.floats(1, 10)), min_size=3, max_size=40))
def test_without_clusters_it_is_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    base, candidate = [a for a, _ in pairs], [b for _, b in pairs]
    changes = np.subtract(candidate, base)
    assume(np.std(changes) > 1e-6)
    assume(2 * np.count_nonzero(changes) > len(changes))  # few changes: below
    assume(np.ptp(np.abs(changes[changes != 0])) > 1e-6)  # of one size: counted, below
    expected = stats.ttest_rel(candidate, base)
    interval = expected.confidence_interval()
    found = paired_difference(base, candidate)
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert found.n == len(pairs)


@given(st.lists(st.tuples(st.floats(1, 10), st.floats(1, 10)), min_size=2, max_size=30))
def test_swapping_the_two_only_turns_the_sign(pairs: list[tuple[float, float]]) -> None:
    base, candidate = [a for a, _ in pairs], [b for _, b in pairs]
    forth, back = paired_difference(base, candidate), paired_difference(candidate, base)
    assert forth.value == -(back.value or 0)
    assert forth.p_value == back.p_value
    assert (forth.low is None) == (back.low is None)


def test_turns_of_a_question_count_together() -> None:
    """Both turns moved alike: as much as one turn each says, with half the degrees of freedom."""
    base, candidate = [5.0, 6.0, 7.0, 4.0], [6.0, 8.0, 6.0, 7.0]
    once = paired_difference(base, candidate)
    turns = [x for x in base for _ in range(2)], [x for x in candidate for _ in range(2)]
    clustered = paired_difference(*turns, ["a", "a", "b", "b", "c", "c", "d", "d"])
    assert (clustered.low, clustered.high) == pytest.approx((once.low, once.high))
    assert (clustered.n, clustered.degrees) == (8, 3)


def test_three_pairs_give_a_wide_interval() -> None:
    found = paired_difference([5.0, 5.0, 5.0], [6.0, 7.0, 5.0])
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < found.high
    assert found.high - found.low > 4 * (found.stderr or math.inf)  # t with 2 degrees: 2 x 4.30, not 2 x 1.96


def test_one_pair_or_one_question_has_a_value_but_no_interval() -> None:
    for found in (paired_difference([5.0], [7.0]), paired_difference([5.0, 5.0], [6.0, 8.0], ["q", "q"])):
        assert found.value == 2.0
        assert (found.stderr, found.low, found.high, found.p_value) == (None, None, None, None)


def test_no_pairs_say_nothing() -> None:
    found = paired_difference([], [])
    assert (found.value, found.stderr, found.p_value, found.n) == (None, None, None, 0)


def test_equal_differences_have_no_interval_because_their_spread_is_unknown() -> None:
    found = paired_difference([1.1, 2.2, 3.3], [1.2, 2.3, 3.4])
    assert found.value == pytest.approx(0.1)
    assert (found.stderr, found.low, found.high, found.p_value) == (0.0, None, None, None)


def test_the_same_answers_twice_are_no_difference() -> None:
    found = paired_difference([1.1, 2.2], [1.1, 2.2])
    assert (found.value, found.p_value, found.low) == (0.0, 1.0, None)


def test_lengths_must_match_and_values_be_finite() -> None:
    with pytest.raises(ValueError, match="2 base values but 1 candidate"):
        paired_difference([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="NaN"):
        paired_difference([1.0], [math.nan])


def test_pairing_sees_what_two_separate_errors_hide() -> None:
    """Questions differ much in difficulty, the candidate is a little better on each."""
    rng = np.random.default_rng(5)
    difficulty = rng.uniform(2, 9, size=40)
    base = difficulty + rng.normal(0, 0.3, size=40)
    candidate = difficulty + 0.4 + rng.normal(0, 0.3, size=40)
    found = paired_difference(base.tolist(), candidate.tolist())
    assert found.low is not None
    assert found.low > 0
    assert stats.ttest_ind(base, candidate).pvalue > 0.05


def test_clustered_paired_intervals_cover_the_true_difference() -> None:
    rng = np.random.default_rng(9)
    rounds, questions = 500, 24
    clusters = [question for question in range(questions) for _ in range(2)]
    hits = 0
    for _ in range(rounds):
        effect = rng.normal(0.5, 1, size=(questions, 1))
        base = rng.normal(6, 1, size=(questions, 2))
        candidate = base + effect + rng.normal(0, 0.5, size=(questions, 2))
        found = paired_difference(base.ravel().tolist(), candidate.ravel().tolist(), clusters)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.5 <= found.high
    assert 0.92 < hits / rounds < 0.98


def test_mean_of_one_difference_is_that_difference() -> None:
    part = paired_difference([1.0, 2.0, 4.0], [2.0, 2.0, 7.0])
    whole = mean_of_differences([part])
    assert (whole.value, whole.low, whole.high) == pytest.approx((part.value, part.low, part.high))


def test_average_over_tasks_combines_errors_and_degrees() -> None:
    a = paired_difference([0.0, 0.0, 100.0, 0.0], [100.0, 0.0, 100.0, 0.0])
    b = paired_difference([0.0, 100.0, 0.0], [100.0, 0.0, 100.0])
    assert a.stderr is not None
    assert b.stderr is not None
    whole = mean_of_differences([a, b])
    assert whole.stderr == pytest.approx(math.hypot(a.stderr, b.stderr) / 2)
    welch = (a.stderr**2 + b.stderr**2) ** 2 / (a.stderr**4 / 3 + b.stderr**4 / 2)
    assert whole.degrees == pytest.approx(welch)
    assert whole.n == 7


def test_average_lacking_a_task_is_missing() -> None:
    a = paired_difference([0.0, 1.0], [1.0, 5.0])
    assert mean_of_differences([a, paired_difference([], [])]).value is None


def test_average_with_an_unknown_spread_has_no_interval() -> None:
    a = paired_difference([0.0, 1.0], [1.0, 5.0])
    found = mean_of_differences([a, paired_difference([1.0], [2.0])])
    assert found.value is not None
    assert found.low is None


def test_a_task_that_nobody_moved_on_adds_nothing_to_the_spread() -> None:
    a = paired_difference([0.0, 0.0, 100.0, 0.0], [100.0, 0.0, 100.0, 0.0])
    still = paired_difference([0.0, 100.0], [0.0, 100.0])
    nested = mean_of_differences([still, still])
    whole = mean_of_differences([a, nested])
    assert a.stderr is not None
    assert whole.stderr == pytest.approx(a.stderr / 2)
    assert whole.degrees == a.degrees
