"""From rows to the Open LLM Leaderboards' scores, in per cent. Pure.

In: samples, and how each task's score comes of them, which a run's protocol tells. Out: scores, or what each row adds
to them. Version 2 counts from chance: a subtask's score is 0 below its lower bound lb, else (x - lb) / (1 - lb), and
a group's the mean of its subtasks' (the leaderboard's documentation, "Scores Normalization").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zephyr_bench.records import SampleScore, Score
from zephyr_bench.stats.means import Mean, joint_mean, mean_of_means

AVERAGE = "average"


@dataclass(frozen=True)
class TaskRule:
    """How one task's score comes of its rows: the mean of its metrics' means, counted from chance."""

    task: str
    metrics: tuple[str, ...]
    beside: tuple[str, ...] = ()  # further metrics of the samples, shown as `task: metric`
    leaves: tuple[str, ...] = ()  # of a group; empty: the task, or whatever extends its name
    pooled: bool = False  # the mean over a group's rows, not over its tasks
    choices: Mapping[str, int] | int | None = field(default=None, hash=False)  # answers to choose from

    @staticmethod
    def read(told: Mapping[str, Any]) -> TaskRule:
        """Of a protocol's entry."""
        metric = told["metric"]
        return TaskRule(
            told["task"],
            (metric,) if isinstance(metric, str) else tuple(metric),
            tuple(told.get("beside") or ()),
            tuple(told.get("subtasks") or ()),
            bool(told.get("pooled")),
            told.get("choices"),
        )

    def owns(self, leaf: str) -> bool:
        return leaf in self.leaves if self.leaves else leaf == self.task or leaf.startswith(f"{self.task}_")

    def lower_bound(self, leaf: str) -> float:
        """What guessing gets right, as a share; 0 where nothing is to choose from, or scores count from 0."""
        number = self.choices.get(leaf) if isinstance(self.choices, Mapping) else self.choices
        return 1 / number if number else 0.0


@dataclass(frozen=True)
class RowValue:
    """What one row adds to its task's score, in per cent: the score is the mean over rows, of a group over tasks."""

    question: str
    path: tuple[str, ...]  # (task of a group), or () where all rows count alike
    value: float


def rules_of(protocol: Mapping[str, Any]) -> tuple[TaskRule, ...]:
    """Of a run's protocol; none where it isn't one of these suites'."""
    told = protocol.get("tasks")
    if not isinstance(told, list) or not all(isinstance(entry, dict) and "metric" in entry for entry in told):
        return ()
    return tuple(map(TaskRule.read, told))


def suite_scores(rules: Sequence[TaskRule], samples: Sequence[SampleScore]) -> list[Score]:
    """The average, each task, and what is shown beside it.

    The error of a score counted from chance is the plain one, scaled alike by 100 / (1 - lb); also below lb, where the
    score stands at 0 and the error is that of what lies under it.
    """
    scores, beside, owned = [], [], owned_by(rules, samples)
    for rule in rules:
        own = owned[rule.task]
        scores.append(_score(rule, rule.task, own, rule.metrics))
        shown = [metric for metric in rule.beside if any(sample.metric == metric for sample in own)]
        beside += [_score(rule, f"{rule.task}: {metric}", own, (metric,)) for metric in shown]
    mean, stderr = mean_of_means([(score.value, score.stderr) for score in scores])
    total = Score(AVERAGE, mean, stderr, sum(s.n for s in scores), sum(s.missing for s in scores))
    return [total, *scores, *beside]


def owned_by(rules: Sequence[TaskRule], samples: Iterable[SampleScore]) -> dict[str, list[SampleScore]]:
    """Task -> its samples, of every task; those of no task are left out."""
    owners: dict[str, TaskRule | None] = {}
    found: dict[str, list[SampleScore]] = {rule.task: [] for rule in rules}
    for sample in samples:
        leaf = sample.category
        if leaf not in owners:
            owners[leaf] = _owner(rules, leaf)
        if owner := owners[leaf]:
            found[owner.task].append(sample)
    return found


def row_values(rules: Sequence[TaskRule], metric: str, samples: Sequence[SampleScore]) -> list[RowValue]:
    """What the rows add to a task's score, or to one beside it; empty where the metric is neither.

    One value a row: where a row counts in several means of n_k values, its parts are weighted by rows / (n_k K), so
    that the mean over rows is the score. A task below chance stands at 0, whatever its rows.
    """
    for rule in rules:
        name, _, other = metric.partition(": ")
        if name != rule.task or (other and other not in rule.beside):
            continue
        own = owned_by(rules, samples)[rule.task]
        return _rows(rule, own, (other,) if other else rule.metrics)
    return []


def normalised(share: Mean, lower_bound: float) -> Mean:
    """In per cent from the lower bound; both the mean and its error."""
    mean, stderr = share
    scale = 100 / (1 - lower_bound)
    return (
        None if mean is None else max(0.0, (mean - lower_bound) * scale),
        None if stderr is None else stderr * scale,
    )


def _owner(rules: Sequence[TaskRule], leaf: str) -> TaskRule | None:
    """The task that a leaf of lm-eval belongs to: the one that names it, or whose name it extends the closest."""
    owners = [rule for rule in rules if rule.owns(leaf)]
    return max(owners, key=lambda rule: (leaf in rule.leaves, len(rule.task)), default=None)


def _score(rule: TaskRule, name: str, own: Sequence[SampleScore], metrics: Sequence[str]) -> Score:
    counted = [sample for sample in own if sample.metric in metrics]
    shares = [
        normalised(_joint(part, metrics), rule.lower_bound(leaf)) for leaf, part in _by_leaf(rule, counted).items()
    ]
    mean, stderr = mean_of_means(shares)
    given = {sample.question for sample in counted if sample.value is not None}
    missing = {sample.question for sample in counted if sample.value is None}
    return Score(name, mean, stderr, len(given), len(missing))


def _joint(samples: Sequence[SampleScore], metrics: Sequence[str]) -> Mean:
    parts = []
    for metric in metrics:
        graded = [(s.value, s.question) for s in samples if s.metric == metric and s.value is not None]
        parts.append(([value for value, _ in graded], [question for _, question in graded]))
    return joint_mean(parts)


def _rows(rule: TaskRule, own: Sequence[SampleScore], metrics: Sequence[str]) -> list[RowValue]:
    values = []
    graded = [sample for sample in own if sample.metric in metrics and sample.value is not None]
    for leaf, part in _by_leaf(rule, graded).items():
        counts = [sum(sample.metric == metric for sample in part) for metric in metrics]
        if not all(counts):
            return []
        rows: dict[str, float] = dict.fromkeys((sample.question for sample in part), 0.0)
        for sample in part:
            weight = len(rows) / (counts[metrics.index(sample.metric)] * len(metrics))
            rows[sample.question] += weight * (sample.value or 0.0)
        bound = rule.lower_bound(leaf)
        clipped = sum(rows.values()) / len(rows) < bound
        path = () if rule.pooled else (leaf,)
        for question, share in rows.items():
            values.append(RowValue(question, path, 0.0 if clipped else 100 * (share - bound) / (1 - bound)))
    return values


def _by_leaf(rule: TaskRule, samples: Iterable[SampleScore]) -> dict[str, list[SampleScore]]:
    """The rows of each task of a group; of one whose rows all count alike, the rows of the group."""
    found: dict[str, list[SampleScore]] = {}
    for sample in samples:
        found.setdefault(rule.task if rule.pooled else sample.category, []).append(sample)
    return found
