"""Where a difference's error comes from: the questions, the sampling of answers, the judge, the training seeds.

In: every grade of two models with what it repeats. Out: each source's part in the standard error of the difference, and
the smallest difference that would still be seen without it. Knows no model and no judge. Nested analysis of variance
by moments, unbiased whatever the numbers of repeats; variances add up as in Miller 2024, arXiv 2411.00640, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from zephyr_bench.stats.paired import paired_difference
from zephyr_bench.stats.power import detectable


class Source(StrEnum):
    QUESTIONS = "questions"  # others might have been asked
    SAMPLING = "sampling"  # the model might have answered otherwise
    JUDGE = "judge"  # it might have graded the same answer otherwise
    SEEDS = "seeds"  # training might have gone otherwise


Sources = tuple[Source, ...]


@dataclass(frozen=True)
class Grade:
    """One judgment. Its repeats have the same question, turn, seed and answer."""

    value: float
    question: Hashable
    turn: int = 0
    answer: int = 0  # replicate of the sampling
    seed: Hashable = 0  # of the training: a checkpoint each


@dataclass(frozen=True)
class Component:
    sources: Sources  # several where nothing was repeated that would tell them apart
    stderr: float  # its part: the parts' squares add up to the difference's standard error, squared
    share: float  # of the variance
    detectable_without: float  # smallest difference seen at 80 % power, were this part gone


@dataclass(frozen=True)
class Components:
    stderr: float
    degrees: float
    detectable: float  # smallest difference that this design sees
    parts: tuple[Component, ...]  # largest first
    seeds_known: bool  # False: one checkpoint a model; the error doesn't hold what other seeds would have trained


def difference_components(base: Sequence[Grade], candidate: Sequence[Grade]) -> Components | None:
    """Of candidate - base over the (question, turn) that both have. None where the questions don't give an error.

    The value of a (question, turn) is the mean over seeds, of means over answers, of means over judgments; turns of a
    question count together. What only one of the models repeats is taken to waver as much in the other.
    """
    cells = _cells(base), _cells(candidate)
    items = [item for item in cells[0] if item in cells[1]]
    ours, theirs = ({item: cell[item] for item in items} for cell in cells)
    left, right = ([_mean([_seed_mean(answers) for answers in cell[i].values()]) for i in items] for cell in cells)
    found = paired_difference(left, right, [question for question, _ in items])
    if not found.stderr or not found.degrees:
        return None
    judge = _both([_judge_variance(ours), _judge_variance(theirs)])
    noise = judge or (0.0, 0.0)
    sampling = _both([_sampling_variance(ours, noise[0]), _sampling_variance(theirs, noise[1])])
    repeated: list[tuple[Sources, float]] = []
    if sampling:
        # where no answer was judged twice, what differs from answer to answer is the judge's too
        sources: Sources = (Source.SAMPLING,) if judge else (Source.SAMPLING, Source.JUDGE)
        repeated.append(
            (sources, sum(s * _weight(c, judged=False) for s, c in zip(sampling, (ours, theirs), strict=True)))
        )
    if judge:
        part = sum(s * _weight(c, judged=True) for s, c in zip(judge, (ours, theirs), strict=True))
        repeated.append(((Source.JUDGE,), part))
    parts, rest = [], found.stderr**2
    for sources, variance in repeated:
        # an estimate by moments may exceed all that the questions show
        parts.append((sources, min(variance, rest)))
        rest -= parts[-1][1]
    told = {source for sources, _ in repeated for source in sources}
    untold = tuple(source for source in (Source.QUESTIONS, Source.SAMPLING, Source.JUDGE) if source not in told)
    parts.append((untold, rest))
    counts = [len(_seeds(cell)) for cell in (ours, theirs)]
    seeds = _both([_seed_variance(ours), _seed_variance(theirs)])
    if seeds:
        parts.append(((Source.SEEDS,), sum(s / count for s, count in zip(seeds, counts, strict=True))))
    return _components(parts, found.degrees, max(1, sum(counts) - 2), seeds is not None)


def _components(
    parts: Sequence[tuple[Sources, float]], degrees: float, seed_degrees: float, seeds_known: bool
) -> Components:
    def error(kept: Sequence[tuple[Sources, float]]) -> tuple[float, float]:
        """Standard error, and its degrees by Welch and Satterthwaite: C - 1 of the questions', S - 1 of the seeds'."""
        total = math.fsum(variance for _, variance in kept)
        if total <= 0:
            return 0.0, degrees
        seeds = math.fsum(variance for sources, variance in kept if sources == (Source.SEEDS,)) / total
        return math.sqrt(total), 1 / (seeds**2 / seed_degrees + (1 - seeds) ** 2 / degrees)

    stderr, of_all = error(parts)
    rows = []
    for sources, variance in sorted(parts, key=lambda part: -part[1]):
        without = error([part for part in parts if part[0] != sources])
        rows.append(Component(sources, math.sqrt(variance), variance / stderr**2, detectable(*without)))
    return Components(stderr, of_all, detectable(stderr, of_all), tuple(rows), seeds_known)


Item = tuple[Hashable, int]  # question, turn
Answers = dict[int, list[float]]  # answer -> its judgments
Cells = dict[Item, dict[Hashable, Answers]]  # item -> seed -> answers


def _cells(grades: Sequence[Grade]) -> Cells:
    cells: Cells = {}
    for grade in grades:
        seeds = cells.setdefault((grade.question, grade.turn), {})
        seeds.setdefault(grade.seed, {}).setdefault(grade.answer, []).append(grade.value)
    return cells


def _judge_variance(cells: Cells) -> float | None:
    judged = [values for seeds in cells.values() for answers in seeds.values() for values in answers.values()]
    return _pooled([(values, [0.0] * len(values)) for values in judged])


def _sampling_variance(cells: Cells, judge: float) -> float | None:
    """`judge`: the variance of a judgment."""
    return _pooled(
        [
            ([_mean(values) for values in answers.values()], [judge / len(values) for values in answers.values()])
            for seeds in cells.values()
            for answers in seeds.values()
        ]
    )


def _seed_variance(cells: Cells) -> float | None:
    """What checkpoints differ by beyond the scatter of single questions, which the difference's error holds already.

    Two-way analysis of variance, seeds by items; an item that lacks a seed is left out. None for a single seed.
    """
    names = _seeds(cells)
    rows = [[_seed_mean(seeds[name]) for name in names] for seeds in cells.values() if len(seeds) == len(names)]
    if len(names) < 2 or len(rows) < 2:
        return None
    columns = [_mean(column) for column in zip(*rows, strict=True)]
    centre = _mean(columns)
    scatter = math.fsum(
        (value - _mean(row) - column + centre) ** 2 for row in rows for value, column in zip(row, columns, strict=True)
    )
    between = math.fsum((column - centre) ** 2 for column in columns) / (len(names) - 1)
    return max(0.0, between - scatter / ((len(names) - 1) * (len(rows) - 1) * len(rows)))


def _pooled(groups: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float | None:
    """Variance within groups beyond what each value's own noise explains, pooled; None where no group has two values.

    The squared deviations of k values sum up to (k - 1) / k times the sum of (variance + noise), in expectation.
    """
    several = [(values, noise) for values, noise in groups if len(values) > 1]
    if not several:
        return None
    squares = math.fsum((value - _mean(values)) ** 2 for values, _ in several for value in values)
    explained = math.fsum((len(noise) - 1) * _mean(noise) for _, noise in several)
    return max(0.0, squares - explained) / sum(len(values) - 1 for values, _ in several)


def _weight(cells: Cells, *, judged: bool) -> float:
    """What a variance of 1, of a judgment or of an answer, adds to the variance of the mean over all items."""
    return math.fsum(
        (1 / (len(seeds) * len(answers) * len(cells))) ** 2 / (len(values) if judged else 1)
        for seeds in cells.values()
        for answers in seeds.values()
        for values in answers.values()
    )


def _both(variances: Sequence[float | None]) -> tuple[float, float] | None:
    """Of base and candidate; the one that isn't known is taken from the other."""
    base, candidate = variances
    if base is None and candidate is None:
        return None
    return (base if base is not None else candidate or 0.0), (candidate if candidate is not None else base or 0.0)


def _seeds(cells: Cells) -> list[Hashable]:
    return list(dict.fromkeys(seed for seeds in cells.values() for seed in seeds))


def _seed_mean(answers: Answers) -> float:
    return _mean([_mean(values) for values in answers.values()])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
