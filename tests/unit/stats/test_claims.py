"""One-sided claims: where they are Student's, where they are more careful, and that their interval is theirs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy import stats

from zephyr_bench.stats.claims import careful_interval, p_above, p_below
from zephyr_bench.stats.paired import mean_of_differences, paired_difference


def changed(*differences: float, swing: float | None = None):
    return paired_difference([0.0] * len(differences), list(differences), swing=swing)


def test_many_symmetric_differences_are_student_s() -> None:
    rng = np.random.default_rng(0)
    half = rng.normal(0, 1, 60)
    differences = np.concatenate([half, -half]) - 0.3  # no skew at all
    found = changed(*differences)
    expected = stats.ttest_1samp(differences, 0, alternative="less").pvalue
    assert p_below(found) == pytest.approx(expected, rel=0.05)
    assert careful_interval(found) == pytest.approx((found.low, found.high), rel=0.01)


@given(st.lists(st.sampled_from([-9.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0]), min_size=7, max_size=45))
def test_a_claim_is_never_bolder_than_t_and_turns_with_the_sign(differences: list[float]) -> None:
    found = changed(*differences)
    assume(found.stderr)
    by_t = stats.ttest_1samp(differences, 0, alternative="less").pvalue
    assert (p_below(found) or 0) >= min(by_t, 0.5) - 1e-9  # allowing for the unseen draws both ends away
    assert p_above(changed(*[-d for d in differences])) == pytest.approx(p_below(found))


@given(
    st.lists(st.sampled_from([-100.0, -3.0, -1.0, 0.0, 0.5, 1.0, 100.0]), min_size=7, max_size=45),
    st.sampled_from([None, 100.0]),
)
@example([-3.0] * 7, None)
def test_the_interval_ends_where_claims_do(differences: list[float], swing: float | None) -> None:
    found = changed(*differences, swing=swing)
    ends = careful_interval(found)
    assume(ends is not None)
    farthest = swing or (math.inf if found.stderr else abs(differences[0]))  # all alike are counted
    for end, claim in zip(ends or (), (p_above, p_below), strict=True):
        if end == 0 or abs(end) > 0.999 * farthest:
            continue  # stretched to zero by the exact test, or at the end of what can be
        assert claim(found, end) == pytest.approx(0.025, abs=1e-3)


def test_five_questions_all_worse_may_be_chance_and_six_not() -> None:
    p = p_below(changed(-1.0, -1.1, -0.9, -1.2, -0.8))
    assert p == pytest.approx(1 / 32)
    assert (p_below(changed(-1.0, -1.1, -0.9, -1.2, -0.8, -1.0)) or 1) == pytest.approx(1 / 64)
    ends = careful_interval(changed(-1.0, -1.1, -0.9, -1.2, -0.8))
    assert ends is not None
    assert ends[1] == 0.0


def test_a_long_tail_on_the_other_side_is_no_proof_of_a_loss() -> None:
    """Most a little worse, one much better: t says worse at 2.5 %, without the skew it isn't."""
    rng = np.random.default_rng(3)
    differences = np.concatenate([-np.abs(rng.normal(1.0, 0.4, 36)), [3.0, 4.0, 5.0, 6.0]])
    found = changed(*differences)
    assert (p_below(found) or 0) > 2 * stats.ttest_1samp(differences, 0, alternative="less").pvalue
    ends = careful_interval(found)
    assert ends is not None
    assert found.high is not None
    assert ends[1] > found.high


def test_a_few_turned_answers_are_counted() -> None:
    found = changed(*[-100.0] * 7, *[100.0] * 1, *[0.0] * 42, swing=100.0)
    assert p_below(found) == pytest.approx(stats.binomtest(1, 8, alternative="less").pvalue)
    assert found.p_value == pytest.approx(stats.binomtest(1, 8).pvalue)
    assert found.low == pytest.approx(-24.25, abs=0.5)  # t: -22.5
    assert (p_above(found, -24.0) or 0) > 0.025


def test_a_single_change_leaves_room_for_those_not_seen() -> None:
    found = changed(-2.0, *[0.0] * 39)
    ends = careful_interval(found)
    assert ends is not None
    assert found.low is not None
    assert ends[0] < 1.4 * found.low < 0


def test_a_bound_beyond_what_can_be_is_no_question() -> None:
    found = changed(*[-1.0] * 8, swing=1.0)
    assert p_above(found, -1.5) == 0.0
    assert p_below(found, -1.5) == 1.0
    assert (p_above(found, -1.0) or 0) > 0.3  # the very edge may be true


def test_averages_of_tasks_claim_no_more_than_their_terms() -> None:
    """Four questions changed in all, all for the worse: 1 / 2^4, whatever t makes of it."""
    parts = [changed(*[-100.0] * 2, *[0.0] * 30, swing=100.0) for _ in range(2)]
    found = mean_of_differences(parts)
    assert (p_below(found) or 0) >= 1 / 16
    assert found.changes is not None
    assert (found.changes.worse, found.changes.questions) == (4, 64)


def test_nothing_known_claims_nothing() -> None:
    for found in (changed(), changed(-1.0), changed(-1.0, -1.0)):
        assert p_below(found) is None
        assert careful_interval(found) is None
