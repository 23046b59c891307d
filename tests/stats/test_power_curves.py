"""How often a true loss is found, by its size: printed with `pytest -m slow -s`, and held against what was promised."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from paired_designs import UNCHANGED, alpaca_preferences, broken, lost, mt_bench_grades
from wrong_verdicts import verdicts

from zephyr_bench.stats.paired import paired_difference
from zephyr_bench.stats.power import power_of

RUNS = 250
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("name", "n", "losses", "margin"), [
    ("grades", 24, (0.0, 0.25, 0.5, 0.75, 1.0), 0.3),
    ("grades", 80, (0.0, 0.1, 0.2, 0.4, 0.6), 0.1),
    ("preferences", 805, (0.0, 2.0, 4.0, 6.0, 8.0), 1.0),
])  # fmt: skip
def test_larger_losses_are_found_more_often(name: str, n: int, losses: tuple[float, ...], margin: float) -> None:
    print(f"\n{name}, {n} questions, margin {margin:g}\nloss   regression  inconclusive  pass")
    found = []
    for loss in losses:
        counts = verdicts(lost(UNCHANGED[name], loss), n, margin=margin, swing=None, runs=RUNS, seed=7)
        print(f"{loss:5.2f}  " + "  ".join(f"{counts[v] / RUNS:10.1%}" for v in ("regression", "inconclusive", "pass")))
        found.append(counts["regression"] / RUNS)
    assert all(later >= earlier - 0.03 for earlier, later in pairwise(found))
    assert found[0] < 0.06
    assert found[-1] > 0.8


def test_lost_accuracies_are_found_more_often_the_more_are_lost() -> None:
    print("\naccuracies, 240 questions, one in ten turned by chance, margin 3\nlost   regression  inconclusive  pass")
    found = []
    for share in (0.0, 0.02, 0.04, 0.06, 0.08):
        counts = verdicts(broken(share, 100.0, 0.1), 240, margin=3.0, swing=100.0, runs=RUNS, seed=8)
        told = "  ".join(f"{counts[v] / RUNS:10.1%}" for v in ("regression", "inconclusive", "pass"))
        print(f"{share:5.1%}  {told}")
        found.append(counts["regression"] / RUNS)
    assert found[0] < 0.06
    assert found[-1] > 0.8


@pytest.mark.parametrize("n", [24, 80])
def test_a_loss_of_the_detectable_size_is_found_in_four_of_five_runs(n: int) -> None:
    rng = np.random.default_rng(2)
    seen = []
    for _ in range(100):
        base, candidate, questions = UNCHANGED["grades"](rng, n)
        seen.append(paired_difference(base.tolist(), candidate.tolist(), questions.tolist()).detectable or 0)
    size = float(np.mean(seen))
    runs = 800
    found = verdicts(lost(UNCHANGED["grades"], size), n, margin=0.0, swing=None, runs=runs, seed=4)["regression"] / runs
    print(f"\n{n} questions: a loss of {size:.2f} is found in {found:.1%}")
    assert 0.70 < found < 0.88  # the confirming tests cost some power at 24


def test_what_real_designs_see() -> None:
    """The smallest loss that 80 questions of MT-Bench, and 805 of AlpacaEval, find between real models."""
    models = mt_bench_grades("orpo")
    one, other = models["mistral-orpo"], models["mistral-orpo-mix"]
    keys = [key for key in one if key in other]
    chat = paired_difference([one[key] for key in keys], [other[key] for key in keys], [q for q, _ in keys])
    left, right = alpaca_preferences("v1_zephyr-7b-alpha"), alpaca_preferences("v1_phi-2")
    shared = [key for key in left if key in right]
    wins = paired_difference([left[key] for key in shared], [right[key] for key in shared])
    print(f"\nMT-Bench, {len(keys)} turns: {chat.detectable:.2f} points; AlpacaEval: {wins.detectable:.1f} points")
    assert 0.3 < (chat.detectable or 0) < 0.8
    assert 3 < (wins.detectable or 0) < 8
    assert power_of(chat.detectable or 0, chat.stderr or 0, chat.degrees) == pytest.approx(0.8)
