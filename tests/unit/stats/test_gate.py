from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.stats.drift import judge_drift
from zephyr_bench.stats.gate import Gated, Reason, Ruling, Verdict, gate, overall
from zephyr_bench.stats.paired import paired_difference

RNG = np.random.default_rng(0)
NOISE = np.concatenate([noise := RNG.normal(0, 1, 40), -noise])  # 80 differences, mean 0


def entry(shift: float, margin: float = 0.5, *, spread: float = 1.0, same_answers: bool = False) -> Gated:
    found = paired_difference([5.0] * len(NOISE), (5 + shift + spread * NOISE).tolist())
    return Gated(f"shift {shift:g}", found, margin, same_answers)


def ruled(*entries: Gated) -> list[Ruling]:
    return list(gate(entries).rulings)


@pytest.mark.parametrize(
    ("shift", "margin", "verdict", "reason"),
    [
        (0.5, 0.5, Verdict.PASS, Reason.BETTER),
        (0.1, 0.5, Verdict.PASS, Reason.NOT_INFERIOR),
        (-0.1, 0.5, Verdict.PASS, Reason.NOT_INFERIOR),
        (-0.3, 0.8, Verdict.PASS, Reason.WITHIN_MARGIN),
        (-0.3, 0.0, Verdict.REGRESSION, Reason.LOWER),
        (-1.0, 0.5, Verdict.REGRESSION, Reason.LOWER),
        (-0.15, 0.2, Verdict.INCONCLUSIVE, Reason.WIDE),
        (0.0, 0.0, Verdict.INCONCLUSIVE, Reason.WIDE),
    ],
)
def test_both_rules_make_the_verdict(shift: float, margin: float, verdict: Verdict, reason: Reason) -> None:
    (found,) = ruled(entry(shift, margin))
    assert (found.verdict, found.reason) == (verdict, reason)
    assert found.low is not None
    assert found.high is not None
    assert (found.low > -margin) == (verdict is Verdict.PASS)
    if verdict is Verdict.REGRESSION:
        assert found.high < 0


def test_a_run_against_itself_passes_at_any_size_and_margin() -> None:
    same = paired_difference([3.0], [3.0])
    assert gate([Gated("one question", same, 0.0, same_answers=True)]).verdict is Verdict.PASS


def test_other_answers_with_the_same_grades_pass_from_six_questions_on() -> None:
    for n, verdict in ((5, Verdict.INCONCLUSIVE), (6, Verdict.PASS)):
        found = paired_difference([3.0] * n, [3.0] * n)
        assert gate([Gated("grades", found, 0.1, same_answers=False)]).verdict is verdict


def test_as_many_right_answers_of_a_few_do_not_show_that_a_loss_is_small() -> None:
    for n, verdict in ((20, Verdict.INCONCLUSIVE), (240, Verdict.PASS)):
        found = paired_difference([100.0] * n, [100.0] * n, swing=100.0)
        assert gate([Gated("accuracy", found, 3.0, same_answers=False)]).verdict is verdict


def test_no_shared_question_and_a_lone_one_are_inconclusive() -> None:
    for found in (paired_difference([], []), paired_difference([5.0], [1.0])):
        (ruling,) = ruled(Gated("x", found, 0.1, same_answers=False))
        assert (ruling.verdict, ruling.reason) == (Verdict.INCONCLUSIVE, Reason.TOO_FEW)


def test_all_questions_worse_by_the_same_are_a_regression() -> None:
    found = paired_difference([5.0] * 40, [4.0] * 40)
    (ruling,) = ruled(Gated("x", found, 0.1, same_answers=False))
    assert ruling.reason is Reason.LOWER


def test_what_is_lower_alone_may_not_be_among_many() -> None:
    lower = entry(-0.25, 0.1)
    assert ruled(lower)[0].reason is Reason.LOWER
    among = ruled(lower, *(entry(0.0) for _ in range(9)))[0]
    assert (among.verdict, among.reason) == (Verdict.INCONCLUSIVE, Reason.LOWER_ALONE)
    assert among.p_lower_adjusted == pytest.approx(10 * (among.p_lower or 0))


def test_one_regression_is_one_for_all_and_all_must_pass() -> None:
    fine, bad, wide = entry(0.5), entry(-1.0), entry(0.0, 0.0)
    assert gate([fine, bad, wide]).verdict is Verdict.REGRESSION
    assert gate([fine, wide]).verdict is Verdict.INCONCLUSIVE
    assert gate([fine, fine]).verdict is Verdict.PASS


def test_a_judge_that_moved_makes_its_benchmark_inconclusive_either_way() -> None:
    drift = judge_drift([7.0] * 20, [6.0] * 19 + [5.0], tolerance=0.1)
    assert drift.moved
    for shift in (0.5, -1.0):
        plain = entry(shift)
        (found,) = ruled(Gated("x", plain.difference, plain.margin, same_answers=False, drift=drift))
        assert (found.verdict, found.reason) == (Verdict.INCONCLUSIVE, Reason.JUDGE_DRIFT)


@given(st.floats(-2, 2), st.floats(0, 1), st.floats(0, 1))
def test_a_wider_margin_never_turns_a_pass(shift: float, margin: float, more: float) -> None:
    if ruled(entry(shift, margin))[0].verdict is Verdict.PASS:
        assert ruled(entry(shift, margin + more))[0].verdict is Verdict.PASS


@given(st.floats(-2, 2), st.floats(0, 1), st.floats(0, 1))
def test_a_better_candidate_never_gets_a_worse_verdict(shift: float, margin: float, gain: float) -> None:
    order = [Verdict.REGRESSION, Verdict.INCONCLUSIVE, Verdict.PASS]
    before, after = (order.index(ruled(entry(s, margin))[0].verdict) for s in (shift, shift + gain))
    assert after >= before


def test_nothing_gated_is_no_pass_and_a_margin_is_no_gain() -> None:
    with pytest.raises(ValueError, match="no benchmark"):
        gate([])
    with pytest.raises(ValueError, match="0 or more"):
        entry(0.0, -0.1)
    assert overall([]) is Verdict.PASS
