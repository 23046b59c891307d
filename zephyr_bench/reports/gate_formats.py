"""A gate's report as text: for people (table, markdown) and for machines (csv, json). Pure.

The JSON is a contract: version 1, its keys in docs/design/gate.md.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from zephyr_bench.reports.compare import interval
from zephyr_bench.reports.counted import value_told
from zephyr_bench.reports.drift import drift_record
from zephyr_bench.reports.gate import Entry, GateReport, Row
from zephyr_bench.reports.gate_words import details, headline, names, rules, why, worst_parts, worst_questions
from zephyr_bench.reports.render import MISSING, number, render_json, render_records, render_table
from zephyr_bench.stats.gate import Verdict

EXIT_CODES = {Verdict.PASS: 0, Verdict.REGRESSION: 1, Verdict.INCONCLUSIVE: 3}
VERSION = 1  # of the JSON

_CSV_COLUMNS = (
    *("benchmark", "judge", "metric", "verdict", "reason", "why"),
    *("base_model", "base_run", "candidate_model", "candidate_run"),
    *("base", "candidate", "difference", "stderr", "low", "high", "n", "questions"),
    *("margin", "detectable", "questions_needed", "p_lower", "p_lower_adjusted", "p_not_inferior"),
)


def render_gate(report: GateReport, format: str) -> str:
    """`format` is table, markdown, csv or json. Raises UserError for another."""
    if format == "json":
        return render_json(as_json(report))
    if format == "csv":
        return render_records([_csv_row(row, report) for row in report.rows], _CSV_COLUMNS, format)
    return _for_people(report, format)


def _for_people(report: GateReport, format: str) -> str:
    heads = ["benchmark", "metric", "baseline", "candidate", "difference", f"{100 * report.confidence:g} % interval"]
    heads += ["margin", "detectable", "verdict", "why"]
    rows = list(zip(names(report), report.rows, strict=True))
    cells = [[name, *_cells(row), row.verdict.value, why(row, report)] for name, row in rows]
    below = [*rules(report), *report.notes]
    below += [f"{name}: {line}" for name, row in rows for line in details(row)]
    title = f"{headline(report)} ({report.candidate or 'candidate'} against {report.baseline or 'baseline'})"
    return render_table(heads, cells, format, numeric=range(2, 8), title=title, notes=below)


def _cells(row: Row) -> list[str]:
    entry = row.entry
    if entry is None:
        return [MISSING] * 7
    change, metric = entry.change, entry.metric
    return [
        metric,
        value_told(metric, change.base),
        value_told(metric, change.candidate),
        number(entry.gated.difference.value, signed=True),
        interval(row.low, row.high),
        f"{entry.gated.margin:g}",
        number(row.design.detectable if row.design else None),
    ]


def _csv_row(row: Row, report: GateReport) -> dict[str, Any]:
    told = {**_benchmark_json(row, report)}
    sides = {side: told.pop(side) or {"model": None, "run": None, "value": None} for side in ("baseline", "candidate")}
    return {
        **told,
        "base_model": sides["baseline"]["model"],
        "base_run": sides["baseline"]["run"],
        "base": sides["baseline"]["value"],
        "candidate_model": sides["candidate"]["model"],
        "candidate_run": sides["candidate"]["run"],
        "candidate": sides["candidate"]["value"],
    }


def as_json(report: GateReport) -> dict[str, Any]:
    return {
        "version": VERSION,
        "verdict": report.verdict.value,
        "exit_code": EXIT_CODES[report.verdict],
        "baseline": report.baseline,
        "candidate": report.candidate,
        "confidence": report.confidence,
        "level": report.level,
        "adjustment": "holm",
        "rules": rules(report),
        "benchmarks": [_benchmark_json(row, report) for row in report.rows],
        "notes": list(report.notes),
    }


def _benchmark_json(row: Row, report: GateReport) -> dict[str, Any]:
    entry, ruling = row.entry, row.ruling
    found = entry.gated.difference if entry else None
    return {
        "benchmark": row.benchmark,
        "judge": row.judge,
        "metric": entry and entry.metric,
        "verdict": row.verdict.value,
        "reason": row.reason,
        "why": why(row, report),
        "baseline": entry and _side(entry, base=True),
        "candidate": entry and _side(entry, base=False),
        "difference": found and found.value,
        "stderr": found and found.stderr,
        "low": row.low,
        "high": row.high,
        "n": found.n if found else 0,
        "questions": found.changes.questions if found and found.changes else 0,
        "unanswered": entry.unanswered if entry else 0,
        "margin": entry and entry.gated.margin,
        "margin_from": entry and entry.margin_from,
        "detectable": row.design and row.design.detectable,
        "questions_needed": row.design and row.design.questions,
        "judgments_needed": row.design and row.design.judgments,
        "p_lower": ruling and ruling.p_lower,
        "p_lower_adjusted": ruling and ruling.p_lower_adjusted,
        "p_not_inferior": ruling and ruling.p_not_inferior,
        "same_answers": bool(entry and entry.gated.same_answers),
        "allowed": [asdict(field) for field in entry.comparison.alike.allowed] if entry else [],
        "unknown": list(entry.comparison.alike.unknown) if entry else [],
        "worse": [_part(part) for part in worst_parts(entry)] if entry else [],
        "lost_most": [_moved(moved) for moved in worst_questions(entry)] if entry else [],
        "drift": drift_record(entry.anchors) if entry and entry.anchors else None,
        "sequential": _progress(entry) if entry else None,
        "judge_calls": asdict(entry.calls) if entry and entry.calls else None,
        "notes": list(entry.comparison.notes) if entry else [],
    }


def _side(entry: Entry, *, base: bool) -> dict[str, Any]:
    side = entry.comparison.sides[0 if base else 1]
    return {
        "model": side.run.model,
        "run": side.run.id,
        "seeds": [member.run.id for member in side.seeds],
        "file": side.place or None,
        "value": entry.change.base if base else entry.change.candidate,
    }


def _part(part: Any) -> dict[str, Any]:
    found = part.difference
    return {
        "metric": part.metric,
        "baseline": part.base,
        "candidate": part.candidate,
        "difference": found.value,
        "low": found.low,
        "high": found.high,
    }


def _moved(moved: Any) -> dict[str, Any]:
    return {"question": moved.question, "baseline": moved.base, "candidate": moved.candidate}


def _progress(entry: Entry) -> dict[str, Any] | None:
    progress = entry.progress
    if progress is None:
        return None
    return {
        "verdict": progress.verdict and progress.verdict.value,
        "stop": progress.stop and progress.stop.value,
        "judged": progress.judged,
        "low": progress.low,
        "high": progress.high,
    }
