"""Two runs of one benchmark, question by question. Pure: runs, samples and scores in, differences out.

Only questions that both runs have a value for are compared; both values shown are over these, so that
their difference is the difference. Turns of a question count together (stats/paired.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zephyr_bench.fingerprint import short
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.reports.contributions import (
    Contribution,
    branches,
    by_category,
    contributions,
    nested_mean,
    repeats_averaged,
)
from zephyr_bench.reports.counted import COUNTS
from zephyr_bench.reports.protocols import differing_fields, fields_of_one
from zephyr_bench.stats.means import mean_stderr
from zephyr_bench.stats.paired import Difference, mean_of_differences, paired_difference

if TYPE_CHECKING:
    from zephyr_bench.store import RunInfo

_MOVED = 5  # questions named
_OF_THE_FILE = {"questions", "not_judged", "lm_eval_results"}  # what an import keeps of its file, no version


@dataclass(frozen=True)
class Side:
    """One of the two runs, with all that the store has of it."""

    run: RunInfo
    samples: Sequence[SampleScore]
    scores: Sequence[Score]  # headline first


@dataclass(frozen=True)
class MetricChange:
    metric: str
    base: float | None
    candidate: float | None
    difference: Difference  # n = 0: not paired, the whole runs' values subtracted


@dataclass(frozen=True)
class Moved:
    """A question's value of the headline metric, its turns averaged."""

    question: str
    base: float
    candidate: float


@dataclass(frozen=True)
class Comparison:
    base: RunInfo
    candidate: RunInfo
    metrics: tuple[MetricChange, ...]  # headline first, categories last
    moved: tuple[Moved, ...]  # the most first
    notes: tuple[str, ...]


def compare_sides(base: Side, candidate: Side) -> Comparison:
    """What changed from base to candidate, metric by metric, and where it changed most."""
    ours = contributions(base.samples, base.scores, base.run.protocol)
    theirs = contributions(candidate.samples, candidate.scores, candidate.run.protocol)
    shared = [s.metric for s in base.scores if any(s.metric == t.metric for t in candidate.scores)]
    changes = []
    left_out: dict[str, int] = {}
    for metric in shared:
        if metric in ours and metric in theirs:
            change, dropped = _paired(metric, ours[metric], theirs[metric])
            left_out[metric] = dropped
        else:
            change = _unpaired(metric, base.scores, candidate.scores)
        changes.append(change)
    headline = shared[0] if shared else None
    moved: tuple[Moved, ...] = ()
    if headline in ours and headline in theirs:
        moved = most_moved(ours[headline], theirs[headline])
        right = by_category(candidate.samples, headline, theirs[headline])
        for name, values in by_category(base.samples, headline, ours[headline]).items():
            category = name.removeprefix(f"{headline}: ")
            if category not in shared and name in right:
                changes.append(_paired(name, values, right[name])[0])
    notes = [*differences_in_kind(base.run, candidate.run)]
    if headline is not None and left_out.get(headline):
        notes.append(
            f"{left_out[headline]} judgments or rows have a value on one side only; they are left out of "
            f"{headline} here, so the values may differ from the leaderboard's"
        )
    unpaired = [c.metric for c in changes if c.difference.n == 0 and c.metric not in COUNTS]
    if unpaired:
        notes.append(f"no shared questions behind {', '.join(unpaired)}: no interval")
    return Comparison(base.run, candidate.run, tuple(changes), moved, tuple(notes))


def _paired(metric: str, base: Sequence[Contribution], candidate: Sequence[Contribution]) -> tuple[MetricChange, int]:
    """The change over shared keys, and how many keys only one side has."""
    left = {value.key: value for value in repeats_averaged(base)}
    right = {value.key: value.value for value in repeats_averaged(candidate)}
    shared = [value for key, value in left.items() if key in right]
    other = [replace(value, value=right[value.key]) for value in shared]
    change = MetricChange(metric, nested_mean(shared), nested_mean(other), _difference(shared, right))
    return change, len(left.keys() ^ right.keys())


def _difference(base: Sequence[Contribution], candidate: Mapping[tuple[str, int, str], float]) -> Difference:
    if base and base[0].path:
        return mean_of_differences([_difference(part, candidate) for part in branches(base)])
    values = [value.value for value in base]
    return paired_difference(values, [candidate[v.key] for v in base], [v.question for v in base])


def _unpaired(metric: str, base: Sequence[Score], candidate: Sequence[Score]) -> MetricChange:
    """Where the samples don't tell how the metric came about: the stored values, without an interval."""
    left, right = (next(s.value for s in side if s.metric == metric) for side in (base, candidate))
    value = None if left is None or right is None else right - left
    return MetricChange(metric, left, right, Difference(value, None, None, None, None, 0))


def most_moved(base: Sequence[Contribution], candidate: Sequence[Contribution]) -> tuple[Moved, ...]:
    """The questions whose value changed most, by size of the change; ties by the question's id."""
    right = {value.key: value.value for value in repeats_averaged(candidate)}
    pairs: dict[str, list[tuple[float, float]]] = {}
    for value in repeats_averaged(base):
        if value.key in right:
            pairs.setdefault(value.question, []).append((value.value, right[value.key]))
    moved = [
        Moved(question, _mean([a for a, _ in values]), _mean([b for _, b in values]))
        for question, values in pairs.items()
    ]
    changed = [entry for entry in moved if entry.base != entry.candidate]
    changed.sort(key=lambda entry: (-abs(entry.candidate - entry.base), len(entry.question), entry.question))
    return tuple(changed[:_MOVED])


def _mean(values: Sequence[float]) -> float:
    return mean_stderr(values)[0] or 0.0


def differences_in_kind(base: RunInfo, candidate: RunInfo) -> list[str]:
    """What makes the two runs less than comparable, a sentence each."""
    notes = [
        f"run {run.id} of {run.model} is {run.status}: only what it has is compared"
        for run in (base, candidate)
        if run.status != "complete"
    ]
    if base.judge != candidate.judge:
        notes.append(f"judges differ: {base.judge or 'none'} against {candidate.judge or 'none'}")
    elif base.judge_fingerprint != candidate.judge_fingerprint:
        versions = (short(run.judge_fingerprint or "none") for run in (base, candidate))
        notes.append(f"versions of judge {base.judge} differ: {' against '.join(versions)}")
    notes += [f"protocols differ: {told}" for told in differing_fields(base.protocol, candidate.protocol)]
    if unknown := fields_of_one(base.protocol, candidate.protocol):
        notes.append(f"taken as equal, since only one of the runs tells it: {', '.join(unknown)}")
    if base.seed != candidate.seed:
        notes.append(f"seeds differ: {base.seed} against {candidate.seed}")
    left, right = ({k: v for k, v in run.environment.items() if k not in _OF_THE_FILE} for run in (base, candidate))
    notes += [f"made with other versions: {told}" for told in differing_fields(left, right)]
    return notes
