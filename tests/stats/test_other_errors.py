"""Error rates of judge drift, of reproduced figures and of two judges' calibration."""

from __future__ import annotations

import numpy as np
import pytest
from paired_designs import graded_twice, mt_bench_grades
from wrong_verdicts import most_by_chance

from zephyr_bench.stats.calibration import calibrate, on_old_scale
from zephyr_bench.stats.drift import DriftVerdict, judge_drift
from zephyr_bench.stats.equivalence import Figure, Reproduction, equivalence


@pytest.mark.parametrize("anchors", [8, 40])
def test_a_judge_that_wavers_and_has_not_moved_is_seldom_said_to_have(anchors: int) -> None:
    """Two real grades of a question by GPT-4, either one first: much noise, and no drift."""
    first, second, _ = graded_twice()
    rng, runs, wrong = np.random.default_rng(anchors), 300, 0
    for _ in range(runs):
        drawn = rng.integers(len(first), size=anchors)
        swap = rng.random(anchors) < 0.5
        then, now = np.where(swap, second[drawn], first[drawn]), np.where(swap, first[drawn], second[drawn])
        wrong += judge_drift(then.tolist(), now.tolist(), tolerance=0.0).moved
    assert wrong <= most_by_chance(runs, 0.05)


def test_a_judge_a_point_harsher_is_found_out() -> None:
    first, second, questions = graded_twice()
    swap = np.random.default_rng(0).random(len(first)) < 0.5
    then, now = np.where(swap, second, first), np.where(swap, first, second) - 1.0
    found = judge_drift(then.tolist(), now.tolist(), questions.tolist(), tolerance=0.1)
    assert found.verdict is DriftVerdict.MOVED
    assert found.difference.value == pytest.approx(-1.0, abs=0.5)


@pytest.mark.parametrize(("apart", "wrong_verdict"), [
    (0.0, Reproduction.NOT_REPRODUCED),
    (0.299, Reproduction.NOT_REPRODUCED),
    (0.3, Reproduction.REPRODUCED),
    (-0.3, Reproduction.REPRODUCED),
])  # fmt: skip
def test_verdicts_on_published_figures_are_seldom_wrong(apart: float, wrong_verdict: Reproduction) -> None:
    """Two runs on other draws of 30 skewed grades; the published one with its error, or without."""
    rng, runs = np.random.default_rng(6), 700
    for told in (True, False):
        wrong = 0
        for _ in range(runs):
            ours, theirs = (9 - rng.gamma(2.0, 0.8, 30) for _ in range(2))
            figures = [Figure(float(x.mean()), float(x.std(ddof=1) / 30**0.5), 30) for x in (ours + apart, theirs)]
            published = figures[1] if told else Figure(figures[1].value)
            wrong += equivalence(figures[0], published, margin=0.3).verdict is wrong_verdict
        assert wrong <= most_by_chance(runs, 0.06)  # t on skewed grades; the level is 0.05


@pytest.mark.parametrize(("old_noise", "new_noise"), [(1.0, 1.0), (0.2, 1.0), (1.0, 0.2)])
@pytest.mark.parametrize("better", [0.0, 2.0])
def test_another_models_mean_is_covered_whichever_judge_wavers(
    old_noise: float, new_noise: float, better: float
) -> None:
    """One model judged by both, another one better by so many spreads of questions: one line would come too short."""
    rng, runs, hits, flat_hits = np.random.default_rng(7), 300, 0, 0
    for _ in range(runs):
        common, other = rng.normal(5, 1, 80), rng.normal(5 + better, 1, 80)
        old, new = common + rng.normal(0, old_noise, 80), common + rng.normal(0, new_noise, 80)
        grades = other + rng.normal(0, new_noise, 80)
        line = calibrate(old.tolist(), new.tolist(), list(range(80)))
        if line is None:  # 1 in 200
            runs -= 1
            continue
        stderr = float(grades.std(ddof=1)) / 80**0.5
        found = on_old_scale(line, float(grades.mean()), stderr, 80)
        hits += found.low <= 5 + better <= found.high
        flat_hits += abs(line.intercept + line.slope * float(grades.mean()) - 5 - better) <= 3 * stderr
        if better:
            assert found.extrapolated, "no model of the common set is as good"
    assert hits >= 0.95 * runs
    if new_noise == 1.0 and better:
        assert flat_hits < 0.2 * runs, "least squares alone"


def test_two_real_models_calibrate_as_two_judges_would() -> None:
    """A line between two models' grades of the same questions: an interval wider than the mean's own."""
    models = mt_bench_grades("llama3")
    one, other = models.values()
    keys = [key for key in one if key in other]
    line = calibrate([one[k] for k in keys], [other[k] for k in keys], [question for question, _ in keys])
    assert line is not None
    found = on_old_scale(line, 5.0, 0.2, 80)
    assert found.stderr > abs(line.slope) * 0.2
    assert found.calibration_stderr > 0
