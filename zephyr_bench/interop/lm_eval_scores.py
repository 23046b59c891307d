"""A run's scores from what lm-eval's files have of its tasks: from the rows where there are any, else from its numbers.

In: a benchmark, results and samples by task of lm-eval. Out: samples, scores in per cent, and why one is missing. A
group without all its tasks has no score, and there is an average only of all the benchmark's tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zephyr_bench.benchmarks.open_llm_scores import AVERAGE, TaskRule, normalised, suite_scores
from zephyr_bench.benchmarks.open_llm_spec import TaskSpec
from zephyr_bench.interop.lm_eval_files import SamplesFile
from zephyr_bench.interop.lm_eval_matching import SAME, check_labels
from zephyr_bench.interop.lm_eval_names import Label
from zephyr_bench.interop.lm_eval_results import Figure, LeafResults
from zephyr_bench.interop.lm_eval_rows import scores_of, share
from zephyr_bench.interop.lm_eval_suites import Suite
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.stats.means import Mean, mean_of_means

_NAMED = 3  # of the tasks that are missing


@dataclass(frozen=True)
class Leaf:
    """What the files have of one of lm-eval's tasks: at least one of the two."""

    results: LeafResults | None
    samples: SamplesFile | None

    @property
    def filters(self) -> tuple[str, ...]:
        return self.results.filters if self.results else ()


Leaves = Mapping[str, Leaf]  # by name since 0.4


def protocol_tasks(suite: Suite, leaves: Leaves) -> list[dict[str, Any]]:
    """As a run of these tasks made here tells them; without the number of shots where no file does."""
    entries = []
    for task in suite.tasks:
        present = [leaf for leaf in suite.leaves[task.task] if leaf in leaves]
        if not present:
            continue
        entry = task.protocol()
        if len(present) < len(suite.leaves[task.task]):
            entry["subtasks"] = present
            if isinstance(task.choices, dict):
                entry["choices"] = {leaf: task.choices[leaf] for leaf in present}
        if any(_shots(leaves[leaf]) is None for leaf in present):
            del entry["shots"]
        entries.append(entry)
    return entries


def _shots(leaf: Leaf) -> int | None:
    return leaf.results.shots if leaf.results else None


def samples_of(suite: Suite, leaves: Leaves) -> list[SampleScore]:
    """Of the metrics that count, and as in our own runs of those beside them that are means over rows."""
    found = []
    for name, leaf in leaves.items():
        if leaf.samples is None:
            continue
        check_labels(name, suite, leaf.samples, leaf.filters)
        wanted: dict[Label, str] = {label: label[0] for label in suite.labels(name)}
        for label, beside in suite.beside(name).items():
            if _is_a_mean(leaf, name, label):
                wanted[label] = beside
        found += scores_of(leaf.samples, name, leaf.filters, wanted)
    return found


def _is_a_mean(leaf: Leaf, name: str, label: Label) -> bool:
    if leaf.results is None or label not in leaf.results.told or leaf.samples is None:
        return True
    theirs, ours = leaf.results.figure(label).value, share(leaf.samples, label, name, leaf.filters)
    return theirs is None or ours is None or abs(ours - theirs) <= SAME


def scores_from(suite: Suite, leaves: Leaves, samples: Sequence[SampleScore]) -> list[Score]:
    """The average, each whole task, and what is shown beside it."""
    whole = [task for task in suite.tasks if all(leaf in leaves for leaf in suite.leaves[task.task])]
    # in the order of our own runs: sums of floats depend on it
    ordered = sorted(samples, key=lambda s: (s.question, s.turn, s.metric, s.rival, s.replicate))
    from_rows = {score.metric: score for score in suite_scores([task.rule for task in whole], ordered)}
    scores, beside = [], []
    for task in whole:
        parts = {leaf: leaves[leaf] for leaf in suite.leaves[task.task]}
        if all(part.samples is not None for part in parts.values()):
            scores.append(from_rows[task.task])
            beside += [score for metric, score in from_rows.items() if metric.startswith(f"{task.task}: ")]
        else:
            scores.append(_from_numbers(suite, task, parts))
            beside += _beside_from_numbers(suite, task, parts)
    if len(whole) < len(suite.tasks):
        mean, stderr = None, None
    else:
        mean, stderr = mean_of_means([(score.value, score.stderr) for score in scores])
    total = Score(AVERAGE, mean, stderr, sum(s.n for s in scores), sum(s.missing for s in scores))
    return [total, *scores, *beside]


def lacking(suite: Suite, leaves: Leaves, scores: Sequence[Score]) -> Iterator[SampleScore]:
    """Why there is no average, and no score of a task, as samples of no question."""
    incomplete = [score.metric for score in scores if score.value is None and score.metric in suite.leaves]
    for name in incomplete:
        yield SampleScore("", "", name, None, reason="the files tell no number for it")
    for task in suite.tasks:
        members = suite.leaves[task.task]
        absent = [leaf for leaf in members if leaf not in leaves]
        if absent:
            incomplete.append(task.task)
        if 0 < len(absent) < len(members):
            shown = ", ".join(absent[:_NAMED]) + (", …" if len(absent) > _NAMED else "")
            why = f"{len(absent)} of its {len(members)} tasks are not in the files ({shown})"
            yield SampleScore("", "", task.task, None, reason=why)
    if incomplete:
        yield SampleScore("", "", AVERAGE, None, reason=f"no score, or not a whole one, of {', '.join(incomplete)}")


def _from_numbers(suite: Suite, task: TaskSpec, parts: Leaves) -> Score:
    """Of several metrics' mean no standard error can be told: they are of the same rows."""
    shares: dict[str, Mean] = {}
    for leaf, part in parts.items():
        figures = [_figure(part, label, leaf) for label in suite.labels(leaf)]
        values = [figure.value for figure in figures]
        known = [value for value in values if value is not None]
        mean = sum(known) / len(known) if known and len(known) == len(values) else None
        shares[leaf] = mean, figures[0].stderr if len(figures) == 1 else None
    return _score(task.task, task.rule, shares, parts)


def _beside_from_numbers(suite: Suite, task: TaskSpec, parts: Leaves) -> Iterator[Score]:
    for label, name in suite.beside(next(iter(parts))).items():
        if all(part.results is not None and label in part.results.told for part in parts.values()):
            shares = {leaf: _mean(_figure(part, label, leaf)) for leaf, part in parts.items()}
            yield _score(f"{task.task}: {name}", task.rule, shares, parts)


def _figure(part: Leaf, label: Label, leaf: str) -> Figure:
    """lm-eval's number; the rows' mean where it has none to tell."""
    if part.results is None:
        return Figure(share(part.samples, label, leaf, ()) if part.samples else None, None)
    return part.results.figure(label)


def _mean(figure: Figure) -> Mean:
    return figure.value, figure.stderr


def _score(name: str, rule: TaskRule, shares: Mapping[str, Mean], parts: Leaves) -> Score:
    rows = {leaf: (part.results.rows if part.results else None) or 0 for leaf, part in parts.items()}
    if rule.pooled:
        shares = {rule.task: _pooled(shares, rows)}
    mean, stderr = mean_of_means([normalised(found, rule.lower_bound(leaf)) for leaf, found in shares.items()])
    return Score(name, mean, stderr, sum(rows.values()))


def _pooled(shares: Mapping[str, Mean], rows: Mapping[str, int]) -> Mean:
    """The mean over all rows, where it is known how many there are; its error is not told."""
    if not all(rows.values()) or any(mean is None for mean, _ in shares.values()):
        return None, None
    return sum((mean or 0.0) * rows[leaf] for leaf, (mean, _) in shares.items()) / sum(rows.values()), None
