"""How often a verdict is wrong, counted, with room for chance alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from paired_designs import Design
from scipy import stats

from zephyr_bench.stats.gate import Gated, GateResult, gate
from zephyr_bench.stats.paired import paired_difference

BY_CHANCE = 1e-4  # how seldom a test here fails whose claim is true


def most_by_chance(runs: int, level: float) -> int:
    """More wrong verdicts than this, and the error rate is above the level for certain."""
    return int(stats.binom.ppf(1 - BY_CHANCE, runs, level))


def gated(designs: Sequence[tuple[Design, int, float, float | None]], rng: np.random.Generator) -> GateResult:
    """One run of the gate, over a benchmark for each (design, questions, margin, swing)."""
    entries = []
    for number, (design, n, margin, swing) in enumerate(designs):
        base, candidate, questions = design(rng, n)
        found = paired_difference(base.tolist(), candidate.tolist(), questions.tolist(), swing=swing)
        entries.append(Gated(f"b{number}", found, margin, same_answers=False))
    return gate(entries)


def verdicts(design: Design, n: int, *, margin: float, swing: float | None, runs: int, seed: int) -> dict[str, int]:
    """How many runs got which verdict."""
    rng = np.random.default_rng(seed)
    counts = dict.fromkeys(("pass", "regression", "inconclusive"), 0)
    for _ in range(runs):
        counts[gated([(design, n, margin, swing)], rng).verdict] += 1
    return counts
