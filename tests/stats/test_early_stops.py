"""Sequential mode: the bets' bounds hold at all times at once, errors stay what they were, judge calls are saved."""

from __future__ import annotations

import numpy as np
import pytest
from paired_designs import Floats, real_pairs, resampled, tilted
from wrong_verdicts import most_by_chance

from zephyr_bench.stats.betting import log_wealth_above, log_wealth_below
from zephyr_bench.stats.gate import Gated, gate
from zephyr_bench.stats.paired import paired_difference
from zephyr_bench.stats.sequential import Plan, certain_at, progress

LEVEL = 0.025


def plan_of(n: int, width: float, margin: float) -> Plan:
    return Plan(n, width, margin, LEVEL, 100.0 if width == 100 else None)


def run_through(differences: Floats, plan: Plan) -> tuple[str, int]:
    """Verdict and questions judged, of differences in this order."""
    stopped = certain_at(differences, plan) or len(differences)
    found = progress(differences[:stopped].tolist(), plan)
    assert found.verdict is not None
    return found.verdict, stopped


@pytest.mark.parametrize("population", [None, 80])
def test_a_true_mean_is_seldom_refuted_at_any_time(population: int | None) -> None:
    """Skewed values in [0, 1]; drawn anew, or 80 fixed ones in random order down to the last."""
    rng, runs, level = np.random.default_rng(1), 2000, 0.05
    values = rng.choice([0.0, 0.5, 0.52, 1.0], p=[0.05, 0.6, 0.3, 0.05], size=(runs, 80))
    if population:
        fixed = rng.choice([0.0, 0.4, 0.5, 1.0], p=[0.1, 0.3, 0.5, 0.1], size=80)
        values, mean = rng.permuted(np.tile(fixed, (runs, 1)), axis=1), float(fixed.mean())
    else:
        mean = 0.3 + 0.3 * 0.52 + 0.05
    for wealth in (log_wealth_above, log_wealth_below):
        refuted = np.sum(wealth(values, mean, population=population).max(axis=1) >= -np.log(level))
        assert refuted <= most_by_chance(runs, level)


@pytest.mark.parametrize(("n", "runs"), [(24, 20), (80, 20), pytest.param(80, 150, marks=pytest.mark.slow)])
def test_no_change_in_real_judgments_is_seldom_called_a_regression(n: int, runs: int) -> None:
    rng, wrong = np.random.default_rng(n), 0
    pairs = real_pairs()
    for differences, width, margin in pairs.values():
        for design in (resampled(differences), tilted(differences, 0.0)):
            for _ in range(runs):
                verdict, _ = run_through(design(rng, n)[1], plan_of(n, width, margin))
                wrong += verdict == "regression"
    assert wrong <= most_by_chance(2 * runs * len(pairs), LEVEL)


def test_a_loss_as_large_as_the_margin_seldom_passes() -> None:
    rng, runs, wrong = np.random.default_rng(4), 25, 0
    pairs = real_pairs()
    for differences, width, _ in pairs.values():
        design = tilted(differences, -width / 20)
        for _ in range(runs):
            wrong += run_through(design(rng, 80)[1], plan_of(80, width, width / 20))[0] == "pass"
    assert wrong <= most_by_chance(runs * len(pairs), LEVEL)


def test_clear_differences_are_told_with_half_of_the_judge_calls_saved() -> None:
    """Real annotations in random order. Clear: ten standard errors apart once all are judged, or more."""
    rng = np.random.default_rng(0)
    clear = 0
    print("\nmodels, questions, standard errors apart, share of judge calls saved (worse; better)")
    for name, (differences, width, margin) in real_pairs().items():
        n = len(differences)
        apart = abs(differences.mean()) / differences.std(ddof=1) * n**0.5
        plan, saved = plan_of(n, width, margin), []
        lower = -np.sign(differences.mean()) * differences
        for changes, verdict in ((lower, "regression"), (-lower, "pass")):
            found = [run_through(rng.permutation(changes), plan) for _ in range(20)]
            saved.append(1 - float(np.mean([stopped for _, stopped in found])) / n)
            if apart >= 10:
                assert {told for told, _ in found} == {verdict}
        print(f"{name}, {n}, {apart:.1f}, {saved[0]:.0%}; {saved[1]:.0%}")
        if apart >= 10:
            clear += 1
            assert min(saved) >= 0.5, name
    assert clear >= 2


@pytest.mark.slow
def test_the_clearer_a_difference_the_more_judge_calls_are_saved() -> None:
    """80 grades of two real models, made worse by degrees: what is saved, by how clear the whole run would show it."""
    differences, width, margin = real_pairs()["mistral-orpo, mistral-orpo-mix"]
    rng, runs, curve = np.random.default_rng(2), 150, []
    print("\nloss, standard errors apart (mean), regressions once all are judged, in sequence, judge calls saved")
    for loss in (0.5, 1.0, 1.5, 2.0, 3.0):
        design = tilted(differences, -loss)
        drawn = [design(rng, 80)[1] for _ in range(runs)]
        apart = float(np.mean([-d.mean() / d.std(ddof=1) * 80**0.5 for d in drawn]))
        found = [run_through(d, plan_of(80, width, margin)) for d in drawn]
        whole = [gate([Gated("x", paired_difference([0.0] * 80, d.tolist()), margin, False)]).verdict for d in drawn]
        early, late = (sum(v == "regression" for v in told) / runs for told in ([v for v, _ in found], whole))
        curve.append(1 - float(np.mean([stopped for _, stopped in found])) / 80)
        print(f"{loss:.1f}, {apart:.1f}, {late:.0%}, {early:.0%}, {curve[-1]:.0%}")
        assert early >= late - 0.15
    assert curve == sorted(curve)
    assert curve[-1] >= 0.5
