"""What each question adds to each metric of a run: the inverse of a benchmark's `aggregate`.

In: a run's samples and scores. Out: for each metric the values whose mean it is. What comes out is
checked against the stored score, so that a comparison never rests on a wrong reading of the samples.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from zephyr_bench.records import SampleScore, Score
from zephyr_bench.stats.means import mean_of_means, mean_stderr


@dataclass(frozen=True)
class Contribution:
    """One value of a metric's mean, on the metric's scale.

    `path` says which nested mean it stands in: () for a plain mean over all, (subject,) for a group,
    (task, subject) for an average of groups; each level counts its members alike.
    """

    question: str
    turn: int
    value: float
    path: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, int]:
        return self.question, self.turn


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


# metric of a run -> (metric of its samples, how one becomes the other)
_DERIVED: dict[str, tuple[str, Callable[[float], float]]] = {
    "win-rate": ("preference", _percent),
    "discrete-win-rate": ("preference", _discrete_percent),
    "avg-length": ("length", _same),
    "log-prob-accuracy": ("log-prob-margin", _sign_percent),
    "implicit-accuracy": ("implicit-margin", _sign_percent),
}


def contributions(samples: Sequence[SampleScore], scores: Sequence[Score]) -> dict[str, list[Contribution]]:
    """The values behind each score that they reproduce; a metric that they don't reproduce is left out.

    A metric is read as (in this order) a derived one above, the samples' own metric, one of its turns
    or categories, a task or group of tasks in per cent, or the average of those.
    """
    graded = [sample for sample in samples if sample.value is not None]
    metrics = [score.metric for score in scores]
    own_scale = any(sample.metric in metrics for sample in graded)
    found: dict[str, list[Contribution]] = {}
    for score in scores:
        if score.metric in _DERIVED:
            name, change = _DERIVED[score.metric]
            values = [_contribution(s, change) for s in graded if s.metric == name]
        elif own_scale:
            values = [_contribution(s, _same) for s in graded if _belongs(s, score.metric)]
        else:
            values = _of_tasks(graded, score.metric, [m for m in metrics if m != "average"])
        if values and score.value is not None and _close(nested_mean(values), score.value):
            found[score.metric] = values
    return found


def by_category(
    samples: Sequence[SampleScore], metric: str, values: Sequence[Contribution]
) -> dict[str, list[Contribution]]:
    """A plain mean's values split by category, as `win-rate: writing`; empty where there are not several."""
    categories = {(sample.question, sample.turn): sample.category for sample in samples}
    split: dict[str, list[Contribution]] = {}
    for value in values:
        if value.path:
            return {}
        split.setdefault(categories[value.key], []).append(value)
    return {f"{metric}: {name}": split[name] for name in sorted(split)} if len(split) > 1 else {}


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
        parts.setdefault(head, []).append(Contribution(value.question, value.turn, value.value, tuple(rest)))
    return list(parts.values())


def _contribution(sample: SampleScore, change: Callable[[float], float], *path: str) -> Contribution:
    return Contribution(sample.question, sample.turn, change(sample.value or 0.0), path)


def _belongs(sample: SampleScore, metric: str) -> bool:
    turn = re.fullmatch(r"turn-(\d+)", metric)
    if turn:
        return sample.turn == int(turn[1])
    return metric in (sample.metric, sample.category)


def _of_tasks(samples: Sequence[SampleScore], metric: str, tasks: Sequence[str]) -> list[Contribution]:
    """Rows of an Open LLM suite: the category is the task, or task_subject where the task is a group."""
    values = []
    for sample in samples:
        owner = _owner(sample.category, tasks)
        if owner is not None and metric == "average":
            values.append(_contribution(sample, _percent, owner, sample.category))
        elif owner == metric:
            values.append(_contribution(sample, _percent, sample.category))
    return values


def _owner(category: str, tasks: Sequence[str]) -> str | None:
    owners = [task for task in tasks if category == task or category.startswith(f"{task}_")]
    return max(owners, key=len, default=None)


def _close(found: float | None, stored: float) -> bool:
    return found is not None and abs(found - stored) <= 1e-9 * max(1.0, abs(stored))
