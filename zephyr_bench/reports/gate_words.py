"""What a gate says in words: why each verdict, what got worse, under which rules. Pure; a sentence is plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from zephyr_bench.reports.comparison import Comparison, MetricChange, Moved
from zephyr_bench.reports.counted import COUNTS, value_told
from zephyr_bench.reports.drift import drift_told
from zephyr_bench.reports.gate import INCOMPLETE, STOPPED_EARLY, UNANSWERED, Design, Entry, GateReport, Row
from zephyr_bench.reports.references import graded
from zephyr_bench.reports.render import number
from zephyr_bench.reports.sides import Side
from zephyr_bench.stats.claims import LEAST_QUESTIONS
from zephyr_bench.stats.gate import Reason, Verdict
from zephyr_bench.stats.sequential import Stop

_NAMED = 3  # parts and questions named that got worse


def why(row: Row, report: GateReport) -> str:
    """The reason, with the figures that it rests on."""
    entry = row.entry
    if entry is None:
        return row.told
    if entry.progress is not None and row.reason in _STOPPED:
        return _STOPPED[row.reason]
    if row.reason == Reason.TOO_FEW:
        return _too_few(entry)
    if row.reason == Reason.JUDGE_DRIFT:
        return _drifted(entry)
    if row.reason == Reason.LOWER_ALONE and row.ruling is not None:
        return (
            f"below 0 alone (p {_p(row.ruling.p_lower)}), not among {_tests(report)} benchmarks "
            f"(Holm: {_p(row.ruling.p_lower_adjusted)}, level {report.level:g})"
        )
    if row.reason == STOPPED_EARLY:
        return (
            "one run holds what a gate judged until it was certain: its figures were looked at early, and don't mean "
            "what they say; gate by --sequential, or judge all of it by `zephyr-bench judge`"
        )
    if row.reason == UNANSWERED:
        return (
            f"would pass, but the candidate lacks {entry.unanswered} values that the baseline has: what failed may be "
            f"what is worse"
        )
    return _WHY[Reason(row.reason)]


_WHY = {
    Reason.SAME_ANSWERS: "the candidate's answers are the baseline's",
    Reason.SAME_SCORES: "other answers, and not one grade moved",
    Reason.BETTER: "higher: the interval lies above 0",
    Reason.WITHIN_MARGIN: "lower, and for certain by less than the margin",
    Reason.NOT_INFERIOR: "not lower by the margin or more",
    Reason.LOWER: "lower: the interval lies below 0, and reaches the margin",
    Reason.WIDE: "can't tell: the interval holds 0 and the margin",
}
_STOPPED = {
    Stop.LOWER: "lower for certain, so the judge was stopped",
    Stop.NOT_INFERIOR: "for certain not lower by the margin, so the judge was stopped",
    Stop.FUTILE: "can't tell, nor would all questions, so the judge was stopped",
    Stop.ALL_JUDGED: "all questions judged",
    INCOMPLETE: "the judge was broken off before it was certain",
}


def _too_few(entry: Entry) -> str:
    found = entry.gated.difference
    if found.value is None:
        return "no question has a value on both sides"
    if found.n == 0 or found.changes is None:
        return f"{entry.metric} doesn't come of single questions here: no interval"
    if found.changes.questions < LEAST_QUESTIONS:
        return f"{found.changes.questions} questions; fewer than {LEAST_QUESTIONS} show nothing"
    return "all questions moved alike: the spread isn't known"


def _drifted(entry: Entry) -> str:
    drift = entry.gated.drift
    found = drift.difference if drift else None
    moved = f"moved by {number(found.value, signed=True)} on {found.n} anchors" if found else "moved"
    return f"judge drift: the judge itself {moved}, so a difference may be its own"


def _p(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _tests(report: GateReport) -> int:
    return sum(row.entry is not None for row in report.rows)


def rules(report: GateReport) -> list[str]:
    """By what the verdicts were made, the same for all benchmarks."""
    tests = _tests(report)
    level = f"{100 * report.level:g} %"
    lines = [
        f"interval: {100 * report.confidence:g} %, of candidate - baseline over the same questions; each claim is "
        f"one-sided at {level}",
        "pass: the interval lies above -margin (non-inferiority); regression: it lies below 0 (significance) and not "
        "above -margin; inconclusive: neither",
    ]
    if tests == 1:
        lines.append("one benchmark: Holm's adjustment for several changes nothing")
    elif tests > 1:
        lines.append(
            f"regressions are adjusted for {tests} benchmarks by Holm's method: a false one anywhere in at most "
            f"{level} of runs; passes need no adjustment, for all must pass"
        )
    if report.sequential:
        lines.append(
            f"where the judge was stopped early, the interval holds at all times at once, at half of {level} over the "
            f"number of benchmarks (Bonferroni); where all questions were judged after all, it is the paired test's, "
            f"at the other half"
        )
    if any(row.design for row in report.rows):
        lines.append("detectable: the smallest true difference that these questions show in four of five repetitions")
    return lines


def details(row: Row) -> Iterator[str]:
    """What a reader must know of one benchmark, most urgent first."""
    entry = row.entry
    if entry is None:
        return
    if row.verdict is Verdict.REGRESSION:
        yield from _worse_told(entry)
    if row.design and row.design.questions and row.reason not in _CERTAIN:
        yield _needed(entry, row.design)
    yield from _variance_told(entry)
    if entry.calls is not None:
        yield f"{entry.calls.made} of {entry.calls.planned} judge calls made"
    if entry.anchors is not None:
        yield drift_told(entry.anchors)
    if entry.unanswered:
        yield f"values that the baseline has and the candidate lacks: {entry.unanswered}"
    yield from entry.comparison.notes
    yield f"{_who(entry.comparison)}; margin of {entry.margin_from or 'the caller'}"


_CERTAIN = {Reason.SAME_ANSWERS, Reason.SAME_SCORES, Reason.BETTER, Reason.LOWER, Reason.NOT_INFERIOR}


def _needed(entry: Entry, design: Design) -> str:
    changes = entry.gated.difference.changes
    asked = changes.questions if changes else 0
    more = f", or {design.judgments} times as many judgments of each answer" if design.judgments else ""
    return (
        f"{number(design.detectable)} is the least that {asked} questions detect, and the margin is "
        f"{entry.gated.margin:g}: to detect that takes about {_about(design.questions or 0)} questions{more}"
    )


def _variance_told(entry: Entry) -> Iterator[str]:
    """Where the headline's error comes from, where anything was repeated that tells."""
    parts = entry.comparison.components
    if parts is None or entry.metric != entry.comparison.metrics[0].metric:
        return
    shares = ", ".join(f"{' + '.join(part.sources)} {100 * part.share:.0f} %" for part in parts.parts)
    seeds = "" if parts.seeds_known else "; what another seed of the training would change is not in it"
    yield f"variance of the difference by its source: {shares}{seeds}"


def _about(count: int) -> str:
    """To two digits: it is no more certain than the spread that it comes from."""
    unit = 10 ** max(0, len(str(count)) - 2)
    return f"{-(-count // unit) * unit}"


def _who(comparison: Comparison) -> str:
    judges = list(dict.fromkeys(side.run.judge for side in comparison.sides if side.run.judge))
    by = f"judge {' and '.join(judges)}; " if judges else ""
    base, candidate = map(_side, comparison.sides)
    return f"{by}baseline {base}; candidate {candidate}"


def _side(side: Side) -> str:
    runs = ", ".join(member.run.id for member in side.members)
    place = f" of {side.place}" if side.place else ""
    return f"{side.run.model} (run{'s' if side.seeds else ''} {runs}{place})"


def _worse_told(entry: Entry) -> Iterator[str]:
    parts = [
        f"{part.metric} {value_told(part.metric, part.base)} to {value_told(part.metric, part.candidate)}"
        for part in worst_parts(entry)
    ]
    if parts:
        yield f"worst in {', '.join(parts)}"
    moved = [f"{m.question} ({number(m.base)} to {number(m.candidate)})" for m in worst_questions(entry)]
    if moved:
        yield f"questions that lost most: {', '.join(moved)}"


def worst_parts(entry: Entry) -> list[MetricChange]:
    """Categories, turns and tasks with the largest losses."""
    parts = [
        change
        for change in entry.comparison.metrics
        if change.metric != entry.metric and change.metric not in _OTHER_MEASURES and (change.difference.value or 0) < 0
    ]
    return sorted(parts, key=lambda change: change.difference.value or 0)[:_NAMED]


_OTHER_MEASURES = {
    *COUNTS,
    *("win-rate", "lc-win-rate", "discrete-win-rate", "avg-length"),
    *("win-rate-adjusted", "loss-rate", "tie-rate", "consistency"),
}


def worst_questions(entry: Entry) -> list[Moved]:
    """Of the metric that is gated, the largest losses first."""
    return list(entry.change.lost[:_NAMED])


def names(report: GateReport) -> list[str]:
    """Of the rows: the benchmark, and where it has several rows how each was graded."""
    rows = report.rows
    told = []
    for row in rows:
        same = [other for other in rows if other.benchmark == row.benchmark]
        told.append(row.benchmark if len(same) == 1 else full_name(row, report))
    return told


def full_name(row: Row, report: GateReport) -> str:
    """With the judge, the same every night; with rivals and references where they tell two rows apart."""
    alike = [other for other in report.rows if (other.benchmark, other.judge) == (row.benchmark, row.judge)]
    if len(alike) > 1 and row.entry is not None:
        return graded(row.entry.comparison.base)
    return f"{row.benchmark} by {row.judge}" if row.judge else row.benchmark


def headline(report: GateReport) -> str:
    """`gate: regression in mt-bench; open-llm-1 inconclusive`"""
    if report.verdict is Verdict.PASS:
        return "gate: pass"
    order = (Verdict.REGRESSION, Verdict.INCONCLUSIVE)
    named = [(verdict, [r.benchmark for r in report.rows if r.verdict is verdict]) for verdict in order]
    told = [f"{verdict.value}: {', '.join(_once(names))}" for verdict, names in named if names]
    return f"gate: {'; '.join(told)}"


def _once(names: Sequence[str]) -> list[str]:
    return [name for name, _ in groupby(names)]
