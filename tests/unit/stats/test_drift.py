from __future__ import annotations

import pytest

from zephyr_bench.stats.drift import DriftVerdict, judge_drift

THEN = [5.0, 7.0, 8.0, 6.0, 9.0, 3.0, 7.0, 8.0, 4.0, 6.0]


def test_a_judge_that_grades_as_it_did_is_steady() -> None:
    found = judge_drift(THEN, THEN, tolerance=0.0)
    assert found.verdict is DriftVerdict.STEADY
    assert not found.moved


def test_a_harsher_judge_has_moved_by_how_much_is_told() -> None:
    now = [grade - (1.0 if number % 2 else 1.5) for number, grade in enumerate(THEN)]
    found = judge_drift(THEN, now, tolerance=0.1)
    assert found.moved
    assert found.difference.value == pytest.approx(-1.25)
    assert (found.difference.high or 0) < 0


def test_a_certain_drift_too_small_to_matter_is_steady() -> None:
    now = [grade - (0.02 if number % 2 else 0.03) for number, grade in enumerate(THEN)]
    assert judge_drift(THEN, now, tolerance=0.1).verdict is DriftVerdict.STEADY
    assert judge_drift(THEN, now, tolerance=0.0).verdict is DriftVerdict.MOVED


def test_noise_says_neither_and_what_would_be_seen_is_told() -> None:
    now = [grade + (2 if number % 2 else -2) for number, grade in enumerate(THEN)]
    found = judge_drift(THEN, now, tolerance=0.1)
    assert found.verdict is DriftVerdict.UNCLEAR
    assert (found.least_seen or 0) > 1


def test_no_anchor_says_nothing() -> None:
    assert judge_drift([], [], tolerance=0.1).verdict is DriftVerdict.UNCLEAR
