"""Numbers about a judge: biases, consistency, agreement with other judges. Pure.

In: what judges said (judge_data.py). Out: measures, None where the store has nothing to tell one by.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from zephyr_bench.benchmarks.pairing import of_both
from zephyr_bench.reports.judge_data import Answered, Judged, Pair
from zephyr_bench.stats.agreement import cohen_kappa, krippendorff_alpha, spearman, spearman_within
from zephyr_bench.stats.intervals import wilson_interval

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Measure:
    """A share in per cent (`count` of `n`, with its interval), or another statistic of `n` values.

    `value` is None where there are values but the statistic isn't defined, as a correlation without variation.
    """

    value: float | None
    n: int
    count: int | None = None
    low: float | None = None
    high: float | None = None


Measures = Mapping[str, Measure | None]  # None: the store has nothing to tell it by


def position_bias(pairs: Sequence[Pair]) -> Measures:
    """Shares of all pairs add up to 100, as in arXiv 2306.05685, table 2.

    An inconsistent pair's two preferences for the first place add up to more than 1, or to less: it leans one way.
    """
    n = len(pairs)
    judged = [(pair.first.score, pair.second.score, of_both(pair.first, pair.second).consistent) for pair in pairs]
    read = [(one, other, same) for one, other, same in judged if one is not None and other is not None]
    swayed = [(one, other) for one, other, same in read if not same]  # each for the answer in the first place
    first = sum(min(both) > 0.5 for both in swayed)
    second = sum(max(both) < 0.5 for both in swayed)
    return {
        "consistent in both orders": share(len(read) - len(swayed), n),
        "first place in both orders": share(first, n),
        "second place in both orders": share(second, n),
        "tie in one order only": share(len(swayed) - first - second, n),
        "no verdict in an order": share(n - len(read), n),
        "first place preferred where inconsistent": share(sum(sum(both) > 1 for both in swayed), len(swayed)),
    }


def length_bias(judged: Judged, answered: Mapping[str, Answered]) -> Measures:
    """Hard questions get longer answers and lower grades (or the reverse), hence the correlation within questions."""
    by_question: dict[Hashable, list[tuple[float, float]]] = {}
    for key, grade in judged.grades.items():
        answer = answered[key]
        if answer.length is not None:
            by_question.setdefault((answer.asked, answer.turn), []).append((answer.length, grade))
    known = [pair for pairs in by_question.values() for pair in pairs]
    several = [pairs for pairs in by_question.values() if len(pairs) > 1]
    lengths = [(winner, answered[a].length, answered[b].length) for (a, b), winner in judged.winners.items() if winner]
    longer = [winner * (a - b) for winner, a, b in lengths if a is not None and b is not None and a != b]
    return {
        "length correlation": _correlation(known),
        "length correlation within question": Measure(*spearman_within(several)) if several else None,
        "longer answer wins": share(sum(gap > 0 for gap in longer), len(longer)),
    }


def self_consistency(judged: Judged) -> Measures:
    grades = [scores for (_, rival), scores in judged.scores.items() if rival is None and len(scores) > 1]
    verdicts = [scores for (_, rival), scores in judged.scores.items() if rival is not None and len(scores) > 1]
    return {
        "standard deviation of repeated grades": Measure(fmean(map(stdev, grades)), len(grades)) if grades else None,
        "repeated grades all equal": share(sum(len(set(scores)) == 1 for scores in grades), len(grades)),
        "repeated verdicts all equal": share(sum(len(set(scores)) == 1 for scores in verdicts), len(verdicts)),
    }


def agreement(judged: Judged, other: Judged) -> Measures:
    grades = [(grade, other.grades[key]) for key, grade in judged.grades.items() if key in other.grades]
    winners = [(winner, other.winners[pair]) for pair, winner in judged.winners.items() if pair in other.winners]
    return {"rank correlation of grades": _correlation(grades), "kappa of verdicts": kappa(winners)}


def joint_agreement(everyone: Sequence[Judged]) -> Measures:
    """A jury is left out: it agrees with its members because it is made of them."""
    grades = _shared([judged.grades for judged in everyone if not judged.is_jury])
    verdicts = _shared([judged.winners for judged in everyone if not judged.is_jury])
    both_ways = [*verdicts, *([-winner for winner in unit] for unit in verdicts)]  # as in _kappa
    return {
        "alpha of grades, all judges": measure(krippendorff_alpha(grades, metric="interval"), len(grades)),
        "alpha of verdicts, all judges": measure(krippendorff_alpha(both_ways, metric="nominal"), len(verdicts)),
    }


def _shared(by_judge: Sequence[Mapping[Any, float]]) -> list[list[float]]:
    """What the judges said of each item that several of them judged."""
    items = dict.fromkeys(item for own in by_judge for item in own)
    units = ([own[item] for own in by_judge if item in own] for item in items)
    return [unit for unit in units if len(unit) > 1]


def share(count: int, n: int) -> Measure | None:
    if n == 0:
        return None
    low, high = wilson_interval(count, n)
    return Measure(100 * count / n, n, count, 100 * low, 100 * high)


def measure(value: float | None, n: int) -> Measure | None:
    return Measure(value, n) if n else None


def _correlation(pairs: Sequence[tuple[float, float]]) -> Measure | None:
    return measure(spearman([one for one, _ in pairs], [other for _, other in pairs]), len(pairs))


def kappa(winners: Sequence[tuple[int, int]]) -> Measure | None:
    """Each pair counts both ways, so that it doesn't hang on which of the two answers is named first."""
    return measure(cohen_kappa([*winners, *((-one, -other) for one, other in winners)]), len(winners))
