"""What each question adds to each metric of a run: the inverse of a benchmark's `aggregate`.

In: a run's samples and scores. Out: for each metric the values whose mean it is. What comes out is
checked against the stored score, so that a comparison never rests on a wrong reading of the samples.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zephyr_bench.benchmarks.open_llm_scores import AVERAGE, TaskRule, row_values, rules_of
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.stats.means import mean_of_means, mean_stderr


@dataclass(frozen=True)
class Contribution:
    """One value of a metric's mean, on the metric's scale.

    `path` says which nested mean it stands in: () for a plain mean over all, (subject,) for a group,
    (task, subject) for an average of groups; each level counts its members alike. Repeats (several
    judgments of an answer) are values of their own with the same key.
    """

    question: str
    turn: int
    value: float
    path: tuple[str, ...] = ()
    rival: str = ""

    @property
    def key(self) -> tuple[str, int, str]:
        return self.question, self.turn, self.rival


Contributions = Mapping[str, Sequence[Contribution]]  # by metric


def _same(value: float) -> float:
    return value


def _percent(value: float) -> float:
    return 100 * value


def _discrete_percent(value: float) -> float:
    """A preference in [0, 1] as loss, tie or win."""
    return 50.0 if value == 0.5 else 100.0 * (value > 0.5)


def _sign_percent(value: float) -> float:
    """A margin as right or wrong; an exact tie counts half."""
    return 50.0 if value == 0 else 100.0 * (value > 0)


def _percent_of(wanted: float) -> Callable[[float], float]:
    """A verdict as whether it is the one that a rate counts."""
    return lambda value: 100.0 * (value == wanted)


Reading = tuple[str, Callable[[float], float]]  # metric of the samples, what one is worth

# metric of a run -> how it may come of its samples
_DERIVED: dict[str, tuple[Reading, ...]] = {
    "win-rate": (("preference", _percent), ("verdict", _percent_of(1.0))),
    "discrete-win-rate": (("preference", _discrete_percent),),
    "avg-length": (("length", _same),),
    "log-prob-accuracy": (("log-prob-margin", _sign_percent),),
    "implicit-accuracy": (("implicit-margin", _sign_percent),),
    "win-rate-adjusted": (("verdict", _percent),),
    "loss-rate": (("verdict", _percent_of(0.0)),),
    "tie-rate": (("verdict", _percent_of(0.5)),),
    "consistency": (("consistent", _percent),),
}


def contributions(
    samples: Sequence[SampleScore], scores: Sequence[Score], protocol: Mapping[str, Any] | None = None
) -> dict[str, list[Contribution]]:
    """The values behind each score that they reproduce; a metric that they don't reproduce is left out.

    A suite whose protocol tells how each task's score comes of its rows is read by that.

    A metric is read as (in this order) a derived one above, the samples' own metric, a turn, category or
    rival of it or of a derived headline, a task or group of tasks in per cent, or the average of those.
    """
    graded = [sample for sample in samples if sample.value is not None]
    metrics = [score.metric for score in scores]
    own_scale = any(sample.metric in metrics for sample in graded)
    headline = _reading(metrics[0], graded) if metrics else None
    rules = rules_of(protocol or {})
    found: dict[str, list[Contribution]] = {}
    for score in scores:
        if rules:
            values = _of_suite(rules, graded, score.metric)
        elif reading := _reading(score.metric, graded):
            values = _read(graded, reading)
        elif own_scale:
            values = [_contribution(s, _same) for s in graded if _belongs(s, score.metric)]
        elif headline:
            values = _read([s for s in graded if _belongs(s, score.metric)], headline)
        else:
            values = _of_tasks(graded, score.metric, [m for m in metrics if m != AVERAGE])
        if values and score.value is not None and _close(nested_mean(values), score.value):
            found[score.metric] = values
    return found


def by_category(
    samples: Sequence[SampleScore], metric: str, values: Sequence[Contribution]
) -> dict[str, list[Contribution]]:
    """A plain mean's values split by category, as `win-rate: writing`; empty where there are not several."""
    categories = {(sample.question, sample.turn, sample.rival): sample.category for sample in samples}
    split: dict[str, list[Contribution]] = {}
    for value in values:
        if value.path:
            return {}
        split.setdefault(categories[value.key], []).append(value)
    return {f"{metric}: {name}": split[name] for name in sorted(split)} if len(split) > 1 else {}


def repeats_averaged(values: Sequence[Contribution]) -> list[Contribution]:
    """One value a key, the mean of its repeats."""
    by_key: dict[tuple[str, int, str], list[Contribution]] = {}
    for value in values:
        by_key.setdefault(value.key, []).append(value)
    return [replace(same[0], value=sum(v.value for v in same) / len(same)) for same in by_key.values()]


def nested_mean(values: Sequence[Contribution]) -> float | None:
    """The metric: a mean, or a mean of means as deep as the paths go."""
    if not values or not values[0].path:
        return mean_stderr([value.value for value in values])[0]
    return mean_of_means([(nested_mean(part), None) for part in branches(values)])[0]


def branches(values: Sequence[Contribution]) -> list[list[Contribution]]:
    """The members of the outermost nested mean, with one level of the path taken off."""
    parts: dict[str, list[Contribution]] = {}
    for value in values:
        head, *rest = value.path
        parts.setdefault(head, []).append(replace(value, path=tuple(rest)))
    return list(parts.values())


def _contribution(sample: SampleScore, change: Callable[[float], float], *path: str) -> Contribution:
    return Contribution(sample.question, sample.turn, change(sample.value or 0.0), path, sample.rival)


def _reading(metric: str, samples: Sequence[SampleScore]) -> Reading | None:
    """How a derived metric comes of these samples; None where it is none, or not of these."""
    there = {sample.metric for sample in samples}
    return next((reading for reading in _DERIVED.get(metric, ()) if reading[0] in there), None)


def _read(samples: Sequence[SampleScore], reading: Reading) -> list[Contribution]:
    name, change = reading
    return [_contribution(sample, change) for sample in samples if sample.metric == name]


def _belongs(sample: SampleScore, metric: str) -> bool:
    turn = re.fullmatch(r"turn-(\d+)", metric)
    if turn:
        return sample.turn == int(turn[1])
    return metric in (sample.metric, sample.category, f"against {sample.rival}")


def _of_suite(rules: Sequence[TaskRule], samples: Sequence[SampleScore], metric: str) -> list[Contribution]:
    """A task's rows, or for the average those of every task; nothing where one of them has none."""
    if metric != AVERAGE:
        return [Contribution(row.question, 0, row.value, row.path) for row in row_values(rules, metric, samples)]
    values = []
    for rule in rules:
        rows = row_values(rules, rule.task, samples)
        if not rows:
            return []
        values += [Contribution(row.question, 0, row.value, (rule.task, *row.path)) for row in rows]
    return values


def _of_tasks(samples: Sequence[SampleScore], metric: str, tasks: Sequence[str]) -> list[Contribution]:
    """Rows of an Open LLM suite: the category is the task, or task_subject where the task is a group."""
    values = []
    for sample in samples:
        owner = _owner(sample.category, tasks)
        if owner is not None and metric == AVERAGE:
            values.append(_contribution(sample, _percent, owner, sample.category))
        elif owner == metric:
            values.append(_contribution(sample, _percent, sample.category))
    return values


def _owner(category: str, tasks: Sequence[str]) -> str | None:
    owners = [task for task in tasks if category == task or category.startswith(f"{task}_")]
    return max(owners, key=len, default=None)


def _close(found: float | None, stored: float) -> bool:
    return found is not None and abs(found - stored) <= 1e-9 * max(1.0, abs(stored))
