"""The gate's verdict while the judge is still grading: stop as soon as it is certain.

In: differences of the questions judged so far, in random order, candidate - base. Out: a verdict, or none yet. Knows no
judge. Looking after each question costs no false alarm: the bets of betting.py may be looked at at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np
from scipy import stats

from zephyr_bench.stats.betting import bounds, log_wealth_above, log_wealth_below
from zephyr_bench.stats.claims import LEAST_QUESTIONS, careful_interval, p_above, p_below
from zephyr_bench.stats.gate import Verdict
from zephyr_bench.stats.means import as_finite
from zephyr_bench.stats.paired import Difference, paired_difference

Q = TypeVar("Q")

AT_ONCE = 0.5  # share of the level that early stops may use; the rest is for the test once all are judged
_FUTILE = 0.05  # level of the bounds that say that judging on is in vain; an error there costs power, no false alarm


@dataclass(frozen=True)
class Plan:
    """`level` is one-sided, for each rule: (1 - confidence) / 2, over the number of benchmarks gated (Bonferroni)."""

    planned: int  # questions in all
    width: float  # of the scale: 9 for grades from 1 to 10, 100 for per cent; no difference is larger
    margin: float  # largest loss that is accepted
    level: float = 0.025
    swing: float | None = None  # as in `paired_difference`


class Stop(StrEnum):
    LOWER = "lower"  # regression: below zero for certain
    NOT_INFERIOR = "not-inferior"  # pass: above -margin for certain
    FUTILE = "futile"  # inconclusive: all planned questions would not tell either
    ALL_JUDGED = "all-judged"  # the verdict of the paired test on all


@dataclass(frozen=True)
class Progress:
    verdict: Verdict | None  # None: judge on
    stop: Stop | None
    judged: int
    mean: float | None  # of the differences so far
    low: float  # bounds of the true difference, which hold at all times at once; of ALL_JUDGED the paired test's
    high: float
    all_low: float  # bounds of the difference that judging all planned questions would show
    all_high: float


def judging_order(questions: Sequence[Q], *, seed: int) -> list[Q]:
    """Drawn before any is judged: what comes early must not depend on what it will be worth."""
    return [questions[place] for place in np.random.default_rng(seed).permutation(len(questions))]


def progress(differences: Sequence[float], plan: Plan) -> Progress:
    """After these differences, one a question (the mean over its turns), in the order of `judging_order`.

    A regression as soon as the bets refute that the true mean is 0 or more, a pass as soon as they refute that it is
    -margin or less; both are claims about the questions one might ask, as the gate's are. Where both would hold it is
    a pass. Early stops use half of the level, the paired test after the last question the other half, so that each
    false claim is made in at most a share `level` of runs. Raises ValueError for a difference beyond the width, or
    more of them than planned.
    """
    values = as_finite(differences)
    if len(values) > plan.planned:
        raise ValueError(f"{len(values)} differences of {plan.planned} questions")
    if len(values) and np.abs(values).max() > plan.width * (1 + 1e-9):
        raise ValueError(f"a difference of {values[np.abs(values).argmax()]:g} on a scale {plan.width:g} wide")
    scaled = np.clip((values / plan.width + 1) / 2, 0.0, 1.0)  # (judged,) in [0, 1]
    early = plan.level * AT_ONCE
    low, high = _back(bounds(scaled, level=early), plan)
    all_low, all_high = _back(bounds(scaled, level=_FUTILE / 2, population=plan.planned), plan)
    verdict, stop = _verdict(values, scaled, plan, early, (all_low, all_high))
    if stop is Stop.ALL_JUDGED:  # the interval that the verdict goes by
        low, high = careful_interval(_paired(values, plan), 1 - 2 * (plan.level - early)) or (low, high)
    mean = float(values.mean()) if len(values) else None
    return Progress(verdict, stop, len(values), mean, low, high, all_low, all_high)


def certain_at(differences: Sequence[float], plan: Plan) -> int | None:
    """After how many of all these differences the bets were certain of a verdict; None: never."""
    scaled = np.clip((as_finite(differences) / plan.width + 1) / 2, 0.0, 1.0)
    refuted = np.nonzero(np.logical_or(*_claims(scaled, plan, plan.level * AT_ONCE)))[0]
    return int(refuted[0]) + 1 if len(refuted) else None


def _claims(scaled: np.ndarray, plan: Plan, level: float) -> tuple[np.ndarray, np.ndarray]:
    """(judged,) each: whether the true mean was refuted to be 0 or more, and -margin or less, at that time."""
    needed = -np.log(level)
    below_zero = log_wealth_below(scaled, 0.5) >= needed
    supposed = max(0.0, (1 - plan.margin / plan.width) / 2)
    above_margin = log_wealth_above(scaled, supposed) >= needed
    return below_zero, above_margin


def _verdict(
    values: np.ndarray, scaled: np.ndarray, plan: Plan, early: float, of_all: tuple[float, float]
) -> tuple[Verdict | None, Stop | None]:
    below_zero, above_margin = _claims(scaled, plan, early)
    if above_margin.any():
        return Verdict.PASS, Stop.NOT_INFERIOR
    if below_zero.any():
        return Verdict.REGRESSION, Stop.LOWER
    late = plan.level - early
    if len(values) == plan.planned:
        return _of_all(values, plan, late), Stop.ALL_JUDGED
    if len(values) >= 2 and _futile(values, plan, late, of_all):
        return Verdict.INCONCLUSIVE, Stop.FUTILE
    return None, None


def _of_all(values: np.ndarray, plan: Plan, level: float) -> Verdict:
    """The gate's rules on all that was planned."""
    found = _paired(values, plan)
    if len(values) < LEAST_QUESTIONS:
        return Verdict.INCONCLUSIVE
    if not values.any() and plan.swing is None:
        return Verdict.PASS
    lower, not_inferior = p_below(found), p_above(found, -plan.margin)
    if not_inferior is not None and not_inferior <= level:
        return Verdict.PASS
    return Verdict.REGRESSION if lower is not None and lower <= level else Verdict.INCONCLUSIVE


def _paired(values: np.ndarray, plan: Plan) -> Difference:
    return paired_difference([0.0] * len(values), values.tolist(), swing=plan.swing)


def _futile(values: np.ndarray, plan: Plan, level: float, of_all: tuple[float, float]) -> bool:
    """True where the mean over all will hardly reach either rule's bound, by the spread seen so far."""
    stderr = float(values.std(ddof=1)) / plan.planned**0.5
    reach = float(stats.t.ppf(1 - level, plan.planned - 1)) * stderr
    return of_all[0] > -reach and of_all[1] < reach - plan.margin


def _back(found: tuple[float, float], plan: Plan) -> tuple[float, float]:
    low, high = ((2 * end - 1) * plan.width for end in found)
    return low, high
