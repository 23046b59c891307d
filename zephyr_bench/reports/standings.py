"""Who stands where: for each model, benchmark and judge the run that counts, or a published figure.

In: runs with their scores, published sources. Out: standings with their labels and remarks. Pure; the
tables are made of them in leaderboard.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zephyr_bench.fingerprint import canonical_json, short
from zephyr_bench.records import Score
from zephyr_bench.reports.counted import warnings
from zephyr_bench.reports.protocols import differing_fields
from zephyr_bench.reports.published import Published
from zephyr_bench.store.run_info import DRIFT, SEQUENTIAL

if TYPE_CHECKING:
    from zephyr_bench.store import RunInfo

Scores = Mapping[str, Sequence[Score]]  # by run
Labels = Mapping[tuple[str, str], str]  # by fingerprint and name
_Key = tuple[str, str, str, str | None, tuple[str, ...], str | None]


@dataclass(frozen=True)
class RankRange:
    """First and last rank that a model may have among those of its column; 1 is the best."""

    low: int
    high: int

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}–{self.high}"


@dataclass(frozen=True)
class Standing:
    """One model on one benchmark, graded by one judge."""

    model: str  # the name, with @ and 8 hex digits where two checkpoints share it
    model_note: str  # "quantised"
    benchmark: str
    judge: str | None
    scores: tuple[Score, ...]  # headline first
    run: str | None  # None: published, not measured here
    rivals: tuple[str, ...] = ()  # models that it was compared with
    references: str | None = None  # reference answers that the judge was shown
    source: str = ""  # of a published figure
    remarks: tuple[str, ...] = ()  # on the whole standing
    figure_notes: tuple[tuple[str, str], ...] = ()  # (metric, remark) of published figures
    rank: RankRange | None = None  # by the headline; None: not ranked (rank_ranges.py)

    @property
    def published(self) -> bool:
        return self.run is None

    def score(self, metric: str) -> Score | None:
        return next((score for score in self.scores if score.metric == metric), None)


def measured(runs: Sequence[RunInfo], scores: Scores, labels: Labels) -> list[Standing]:
    """The run that counts for each checkpoint (fingerprint and name), benchmark and judge.

    That is the newest complete run; one with a --limit, or of some tasks only, just where no whole one is
    complete, so that a quick trial doesn't hide a whole result. A run without scores (imported answers) has
    no place here. `runs` are newest first.
    """
    chosen = [run for run in runs_that_count(runs) if scores.get(run.id)]
    remarks = _remarks(chosen, labels)
    return [
        Standing(
            model=labels[run.model_fingerprint, run.model],
            model_note=run.note or "",
            benchmark=run.benchmark,
            judge=run.judge,
            scores=tuple(scores.get(run.id, ())),
            run=run.id,
            rivals=run.rivals,
            references=run.references,
            remarks=(*remarks[run.id], *warnings(scores.get(run.id, ()))),
        )
        for run in chosen
    ]


def with_the_only_references(standings: Sequence[Standing]) -> list[Standing]:
    """Runs that don't tell their references, as imports, take those of all others of the judge.

    Where the others had several, they stay apart from all of them. A published figure has what its source tells.
    """
    known: dict[tuple[str, str | None], set[str]] = {}
    for standing in standings:
        if standing.references is not None:
            known.setdefault((standing.benchmark, standing.judge), set()).add(standing.references)
    only = {key: next(iter(names)) for key, names in known.items() if len(names) == 1}
    return [
        standing
        if standing.published
        else replace(standing, references=standing.references or only.get((standing.benchmark, standing.judge)))
        for standing in standings
    ]


def runs_that_count(runs: Sequence[RunInfo]) -> list[RunInfo]:
    """One complete run for each (checkpoint, benchmark, judge, rivals, references); see `measured`."""
    complete = [run for run in runs if run.status == "complete" and DRIFT not in run.protocol]
    kept: dict[_Key, RunInfo] = {}
    for run in (*(r for r in complete if not is_limited(r)), *(r for r in complete if is_limited(r))):
        kept.setdefault(_key(run), run)
    return list(kept.values())


def is_limited(run: RunInfo) -> bool:
    """Whether it is a part of the benchmark: its first questions, some of its tasks, or what a gate needed."""
    return run.part not in ("", DRIFT)


def left_out(runs: Sequence[RunInfo]) -> list[RunInfo]:
    """The newest run of each (checkpoint, benchmark, judge, rivals, references) that has no complete one."""
    whole = {_key(run) for run in runs if run.status == "complete" and DRIFT not in run.protocol}
    newest: dict[_Key, RunInfo] = {}
    for run in runs:
        if _key(run) not in whole and DRIFT not in run.protocol:
            newest.setdefault(_key(run), run)
    return list(newest.values())


def _key(run: RunInfo) -> _Key:
    return run.model_fingerprint, run.model, *run.grading


def checkpoint_labels(runs: Sequence[RunInfo]) -> dict[tuple[str, str], str]:
    """(fingerprint, name) -> its label: the name, or name@12ab34cd where several checkpoints share it."""
    checkpoints = {(run.model_fingerprint, run.model) for run in runs}
    times = Counter(name for _, name in checkpoints)
    return {
        (fingerprint, name): f"{name}@{short(fingerprint)}" if times[name] > 1 else name
        for fingerprint, name in checkpoints
    }


def _remarks(runs: Sequence[RunInfo], labels: Labels) -> dict[str, tuple[str, ...]]:
    """What a reader must know before comparing a run with the others of its column."""
    groups: dict[tuple[Any, ...], list[RunInfo]] = {}
    for run in runs:
        groups.setdefault(run.grading, []).append(run)
    told: dict[str, tuple[str, ...]] = {}
    for group in groups.values():
        usual = usual_run(group)
        for run in group:
            told[run.id] = tuple(_odd(run, usual, labels))
    return told


def usual_run(group: Sequence[RunInfo], conditions: Callable[[RunInfo], str] | None = None) -> RunInfo:
    """The run whose conditions (protocol and judge) most of the group share.

    Of equals the one that comes first by its conditions' text and the model: the order of filling decides nothing.
    """
    tell = conditions or protocol_and_judge
    own = [(tell(run), run) for run in group]
    times = Counter(text for text, _ in own)
    return min(own, key=lambda entry: (-times[entry[0]], entry[0], entry[1].model, entry[1].model_fingerprint))[1]


def protocol_and_judge(run: RunInfo) -> str:
    return canonical_json([dict(run.protocol), run.judge_fingerprint])


def _odd(run: RunInfo, usual: RunInfo, labels: Labels) -> list[str]:
    remarks = []
    if unjudged := run.environment.get("not_judged"):
        remarks.append(f"{unjudged} turns without a judgment")
    if (limit := run.protocol.get("limit")) is not None:
        which = "questions of each category" if run.protocol.get("spread") else "the first questions"
        remarks.append(f"only {which}: --limit {limit}")
    if SEQUENTIAL in run.protocol:
        remarks.append("judged in random order, until the gate was certain")
    if only := run.protocol.get("only"):
        remarks.append(f"only {', '.join(only)}")
    if unanswered := run.protocol.get("not_answered"):
        remarks.append(f"{unanswered} instructions without an answer")
    against = labels[usual.model_fingerprint, usual.model]
    fields = differing_fields(_without_limit(usual), _without_limit(run))
    if fields and is_limited(run) == is_limited(usual):
        shown = "; ".join(fields[:3]) + (f"; {len(fields) - 3} more" if len(fields) > 3 else "")
        remarks.append(f"asked otherwise than {against} ({shown})")
    if run.judge_fingerprint != usual.judge_fingerprint:
        versions = f"{short(usual.judge_fingerprint or '')} against {short(run.judge_fingerprint or '')}"
        remarks.append(f"judged by another version of {run.judge} than {against} was ({versions})")
    return remarks


def _without_limit(run: RunInfo) -> dict[str, Any]:
    return {key: value for key, value in run.protocol.items() if key != "limit"}


def from_published(sources: Sequence[Published]) -> list[Standing]:
    """A standing for each model of each published table; figures of one place and judge stay together."""
    grouped: dict[tuple[str, str, str | None, str | None, str], list[tuple[Score, str]]] = {}
    for source in sources:
        for table in source.tables:
            for figure in table.figures:
                metric = figure.metric or table.metric or ""
                score = Score(metric, figure.value, figure.stderr, figure.n or 0)
                key = (figure.model, table.benchmark, table.judge, table.references, source.source)
                grouped.setdefault(key, []).append((score, figure.note))
    return [
        Standing(
            model=model,
            model_note="",
            benchmark=benchmark,
            judge=judge,
            scores=tuple(score for score, _ in figures),
            run=None,
            source=source,
            references=references,
            figure_notes=tuple((score.metric, note) for score, note in figures if note),
        )
        for (model, benchmark, judge, references, source), figures in grouped.items()
    ]
