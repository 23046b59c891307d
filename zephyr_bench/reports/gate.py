"""`gate`: what is known of each benchmark, and what follows for all.

In: comparisons, with the margin of each. Out: a report that gate_formats.py prints. Pure; the verdicts are made in
stats/gate.py, and by stats/sequential.py where the judge was stopped early.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.reports.comparison import Comparison, MetricChange
from zephyr_bench.reports.counted import COUNTS
from zephyr_bench.stats.claims import Difference, spread
from zephyr_bench.stats.components import Source
from zephyr_bench.stats.gate import Gated, Reason, Ruling, Verdict, gate, overall
from zephyr_bench.stats.power import detectable, pairs_needed
from zephyr_bench.store.run_info import SEQUENTIAL

if TYPE_CHECKING:
    from zephyr_bench.reports.drift import AnchorCheck
    from zephyr_bench.stats.drift import Drift
    from zephyr_bench.stats.sequential import Progress

MISSING = "missing"  # inconclusive: one side has no run of the benchmark
INCOMPLETE = "incomplete"  # inconclusive: a run was broken off, or is not over yet
STOPPED_EARLY = "stopped-early"  # inconclusive: a run is what a gate judged until it was certain, compared as a whole
UNANSWERED = "unanswered"  # inconclusive: would pass, but the candidate has no value where the baseline has one
MOST_UNANSWERED = 0.05  # share of the baseline's values that the candidate may lack and still pass

_MOST_JUDGMENTS = 10  # times as many; beyond that questions are the better advice

# where less is better, or nothing is
_NOT_HIGHER_IS_BETTER = {*COUNTS, "avg-length", "loss-rate", "tie-rate"}
_UNKNOWN = Difference(None, None, None, None, None, 0)


@dataclass(frozen=True)
class JudgeCalls:
    """Of one benchmark, anchors included."""

    made: int
    planned: int  # that judging everything would have taken


@dataclass(frozen=True)
class Entry:
    """One benchmark that is gated."""

    comparison: Comparison
    gated: Gated  # with the judge's drift, where it was looked at
    metric: str
    margin_from: str = ""  # "--margin", "recipe smol", "benchmark mt-bench"
    unanswered: int = 0  # values that the baseline has and the candidate lacks
    anchors: AnchorCheck | None = None  # what the judge's drift in `gated` was told by
    progress: Progress | None = None  # the judge was asked in random order, until it was certain
    calls: JudgeCalls | None = None

    @property
    def change(self) -> MetricChange:
        return change_of(self.comparison, self.metric)


@dataclass(frozen=True)
class Ungated:
    """A benchmark that nothing can be told of."""

    benchmark: str
    judge: str | None
    reason: str  # MISSING, INCOMPLETE, or stats.gate's JUDGE_DRIFT where nothing was judged for it
    told: str


@dataclass(frozen=True)
class Design:
    """What these questions and judgments can see, and what would see the margin; None where these do."""

    detectable: float  # smallest true difference that is found in 80 of 100 repetitions
    questions: int | None = None
    judgments: int | None = None  # times as many of each answer; None as well where ten times as many would not


@dataclass(frozen=True)
class Row:
    """One benchmark of the report."""

    benchmark: str
    judge: str | None
    verdict: Verdict
    reason: str  # a value of stats.gate.Reason or stats.sequential.Stop, or one of the three above
    entry: Entry | None = None  # None: nothing was compared
    ruling: Ruling | None = None
    low: float | None = None  # of the interval that the verdict goes by; see gate_words.rules
    high: float | None = None
    design: Design | None = None  # None: the spread isn't known
    told: str = ""  # of a benchmark that nothing can be told of


@dataclass(frozen=True)
class GateReport:
    verdict: Verdict
    rows: tuple[Row, ...]
    confidence: float
    baseline: str = ""  # as the user named them
    candidate: str = ""
    notes: tuple[str, ...] = ()

    @property
    def level(self) -> float:
        """One-sided, of each claim."""
        return round((1 - self.confidence) / 2, 12)

    @property
    def sequential(self) -> bool:
        return any(row.entry is not None and row.entry.progress is not None for row in self.rows)


def change_of(comparison: Comparison, metric: str | None = None) -> MetricChange:
    """Of the metric that is gated; None: of the headline. Raises UserError where it can't be gated."""
    benchmark = comparison.base.benchmark
    names = [change.metric for change in comparison.metrics if change.metric not in _NOT_HIGHER_IS_BETTER]
    if metric in _NOT_HIGHER_IS_BETTER:
        raise UserError(f"{metric} of {benchmark} can't be gated: more of it is not better; gate {told(names)}.")
    for change in comparison.metrics:
        if change.metric == metric or (metric is None and change.metric in names):
            return change
    if metric is None:
        raise UserError(
            f"runs {comparison.base.id} and {comparison.candidate.id} of {benchmark} have no score in common: "
            f"nothing to gate."
        )
    raise UserError(f"{benchmark} has no metric '{metric}' in both runs.{did_you_mean(metric, names)}")


def told(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "another benchmark"


def gated(comparison: Comparison, margin: float, drift: Drift | None = None, *, metric: str | None = None) -> Gated:
    """The benchmark as stats.gate takes it. `margin` in the metric's units; `metric` None: the headline.

    Raises UserError for a metric that can't be gated.
    """
    change = change_of(comparison, metric)
    return Gated(comparison.base.benchmark, change.difference, margin, comparison.same_answers, drift)


def report(
    entries: Sequence[Entry],
    *,
    confidence: float,
    ungated: Sequence[Ungated] = (),
    baseline: str = "",
    candidate: str = "",
    notes: Sequence[str] = (),
) -> GateReport:
    """Verdicts for all. Raises ValueError where there is nothing at all: no verdict is no pass.

    A benchmark whose judge was stopped early has its verdict from there, at the level over the number of benchmarks;
    for the others it is one more test.
    """
    tests = [entry.gated if entry.progress is None else _one_more_test(entry.gated) for entry in entries]
    rulings = gate(tests, confidence=confidence).rulings if tests else ()
    rows = [_row(entry, ruling, confidence) for entry, ruling in zip(entries, rulings, strict=True)]
    rows += [Row(u.benchmark, u.judge, Verdict.INCONCLUSIVE, u.reason, told=u.told) for u in ungated]
    if not rows:
        raise ValueError("no benchmark to gate")
    rows.sort(key=lambda row: (row.benchmark, row.judge or ""))
    verdict = overall([row.verdict for row in rows])
    return GateReport(verdict, tuple(rows), confidence, baseline, candidate, tuple(notes))


def _one_more_test(entry: Gated) -> Gated:
    """Without its figures, which were looked at early, and so don't mean what they say."""
    return replace(entry, difference=_UNKNOWN)


def _row(entry: Entry, ruling: Ruling, confidence: float) -> Row:
    verdict, reason = ruling.verdict, ruling.reason.value
    low, high = ruling.low, ruling.high
    if entry.progress is not None:
        low, high = entry.progress.low, entry.progress.high
        if ruling.reason not in (Reason.SAME_ANSWERS, Reason.JUDGE_DRIFT):
            verdict = entry.progress.verdict or Verdict.INCONCLUSIVE
            reason = entry.progress.stop.value if entry.progress.stop else INCOMPLETE
    elif ruling.reason not in (Reason.SAME_ANSWERS, Reason.JUDGE_DRIFT) and _holds_a_part(entry):
        verdict, reason = Verdict.INCONCLUSIVE, STOPPED_EARLY
    if verdict is Verdict.PASS and ruling.reason is not Reason.SAME_ANSWERS and _lacks_too_many(entry):
        verdict, reason = Verdict.INCONCLUSIVE, UNANSWERED
    run = entry.comparison.base
    return Row(run.benchmark, run.judge, verdict, reason, entry, ruling, low, high, _design(entry, confidence))


def _holds_a_part(entry: Entry) -> bool:
    """Judging stopped when the figures looked certain, so that they are further from nothing than the truth."""
    members = [member for side in entry.comparison.sides for member in side.members]
    return any(SEQUENTIAL in member.run.protocol for member in members)


def _lacks_too_many(entry: Entry) -> bool:
    """A candidate that fails on its worst questions would look better for it."""
    return entry.unanswered > MOST_UNANSWERED * (entry.unanswered + entry.change.difference.n)


def _design(entry: Entry, confidence: float) -> Design | None:
    found, margin = entry.gated.difference, entry.gated.margin
    about, changes = spread(found), found.changes
    if about is None or changes is None:
        return None
    stderr, degrees = about
    level = 1 - confidence
    smallest = detectable(stderr, degrees, level=level)
    if margin <= 0 or smallest <= margin:
        return Design(smallest)
    # as an error shrinks with the root of the number of questions, whatever design these are
    questions = pairs_needed(margin, stderr * math.sqrt(changes.questions), level=level)
    return Design(smallest, questions, _judgments(entry, (margin / smallest) ** 2))


def _judgments(entry: Entry, variance: float) -> int | None:
    """How many times as many judgments of each answer bring the variance down to that share of what it is."""
    parts = entry.comparison.components
    if parts is None or entry.metric != entry.comparison.metrics[0].metric:
        return None
    judge = sum(part.share for part in parts.parts if part.sources == (Source.JUDGE,))
    room = variance - (1 - judge)
    return math.ceil(judge / room) if room * _MOST_JUDGMENTS >= judge > 0 else None
