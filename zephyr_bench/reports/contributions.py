"""What each question adds to each metric of a run: the inverse of a benchmark's `aggregate`.

In: a run's samples and scores. Out: for each metric the values whose mean it is. What comes out is
checked against the stored score, so that a comparison never rests on a wrong reading of the samples.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from zephyr_bench.benchmarks.open_llm_scores import AVERAGE, RowValue, TaskRule, owned_by, row_values, rules_of
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.stats.means import mean_of_means, mean_stderr

Key = tuple[str, int, str]  # question, turn, rival
Path = tuple[str, ...]  # of names: see Contribution
Item = TypeVar("Item")
_TURN = re.compile(r"turn-\d+")


class Contribution(NamedTuple):
    """One value of a metric's mean, on the metric's scale.

    `path` says which nested mean it stands in: () for a plain mean over all, (subject,) for a group,
    (task, subject) for an average of groups; each level counts its members alike. Repeats (several
    judgments of an answer) are values of their own with the same key. `swing` is what a question adds that turns
    from wrong to right, 100 for accuracies and preferences in per cent; None for grades and lengths.
    """

    question: str
    turn: int
    value: float
    path: Path = ()
    rival: str = ""
    swing: float | None = None

    @property
    def key(self) -> Key:
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


_PERCENT = 100.0  # from wrong to right
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
    rules = rules_of(protocol or {})
    read = _of_suite(rules, graded, metrics) if rules else _of_metrics(graded, metrics)
    told = {score.metric: score.value for score in scores}
    return {name: values for name, values in read.items() if values and _close(nested_mean(values), told[name])}


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
    return list(by_key(values).values())


def by_key(values: Sequence[Contribution]) -> dict[Key, Contribution]:
    """The same by key, in the order of each key's first value."""
    found = {(value.question, value.turn, value.rival): value for value in values}
    if len(found) == len(values):
        return found
    repeats: dict[Key, list[Contribution]] = {}
    for value in values:
        repeats.setdefault(value.key, []).append(value)
    return {
        key: same[0]._replace(value=sum(value.value for value in same) / len(same)) for key, same in repeats.items()
    }


def nested_mean(values: Sequence[Contribution]) -> float | None:
    """The metric: a mean, or a mean of means as deep as the paths go."""
    by_path: dict[Path, list[float]] = {}
    for value in values:
        by_path.setdefault(value.path, []).append(value.value)
    return mean_by_path(by_path)


def mean_by_path(values: Mapping[Path, Sequence[float]]) -> float | None:
    """A mean, or the mean of the means of the branches."""
    if not values or () in values:
        return mean_stderr(values.get((), []))[0]
    return mean_of_means([(mean_by_path(part), None) for part in branches(values).values()])[0]


def branches(values: Mapping[Path, Item]) -> dict[str, dict[Path, Item]]:
    """The members of the outermost nested mean, with one level of the path taken off."""
    parts: dict[str, dict[Path, Item]] = {}
    for path, items in values.items():
        parts.setdefault(path[0], {})[path[1:]] = items
    return parts


def _of_metrics(samples: Sequence[SampleScore], metrics: Sequence[str]) -> dict[str, list[Contribution]]:
    """Of a benchmark that is no suite by its protocol."""
    there = {sample.metric for sample in samples}
    headline = _reading(metrics[0], there) if metrics else None
    read = {}
    if not there.isdisjoint(metrics):
        belonging = _by_name(samples, [_contribution(sample, _same) for sample in samples])
    elif headline:
        of_it = [sample for sample in samples if sample.metric == headline[0]]
        belonging = _by_name(of_it, _read(samples, headline))
    else:
        tasks = [metric for metric in metrics if metric != AVERAGE]
        belonging = {metric: _of_tasks(samples, metric, tasks) for metric in metrics}
    for metric in metrics:
        reading = _reading(metric, there)
        read[metric] = _read(samples, reading) if reading else belonging.get(metric, [])
    return read


def _by_name(samples: Sequence[SampleScore], values: Sequence[Contribution]) -> dict[str, list[Contribution]]:
    """What each sample is worth, by its metric, its category, its turn and its rival."""
    found: dict[str, list[Contribution]] = {}
    names: dict[tuple[str, str, int, str], set[str]] = {}
    for s, value in zip(samples, values, strict=True):
        place = s.metric, s.category, s.turn, s.rival
        if place not in names:
            names[place] = _names(*place)
        for name in names[place]:
            found.setdefault(name, []).append(value)
    return found


def _names(metric: str, category: str, turn: int, rival: str) -> set[str]:
    """A metric `turn-1` is of the first turns, whatever a category's name."""
    told = {name for name in (metric, category) if not _TURN.fullmatch(name)}
    return {*told, f"against {rival}", f"turn-{turn}"}


def _contribution(
    sample: SampleScore, change: Callable[[float], float], *path: str, swing: float | None = None
) -> Contribution:
    return Contribution(sample.question, sample.turn, change(sample.value or 0.0), path, sample.rival, swing)


def _reading(metric: str, there: Collection[str]) -> Reading | None:
    """How a derived metric comes of samples of those metrics; None where it is none, or not of these."""
    return next((reading for reading in _DERIVED.get(metric, ()) if reading[0] in there), None)


def _read(samples: Sequence[SampleScore], reading: Reading) -> list[Contribution]:
    name, change = reading
    swing = None if change is _same else _PERCENT
    return [_contribution(sample, change, swing=swing) for sample in samples if sample.metric == name]


def _of_suite(
    rules: Sequence[TaskRule], samples: Sequence[SampleScore], metrics: Sequence[str]
) -> dict[str, list[Contribution]]:
    """By metric: a task's rows, or for the average those of every task; nothing where one of them has none."""
    owned = owned_by(rules, samples)
    found = {
        metric: _of_rule(rule, row_values([rule], metric, owned[rule.task]))
        for rule in rules
        for metric in metrics
        if metric == rule.task or metric.startswith(f"{rule.task}: ")
    }
    if AVERAGE in metrics:
        tasks = {rule.task: found.get(rule.task, []) for rule in rules}
        found[AVERAGE] = [
            Contribution(value.question, 0, value.value, (task, *(value.path or (task,))), "", value.swing)
            for task, values in tasks.items()
            if all(tasks.values())
            for value in values
        ]
    return {metric: found[metric] for metric in metrics if metric in found}


def _of_rule(rule: TaskRule, rows: Sequence[RowValue]) -> list[Contribution]:
    """A right answer is worth more than 100 where scores are counted from chance."""
    swings = {leaf: _PERCENT / (1 - rule.lower_bound(leaf)) for leaf in {_leaf(rule, row) for row in rows}}
    return [Contribution(row.question, 0, row.value, row.path, "", swings[_leaf(rule, row)]) for row in rows]


def _leaf(rule: TaskRule, row: RowValue) -> str:
    return row.path[0] if row.path else rule.task


def _of_tasks(samples: Sequence[SampleScore], metric: str, tasks: Sequence[str]) -> list[Contribution]:
    """Rows of an Open LLM suite: the category is the task, or task_subject where the task is a group."""
    owners = {category: _owner(category, tasks) for category in {sample.category for sample in samples}}
    values = []
    for sample in samples:
        owner = owners[sample.category]
        if owner is not None and metric == AVERAGE:
            values.append(_contribution(sample, _percent, owner, sample.category, swing=_PERCENT))
        elif owner == metric:
            values.append(_contribution(sample, _percent, sample.category, swing=_PERCENT))
    return values


def _owner(category: str, tasks: Sequence[str]) -> str | None:
    owners = [task for task in tasks if category == task or category.startswith(f"{task}_")]
    return max(owners, key=len, default=None)


def _close(found: float | None, stored: float | None) -> bool:
    return found is not None and stored is not None and abs(found - stored) <= 1e-9 * max(1.0, abs(stored))
