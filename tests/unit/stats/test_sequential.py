from __future__ import annotations

import numpy as np
import pytest

from zephyr_bench.stats.gate import Verdict
from zephyr_bench.stats.sequential import Plan, Stop, certain_at, judging_order, progress

GRADES = Plan(planned=80, width=9.0, margin=0.3)


def test_the_order_is_random_and_the_same_for_the_same_seed() -> None:
    questions = list(range(80))
    order = judging_order(questions, seed=3)
    assert order == judging_order(questions, seed=3)
    assert order != judging_order(questions, seed=4)
    assert order != questions
    assert sorted(order) == questions


def test_nothing_judged_says_judge_on() -> None:
    found = progress([], GRADES)
    assert (found.verdict, found.stop, found.judged, found.mean) == (None, None, 0, None)
    assert (found.low, found.high) == (-9.0, 9.0)


def test_a_collapse_is_told_after_a_few() -> None:
    differences = np.random.default_rng(0).normal(-5, 2, 80).clip(-9, 9)
    at = certain_at(differences.tolist(), GRADES)
    assert at is not None
    assert at < 20
    assert progress(differences[: at - 1].tolist(), GRADES).verdict is None
    found = progress(differences[:at].tolist(), GRADES)
    assert (found.verdict, found.stop) == (Verdict.REGRESSION, Stop.LOWER)
    assert found.high < 0
    assert found.low < found.mean < found.high
    assert found.all_low < differences.mean() < found.all_high


def test_a_clear_gain_passes_after_a_few() -> None:
    differences = np.random.default_rng(0).normal(5, 2, 80).clip(-9, 9).tolist()
    at = certain_at(differences, GRADES)
    assert at is not None
    found = progress(differences[:at], GRADES)
    assert (found.verdict, found.stop) == (Verdict.PASS, Stop.NOT_INFERIOR)


def test_once_certain_it_stays_so() -> None:
    differences = [-6.0] * 20 + [6.0] * 20
    assert progress(differences, GRADES).verdict is Verdict.REGRESSION


def test_all_judged_is_decided_by_the_paired_test() -> None:
    lower = (np.random.default_rng(1).normal(0, 0.2, 80) - 0.4).tolist()
    assert certain_at(lower, GRADES) is None
    found = progress(lower, GRADES)
    assert (found.verdict, found.stop) == (Verdict.REGRESSION, Stop.ALL_JUDGED)
    same = progress([0.0] * 80, GRADES)
    assert (same.verdict, same.stop) == (Verdict.PASS, Stop.ALL_JUDGED)
    assert found.low < found.high < 0, "the interval that the verdict goes by"


def test_it_stops_where_all_questions_would_not_tell_either() -> None:
    """A margin far below what 80 questions can show, and no difference: near the end that is plain."""
    plan = Plan(planned=80, width=9.0, margin=0.01)
    noise = np.random.default_rng(2).normal(0, 3, 40).clip(-9, 9)
    differences = np.column_stack([noise, -noise]).ravel().tolist()
    stops = [progress(differences[:n], plan).stop for n in range(81)]
    first = stops.index(Stop.FUTILE)
    assert 40 < first < 80
    assert progress(differences[:first], plan).verdict is Verdict.INCONCLUSIVE
    assert progress(differences, plan).verdict is Verdict.INCONCLUSIVE


def test_what_can_not_be_is_refused() -> None:
    with pytest.raises(ValueError, match="9 wide"):
        progress([-10.0], GRADES)
    with pytest.raises(ValueError, match="81 differences of 80"):
        progress([0.0] * 81, GRADES)
