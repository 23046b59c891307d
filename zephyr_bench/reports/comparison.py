"""Two runs of one benchmark, question by question. Pure: sides in, differences out.

Only questions that both runs have a value for are compared; both values shown are over these, so that
their difference is the difference. Turns of a question count together (stats/paired.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from heapq import nsmallest
from statistics import variance
from typing import TYPE_CHECKING

from zephyr_bench.reports.contributions import (
    Contribution,
    Key,
    Path,
    branches,
    by_category,
    by_key,
    contributions,
    mean_by_path,
    nested_mean,
)
from zephyr_bench.reports.counted import COUNTS
from zephyr_bench.reports.protocols import Alike, check_alike, differing_fields
from zephyr_bench.reports.sides import UNKNOWN, Side, texts_differ
from zephyr_bench.stats.claims import LEAST_QUESTIONS
from zephyr_bench.stats.components import Components, Grade, difference_components
from zephyr_bench.stats.means import mean_stderr
from zephyr_bench.stats.paired import Difference, cluster_means, mean_of_differences, paired_difference
from zephyr_bench.store.run_info import SEQUENTIAL

if TYPE_CHECKING:
    from zephyr_bench.store import RunInfo

__all__ = ["Comparison", "MetricChange", "Moved", "Side", "compare_sides", "most_moved", "same_answers"]

_MOVED = 5  # questions named
_PARTS = {"limit", "only"}  # fields of a protocol by which a run is asked fewer questions
_OF_THE_FILE = {"questions", "not_judged", "lm_eval_results"}  # what an import keeps of its file, no version


@dataclass(frozen=True)
class MetricChange:
    metric: str
    base: float | None
    candidate: float | None
    difference: Difference  # n = 0: not paired, the whole runs' values subtracted
    unanswered: int = 0  # values that the base has and the candidate lacks, of what it was asked
    lost: tuple[Moved, ...] = ()  # the largest losses first


@dataclass(frozen=True)
class Moved:
    """A question's value of a metric, its turns averaged."""

    question: str
    base: float
    candidate: float


@dataclass(frozen=True)
class Comparison:
    sides: tuple[Side, Side]
    metrics: tuple[MetricChange, ...]  # headline first, categories last
    moved: tuple[Moved, ...]  # the most first
    notes: tuple[str, ...]
    alike: Alike = field(default_factory=Alike)
    components: Components | None = None  # of the headline's error, where anything was repeated

    @property
    def base(self) -> RunInfo:
        return self.sides[0].run

    @property
    def candidate(self) -> RunInfo:
        return self.sides[1].run

    @cached_property
    def same_answers(self) -> bool:
        """The candidate said what the base said, word for word. Reads the answers; the store must be open yet."""
        return same_answers(*self.sides)


def compare_sides(base: Side, candidate: Side, *, allow: Collection[str] = (), moved: int = _MOVED) -> Comparison:
    """What changed from base to candidate, metric by metric, and where it changed most.

    Raises UserError where the runs were made or graded otherwise in a field that `allow` doesn't name.
    """
    for side in (base, candidate):
        for other in side.seeds:
            check_alike(side.run, other.run, allow)
    alike = check_alike(base.run, candidate.run, allow)
    return compare_alike(base, candidate, alike, moved=moved)


def compare_alike(base: Side, candidate: Side, alike: Alike, *, moved: int = _MOVED) -> Comparison:
    """As `compare_sides`, of sides whose differences are known and allowed."""
    sides = _Read.of(base), _Read.of(candidate)
    shared = [s.metric for s in base.scores if any(s.metric == t.metric for t in candidate.scores)]
    asked = _asked(candidate) if any(entry.field in _PARTS for entry in alike.allowed) else None
    changes = []
    left_out: dict[str, int] = {}
    for metric in shared:
        if all(metric in side.values for side in sides):
            left, right = (side.values[metric] for side in sides)
            changes.append(_paired(metric, left, right, asked))
            left_out[metric] = len(left.keys() ^ right.keys())
        else:
            changes.append(_unpaired(metric, base, candidate))
    headline = shared[0] if shared else None
    found: tuple[Moved, ...] = ()
    parts = None
    if headline is not None and all(headline in side.values for side in sides):
        left, right = (side.values[headline] for side in sides)
        found = most_moved(left, right, moved)
        if not (base.seeds or candidate.seeds):
            changes += _categories(headline, sides, shared)
        parts = _components(sides, headline)
        changes = _with_seeds(changes, sides, headline, parts)
    notes = differences_in_kind(base.run, candidate.run, alike)
    if headline is not None and left_out.get(headline):
        notes.append(
            f"{left_out[headline]} judgments or rows have a value on one side only; they are left out of "
            f"{headline} here, so the values may differ from the leaderboard's"
        )
    for side, other in ((base, candidate), (candidate, base)):
        lacking = [s.metric for s in side.scores if all(s.metric != t.metric for t in other.scores)]
        if alone := [metric for metric in lacking if metric not in COUNTS]:
            notes.append(f"only run {side.run.id} has {', '.join(alone)}")
    unpaired = [c.metric for c in changes if c.difference.n == 0 and c.metric not in COUNTS]
    if unpaired:
        notes.append(f"no shared questions behind {', '.join(unpaired)}: no interval")
    return Comparison(
        (base, candidate),
        tuple(changes),
        found,
        tuple(notes),
        alike,
        parts,
    )


def same_answers(base: Side, candidate: Side) -> bool:
    """Whether the candidate said what the base said: the same run, or each answer the very text of the base's.

    Where not every question has a text that is known, as where log-probabilities were asked for: the same weights,
    engine, seed and protocol as well. Of a model that is known by a name or a server's address alone that says
    nothing. Where no judge graded the texts, the values are the same, too.
    """
    if base.seeds or candidate.seeds:
        return [side.run.id for side in base.members] == [side.run.id for side in candidate.members]
    ours, theirs = base.run, candidate.run
    if ours.id == theirs.id:
        return True
    if texts_differ(base, candidate):
        return False
    told = {question for question, _, _ in base.said or ()}
    if not (told and all(_asked(side) <= told for side in (base, candidate))) and not _made_alike(base, candidate):
        return False
    return ours.judge is not None or _values(base) == _values(candidate)


def _made_alike(base: Side, candidate: Side) -> bool:
    """By weights that are known, not only by their name."""
    made = [
        (run.model_fingerprint, run.engine_fingerprint, run.seed, run.protocol_fingerprint)
        for run in (base.run, candidate.run)
    ]
    return base.weighed and candidate.weighed and made[0] == made[1]


def _asked(side: Side) -> set[str]:
    """Questions that it has samples of, with a value or without."""
    return {sample.question for member in side.members for sample in member.samples if sample.question}


def _values(side: Side) -> dict[tuple[str, str, int, str, int], float | None]:
    return {(s.metric, s.question, s.turn, s.rival, s.replicate): s.value for s in side.samples}


Values = Mapping[Key, Contribution]  # a value a question and turn


@dataclass(frozen=True)
class _Read:
    """A side as values by metric: the mean over its checkpoints, where it has several."""

    members: tuple[Mapping[str, Sequence[Contribution]], ...]
    values: Mapping[str, Values]
    side: Side

    @staticmethod
    def of(side: Side) -> _Read:
        members = tuple(contributions(m.samples, m.scores, m.run.protocol) for m in side.members)
        metrics = [metric for metric in members[0] if all(metric in other for other in members)]
        by_member = {metric: [by_key(member[metric]) for member in members] for metric in metrics}
        return _Read(members, {metric: _mean_of(several) for metric, several in by_member.items()}, side)

    @property
    def checkpoints(self) -> list[str]:
        """Of each member: two runs of one checkpoint repeat its sampling, not its training."""
        return [member.run.model_fingerprint for member in self.side.members]

    def repeats(self, metric: str) -> bool:
        """Whether any question has several values, of several judgments or checkpoints."""
        return sum(len(member[metric]) for member in self.members) > len(self.values[metric])

    def grades(self, metric: str, places: dict[tuple[int, str], int]) -> list[Grade]:
        """Every judgment, of every checkpoint; nothing of a mean of means.

        `places` numbers turns and rivals, for both sides alike. Where a file tells no answers, a repeat may be of
        another one.
        """
        found: list[Grade] = []
        for side, member, seed in zip(self.side.members, self.members, self.checkpoints, strict=True):
            answer = len(found)  # of its own: no checkpoint's answers are another's
            apart = _tells_no_texts(side)
            for c in member[metric]:
                if not c.path:
                    place = places.setdefault((c.turn, c.rival), len(places))
                    found.append(Grade(c.value, c.question, place, len(found) if apart else answer, seed))
        return found


def _tells_no_texts(side: Side) -> bool:
    return side.run.imported and (not side.said or UNKNOWN in side.said.values())


def _mean_of(several: Sequence[Values]) -> Values:
    if len(several) == 1:
        return several[0]
    shared = [key for key in several[0] if all(key in other for other in several)]
    return {key: several[0][key]._replace(value=_mean([one[key].value for one in several])) for key in shared}


def _paired(metric: str, base: Values, candidate: Values, asked: Collection[str] | None = None) -> MetricChange:
    """The change over the keys that both have. `asked`: the candidate's questions, where those may be fewer."""
    pairs: dict[Path, list[_Pair]] = {}
    for key, value in base.items():
        if key in candidate:
            pairs.setdefault(value.path, []).append((value, candidate[key].value))
    left = mean_by_path({path: [value.value for value, _ in part] for path, part in pairs.items()})
    right = mean_by_path({path: [other for _, other in part] for path, part in pairs.items()})
    lacking = sum(key not in candidate and (asked is None or value.question in asked) for key, value in base.items())
    return MetricChange(metric, left, right, _difference(pairs), lacking, _most_lost(base, candidate))


_Pair = tuple[Contribution, float]  # the base's, and the candidate's value


def _difference(pairs: Mapping[Path, Sequence[_Pair]]) -> Difference:
    """Of subjects their means are the pairs, where there are enough: each is one draw of what could be asked."""
    if not pairs or () in pairs:
        part = pairs.get((), [])
        values, others = [value.value for value, _ in part], [other for _, other in part]
        swing = part[0][0].swing if part else None
        return paired_difference(values, others, [value.question for value, _ in part], swing=swing)
    parts = branches(pairs)
    if len(parts) >= LEAST_QUESTIONS and all(() in part for part in parts.values()):
        names = [name for name, part in parts.items() for _ in part[()]]
        left = cluster_means([value.value for part in parts.values() for value, _ in part[()]], names)
        right = cluster_means([other for part in parts.values() for _, other in part[()]], names)
        return replace(paired_difference(left, right), n=len(names))
    return mean_of_differences([_difference(part) for part in parts.values()])


def _categories(headline: str, sides: tuple[_Read, _Read], shared: Sequence[str]) -> list[MetricChange]:
    """The headline by category, where no metric of the benchmark says so already."""
    if {sample.category for sample in sides[0].side.samples} <= set(shared):
        return []
    left, right = (by_category(side.side.samples, headline, list(side.values[headline].values())) for side in sides)
    return [
        _paired(name, by_key(left[name]), by_key(right[name]))
        for name in left
        if name in right and name.removeprefix(f"{headline}: ") not in shared
    ]


def _components(sides: tuple[_Read, _Read], headline: str) -> Components | None:
    """Where the error comes from; None where nothing was repeated that would tell, and of a mean of means."""
    if not any(side.repeats(headline) for side in sides):
        return None
    places: dict[tuple[int, str], int] = {}
    return difference_components(*(side.grades(headline, places) for side in sides))


def _with_seeds(
    changes: Sequence[MetricChange], sides: tuple[_Read, _Read], headline: str, parts: Components | None
) -> list[MetricChange]:
    """With what another seed of the training would have changed in each interval, where there are several."""
    if max(len(set(side.checkpoints)) for side in sides) == 1:
        return list(changes)
    return [
        replace(change, difference=_widened(change.difference, parts))
        if change.metric == headline and parts
        else replace(change, difference=_widened_by_totals(change, sides))
        for change in changes
    ]


def _widened(found: Difference, parts: Components) -> Difference:
    """With the components' error in place of the questions' alone."""
    told = mean_of_differences([replace(found, stderr=parts.stderr, degrees=parts.degrees)])
    return replace(told, effect_size=found.effect_size)


def _widened_by_totals(change: MetricChange, sides: tuple[_Read, _Read]) -> Difference:
    """By the spread of whole checkpoints, which holds some of the questions' as well: rather too wide than too narrow.

    A side of one checkpoint is taken to vary as the other does.
    """
    found = change.difference
    if found.stderr is None or any(change.metric not in side.values for side in sides):
        return found
    totals = [[nested_mean(member[change.metric]) or 0.0 for member in side.members] for side in sides]
    spreads = [variance(values) for values in totals if len(values) > 1]
    usual = sum(spreads) / len(spreads)
    seeds = sum((variance(values) if len(values) > 1 else usual) / len(values) for values in totals)
    total = found.stderr**2 + seeds
    if not total or not found.degrees:
        return found
    share, seed_degrees = seeds / total, max(1, sum(map(len, totals)) - 2)
    degrees = 1 / (share**2 / seed_degrees + (1 - share) ** 2 / found.degrees)
    told = mean_of_differences([replace(found, stderr=total**0.5, degrees=degrees)])
    return replace(told, effect_size=found.effect_size)


def _unpaired(metric: str, base: Side, candidate: Side) -> MetricChange:
    """Where the samples don't tell how the metric came about: the stored values, without an interval."""
    left, right = (_stored(metric, side) for side in (base, candidate))
    value = None if left is None or right is None else right - left
    return MetricChange(metric, left, right, Difference(value, None, None, None, None, 0))


def _stored(metric: str, side: Side) -> float | None:
    values = [score.value for member in side.members for score in member.scores if score.metric == metric]
    known = [value for value in values if value is not None]
    return _mean(known) if len(known) == len(side.members) else None


def most_moved(base: Values, candidate: Values, count: int = _MOVED) -> tuple[Moved, ...]:
    """The questions whose value changed most, by size of the change; ties by the question's id."""
    moved = _moves(base, candidate)
    return tuple(nsmallest(count, moved, key=lambda m: (-abs(m.candidate - m.base), len(m.question), m.question)))


def _most_lost(base: Values, candidate: Values) -> tuple[Moved, ...]:
    lost = (moved for moved in _moves(base, candidate) if moved.candidate < moved.base)
    return tuple(nsmallest(_MOVED, lost, key=lambda m: (m.candidate - m.base, len(m.question), m.question)))


def _moves(base: Values, candidate: Values) -> Iterator[Moved]:
    sums: dict[str, tuple[float, float, int]] = {}
    for key, value in base.items():
        if key in candidate:
            left, right, n = sums.get(value.question, (0.0, 0.0, 0))
            sums[value.question] = left + value.value, right + candidate[key].value, n + 1
    return (Moved(question, left / n, right / n) for question, (left, right, n) in sums.items() if left != right)


def _mean(values: Sequence[float]) -> float:
    return mean_stderr(values)[0] or 0.0


def looked_at_early(*runs: RunInfo) -> list[str]:
    """A sentence for each that a sequential gate left."""
    return [
        f"run {run.id} of {run.model} was judged only until a gate was certain: its figures were looked at early, and "
        f"a plain interval of them is too narrow"
        for run in runs
        if SEQUENTIAL in run.protocol
    ]


def differences_in_kind(base: RunInfo, candidate: RunInfo, alike: Alike) -> list[str]:
    """What makes the two runs less than comparable, a sentence each."""
    notes = [
        f"run {run.id} of {run.model} is {run.status}: only what it has is compared"
        for run in (base, candidate)
        if run.status != "complete"
    ]
    notes += looked_at_early(base, candidate)
    notes += [f"not made alike, and compared all the same: {entry}" for entry in alike.allowed]
    notes += alike.notes
    if alike.unknown:
        notes.append(f"taken as equal, since not both runs tell it: {', '.join(alike.unknown)}")
    if base.seed != candidate.seed:
        notes.append(f"seeds differ: {base.seed} against {candidate.seed}")
    left, right = ({k: v for k, v in run.environment.items() if k not in _OF_THE_FILE} for run in (base, candidate))
    if any(entry.field == "version" for entry in alike.allowed):
        left.pop("zephyr-bench", None)
    made = differing_fields(left, right)
    notes += [f"made with other versions: {told}" for told in made]
    same_engine = base.engine_fingerprint == candidate.engine_fingerprint
    if base.model_fingerprint == candidate.model_fingerprint and not same_engine and not made:
        notes.append("run by other engines: dtype, backend or its version differs")
    return notes
