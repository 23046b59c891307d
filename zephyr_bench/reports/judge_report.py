"""`judge-report`: how far judges can be trusted, told by what the store has of their judgments.

In: a store, and a file of human votes where there is one. Out: text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.reports.human_votes import HumanVote, VotesMet, read_votes, votes_met, with_humans
from zephyr_bench.reports.judge_data import Answered, Judged, read_judges
from zephyr_bench.reports.judge_measures import (
    Measure,
    Measures,
    agreement,
    joint_agreement,
    length_bias,
    position_bias,
    self_consistency,
    share,
)
from zephyr_bench.reports.render import number, render_json, render_records, render_table

if TYPE_CHECKING:
    from zephyr_bench.store import Store

_CSV_COLUMNS = ("judge", "measure", "value", "low", "high", "count", "n")
_READING = "in brackets Wilson's 95 % interval, as if each judgment were of a question of its own"
_REASONS_SHOWN = 3


@dataclass(frozen=True)
class JudgeReport:
    judge: str
    judgments: int
    reasons: Mapping[str, int]  # why judgments have no score, the most frequent first
    measures: Measures
    agreement: Mapping[str, Measures]  # by the other judge
    votes: VotesMet | None


def render_judges(
    store: Store, *, format: str, judge: str | None = None, humans: Path | None = None, benchmark: str | None = None
) -> str:
    """A table for each judge of the store, or for the one named, as table, markdown, csv or json.

    Raises UserError for a judge or benchmark that the store doesn't know, and for a line of `humans` that is no vote.
    """
    votes = None if humans is None else read_votes(humans)
    everyone, answered = read_judges(store, benchmark)
    chosen = [judged for judged in everyone if judge in (None, judged.judge, judged.label)]
    if judge is not None and not chosen:
        known = {name for judged in everyone for name in (judged.judge, judged.label)}
        on = f" on {benchmark}" if benchmark else ""
        raise UserError(f"the store has no judgments by '{judge}'{on}.{did_you_mean(judge, known)}")
    joint = joint_agreement(everyone)
    reports = [_report(judged, everyone, answered, votes, joint) for judged in chosen]
    if format == "json":
        return render_json([_as_json(report) for report in reports])
    if format == "csv":
        return render_records([row for report in reports for row in _csv_rows(report)], _CSV_COLUMNS, format)
    if not reports:
        raise UserError("the store has no judgments yet; `zephyr-bench mtbench --model MODEL` has a judge make some.")
    return "\n".join(_for_people(report, format) for report in reports)


def _report(
    judged: Judged,
    everyone: Sequence[Judged],
    answered: Mapping[str, Answered],
    votes: Sequence[HumanVote] | None,
    joint: Measures,
) -> JudgeReport:
    judgments = [verdict.judgment for verdict in judged.verdicts]
    failed = sorted(judgment.reason or "no reason told" for judgment in judgments if judgment.score is None)
    met = None if votes is None else votes_met(judged, answered, votes)
    return JudgeReport(
        judge=judged.label,
        judgments=len(judgments),
        reasons=dict(Counter(failed).most_common()),
        measures={
            "parse-failure rate": share(len(failed), len(judgments)),
            **position_bias(judged.pairs),
            **length_bias(judged, answered),
            **self_consistency(judged),
            **joint,
            **with_humans([] if met is None else [*met.by_verdict, *met.by_grades]),
        },
        agreement={other.label: agreement(judged, other) for other in everyone if other is not judged},
        votes=met,
    )


def _as_json(report: JudgeReport) -> dict[str, Any]:
    met = report.votes
    return {
        "judge": report.judge,
        "judgments": report.judgments,
        "reasons": dict(report.reasons),
        "measures": _plain(report.measures),
        "agreement": [{"judge": other, **_plain(measures)} for other, measures in report.agreement.items()],
        "human_votes": None
        if met is None
        else {"in_file": met.in_file, "by_verdict": len(met.by_verdict), "by_grades": len(met.by_grades)},
    }


def _plain(measures: Measures) -> dict[str, Any]:
    return {name: None if measure is None else asdict(measure) for name, measure in measures.items()}


def _all_measures(report: JudgeReport) -> list[tuple[str, Measure | None]]:
    with_others = [
        (f"{name} with {other}", measure)
        for other, measures in report.agreement.items()
        for name, measure in measures.items()
    ]
    return [*report.measures.items(), *with_others]


def _csv_rows(report: JudgeReport) -> list[dict[str, Any]]:
    empty: dict[str, Any] = dict.fromkeys(_CSV_COLUMNS)
    return [
        {**empty, "judge": report.judge, "measure": name, **({} if measure is None else asdict(measure))}
        for name, measure in _all_measures(report)
    ]


def _for_people(report: JudgeReport, format: str) -> str:
    cells = [[name, _told(measure), str(measure.n)] for name, measure in _all_measures(report) if measure is not None]
    title = f"{report.judge}: {report.judgments} judgments"
    return render_table(["measure", "value", "n"], cells, format, numeric=[2], title=title, notes=_notes(report))


def _told(measure: Measure) -> str:
    if measure.low is None or measure.high is None:
        return number(measure.value)
    return f"{number(measure.value)} % ({number(measure.low)} to {number(measure.high)})"


def _notes(report: JudgeReport) -> list[str]:
    notes = [_READING]
    most = list(report.reasons.items())[:_REASONS_SHOWN]
    notes += [f"{times} without a score: {reason}" for reason, times in most]
    if len(report.reasons) > len(most):
        notes.append(f"{len(report.reasons) - len(most)} more reasons for no score; --format json has all")
    if report.votes is not None:
        by_verdict, by_grades = len(report.votes.by_verdict), len(report.votes.by_grades)
        notes.append(
            f"of {report.votes.in_file} human votes, {by_verdict} are of pairs that it compared, "
            f"{by_grades} of answers that it graded one by one"
        )
    return notes
