"""No change is called a regression in at most 2.5 % of runs, and a loss as large as the margin passes in few.

By simulation, and on real judgments resampled. 2.5 % is one side of a 95 % interval.
"""

from __future__ import annotations

import numpy as np
import pytest
from paired_designs import UNCHANGED, broken, lost, real_pairs, resampled, tilted
from scipy import stats
from wrong_verdicts import gated, most_by_chance, verdicts

from zephyr_bench.stats.paired import paired_difference

LEVEL = 0.025
SWINGS = {"accuracies": 100.0, "preferences": 100.0}


@pytest.mark.parametrize("n", [10, 24])
@pytest.mark.parametrize("name", UNCHANGED)
def test_no_change_is_seldom_called_a_regression(name: str, n: int) -> None:
    runs = 300
    found = verdicts(UNCHANGED[name], n, margin=0.0, swing=SWINGS.get(name), runs=runs, seed=n)
    assert found["regression"] <= most_by_chance(runs, LEVEL), found


def test_not_one_of_five_unchanged_benchmarks_is_called_a_regression() -> None:
    runs, rng = 250, np.random.default_rng(3)
    five = [(design, 24, 0.0, SWINGS.get(name)) for name, design in UNCHANGED.items()]
    wrong = sum(gated(five, rng).verdict == "regression" for _ in range(runs))
    assert wrong <= most_by_chance(runs, LEVEL)


@pytest.mark.slow
@pytest.mark.parametrize("n", [6, 10, 24, 80])
def test_no_change_is_seldom_called_a_regression_in_many_runs(n: int) -> None:
    runs = 1500
    for name, design in UNCHANGED.items():
        found = verdicts(design, n, margin=0.0, swing=SWINGS.get(name), runs=runs, seed=n)
        print(f"{name}, {n} questions, no change: {found['regression'] / runs:.2%} regressions")
        assert found["regression"] <= most_by_chance(runs, LEVEL), name


@pytest.mark.parametrize("n", [10, 24, 80])
def test_no_change_in_real_judgments_is_seldom_called_a_regression(n: int) -> None:
    runs, wrong, pairs = 60, 0, real_pairs()
    for seed, (differences, width, margin) in enumerate(pairs.values()):
        swing = 100.0 if width == 100 else None
        wrong += verdicts(resampled(differences), n, margin=margin, swing=swing, runs=runs, seed=seed)["regression"]
    assert wrong <= most_by_chance(runs * len(pairs), LEVEL)


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 24, 80])
def test_no_change_in_real_judgments_is_seldom_called_a_regression_in_many_runs(n: int) -> None:
    """Both where questions are as likely to go either way, and where many small gains make up for few great losses."""
    runs = 600
    for seed, (name, (differences, width, margin)) in enumerate(real_pairs().items()):
        swing = 100.0 if width == 100 else None
        either, skewed = (
            verdicts(design, n, margin=margin, swing=swing, runs=runs, seed=seed)["regression"]
            for design in (resampled(differences), tilted(differences, 0.0))
        )
        print(f"{name}, {n} questions: {either / runs:.2%} regressions; same mean, other shape: {skewed / runs:.2%}")
        assert either <= most_by_chance(runs, LEVEL), name
        assert skewed <= most_by_chance(runs, 2 * LEVEL), name


LOSSES = {
    "grades, all questions": (lost(UNCHANGED["grades"], 0.3), 0.3, None),
    "preferences, all questions": (lost(UNCHANGED["preferences"], 5.0), 5.0, None),
    "accuracies, only losses": (broken(0.05, 100.0), 5.0, 100.0),
    "accuracies, a fifth turned": (broken(0.05, 100.0, 0.2), 5.0, 100.0),
    "grades, a third moved": (broken(0.2, 1.0, 0.1), 0.2, None),
    "grades, few collapsed": (broken(1 / 30, 9.0), 0.3, None),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_as_large_as_the_margin_seldom_passes(name: str) -> None:
    design, margin, swing = LOSSES[name]
    runs = 300
    found = verdicts(design, 80, margin=margin, swing=swing, runs=runs, seed=1)
    # "few collapsed": where not one did (1 in 15 runs), no grade moved, and that is a pass; see docs/design/gate.md
    unseen = (1 - 1 / 30) ** 80 if name == "grades, few collapsed" else 0.0
    assert found["pass"] <= most_by_chance(runs, LEVEL + unseen), found


@pytest.mark.slow
@pytest.mark.parametrize(("n", "most"), [(10, 0.1), (24, 0.06), (80, 0.035)])
def test_a_loss_as_large_as_the_margin_seldom_passes_on_real_judgments(n: int, most: float) -> None:
    """Losses of a twentieth of the scale, with the long tails of real ones. Few questions hardly show such a tail."""
    runs = 600
    for seed, (name, (differences, width, _)) in enumerate(real_pairs().items()):
        loss = width / 20
        swing = 100.0 if width == 100 else None
        found = verdicts(tilted(differences, -loss), n, margin=loss, swing=swing, runs=runs, seed=seed)
        print(f"{name}, {n} questions, worse by the margin: {found['pass'] / runs:.2%} pass")
        assert found["pass"] <= most_by_chance(runs, most), name


@pytest.mark.slow
def test_all_benchmarks_pass_seldom_where_one_is_worse_by_its_margin() -> None:
    runs, rng = 1000, np.random.default_rng(5)
    better = (lost(UNCHANGED["grades"], -1.0), 80, 0.3, None)
    worse = (lost(UNCHANGED["grades"], 0.3), 80, 0.3, None)
    wrong = sum(gated([better, worse, better], rng).verdict == "pass" for _ in range(runs))
    assert wrong <= most_by_chance(runs, LEVEL)


def test_students_t_alone_would_pass_what_these_rules_do_not() -> None:
    """24 real preferences that hardly ever move, and then from end to end: t takes "hardly ever" for never."""
    differences, _, _ = real_pairs()["vicuna-7b, davinci-003"]
    design, runs = tilted(differences, -1.0), 200
    rng = np.random.default_rng(0)
    by_t = 0
    for _ in range(runs):
        _, change, _ = design(rng, 24)
        found = paired_difference([0.0] * 24, change.tolist())
        by_t += stats.t.ppf(0.975, 23) * (found.stderr or 0) < 1.0 + (found.value or 0)
    assert by_t > 0.1 * runs
    assert verdicts(design, 24, margin=1.0, swing=100.0, runs=runs, seed=0)["pass"] <= most_by_chance(runs, LEVEL)
