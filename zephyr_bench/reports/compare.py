"""`compare`: finds the runs that a user means, pairs them by benchmark and judge, prints what changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_bench.errors import UserError
from zephyr_bench.reports.comparison import Comparison, MetricChange, compare_sides
from zephyr_bench.reports.counted import value_told
from zephyr_bench.reports.moved import Turn, said_of
from zephyr_bench.reports.protocols import check_allowed
from zephyr_bench.reports.references import find, graded, pair
from zephyr_bench.reports.render import MISSING, number, render_json, render_notes, render_records, render_table
from zephyr_bench.reports.sides import Side

if TYPE_CHECKING:
    from zephyr_bench.stats.components import Components
    from zephyr_bench.store import RunInfo, Store

_CSV_COLUMNS = (
    *("benchmark", "judge", "rivals", "base_references", "candidate_references"),
    *("base_model", "base_run", "candidate_model", "candidate_run", "metric"),
    *("base", "candidate", "difference", "stderr", "low", "high", "p_value", "n", "effect_size", "detectable"),
    *("allowed_different", "taken_as_equal"),
)
_HEADS = ("metric", "base", "candidate", "difference", "95 % interval", "p", "effect", "detectable", "pairs")
_READING = (
    "candidate - base over the same questions; an interval that includes 0 shows no change",
    "effect: in standard deviations of a question's difference; detectable: the smallest true difference that so many "
    "questions show in four of five repetitions",
    "each row stands alone: none is adjusted for the number of rows",
)
_SHOWN = 100  # characters of an answer or a judgment in a table
Texts = Mapping[str, list[Turn]]  # by question


def render_comparison(
    store: Store | None,
    base: str,
    candidate: str,
    *,
    format: str,
    benchmark: str | None = None,
    allow: Collection[str] = (),
    moved: int = 5,
    include: Sequence[Path] = (),
) -> str:
    """Two references (references.py) on every benchmark and judge that both have, as text.

    `format` is table, markdown, csv or json; `moved` is how many questions to name. `store` may be None where both are
    baseline files. Raises UserError for an unknown name, nothing in common, or runs that `allow` doesn't let compare.
    """
    left, right = (find(store, word, benchmark=benchmark, include=include) for word in (base, candidate))
    pairs = pair(left, right)
    check_allowed([member.run for sides in pairs for side in sides for member in side.members], allow)
    compared = [compare_sides(*sides, allow=allow, moved=moved) for sides in pairs]
    for entry in compared:
        _check_metrics(entry)
    notes = [*left.notes, *right.notes]
    if format == "csv":
        rows = [_csv_row(entry, change) for entry in compared for change in entry.metrics]
        return render_records(rows, _CSV_COLUMNS, format)
    told = [(entry, _texts(store, entry, 0), _texts(store, entry, 1)) for entry in compared]
    if format == "json":
        return render_json([as_json(entry, notes, *texts) for entry, *texts in told])
    return "\n".join(_for_people(entry, notes, format, *texts) for entry, *texts in told)


def _check_metrics(comparison: Comparison) -> None:
    """Raises UserError where the two share none: an empty table would look like no difference."""
    if comparison.metrics:
        return
    told = []
    for side in comparison.sides:
        run = side.run
        if run.status != "complete":
            told.append(f"run {run.id} of {run.model} is {run.status}: run its command again to take it up")
        elif not side.scores:
            told.append(
                f"run {run.id} of {run.model} has answers alone: judge them by `zephyr-bench judge --run {run.id}`"
            )
        else:
            told.append(f"run {run.id} of {run.model} has {', '.join(score.metric for score in side.scores)}")
    raise UserError(f"nothing to compare: no metric of {comparison.base.benchmark} is in both; {'; '.join(told)}.")


def _texts(store: Store | None, comparison: Comparison, which: int) -> Texts | None:
    """What base (0) or candidate (1) said to the questions that moved; None where it isn't at hand."""
    side = comparison.sides[which]
    if store is None or side.place or side.seeds:
        return None
    return said_of(store, side.run, [entry.question for entry in comparison.moved]) if comparison.moved else {}


def as_json(
    comparison: Comparison, notes: Sequence[str] = (), base_said: Texts | None = None, said: Texts | None = None
) -> dict[str, Any]:
    base, candidate = comparison.sides
    return {
        "benchmark": base.run.benchmark,
        "judge": base.run.judge,
        "rivals": list(base.run.rivals),
        "base": _named(base),
        "candidate": _named(candidate),
        "metrics": [{"metric": change.metric, **_numbers(change)} for change in comparison.metrics],
        "same_answers": comparison.same_answers,
        "allowed_different": [asdict(entry) for entry in comparison.alike.allowed],
        "taken_as_equal": list(comparison.alike.unknown),
        "components": _components(comparison.components),
        "moved": [
            {
                **asdict(entry),
                "base_said": None if base_said is None else _turns(base_said, entry.question),
                "candidate_said": None if said is None else _turns(said, entry.question),
            }
            for entry in comparison.moved
        ],
        "notes": [*notes, *comparison.notes],
    }


def _turns(said: Texts, question: str) -> list[dict[str, Any]]:
    return [asdict(turn) for turn in said.get(question, [])]


def _named(side: Side) -> dict[str, Any]:
    run = side.run
    return {
        "model": run.model,
        "run": run.id,
        "version": run.version,
        "protocol": run.protocol_fingerprint,
        **({"references": run.references} if run.references else {}),
        **({"file": side.place} if side.place else {}),
        **({"seeds": [other.run.id for other in side.members]} if side.seeds else {}),
        **({"lineage": dict(side.lineage)} if side.lineage else {}),
    }


def _numbers(change: MetricChange) -> dict[str, Any]:
    found = change.difference
    return {
        "base": change.base,
        "candidate": change.candidate,
        "difference": found.value,
        "stderr": found.stderr,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
        "n": found.n,
        "effect_size": found.effect_size,
        "detectable": found.detectable,
    }


def _components(parts: Components | None) -> dict[str, Any] | None:
    if parts is None:
        return None
    return {
        "stderr": parts.stderr,
        "detectable": parts.detectable,
        "seeds_known": parts.seeds_known,
        "parts": [
            {
                "sources": [source.value for source in part.sources],
                "stderr": part.stderr,
                "share": part.share,
                "detectable_without": part.detectable_without,
            }
            for part in parts.parts
        ],
    }


def _csv_row(comparison: Comparison, change: MetricChange) -> dict[str, Any]:
    base, candidate = comparison.base, comparison.candidate
    return {
        "benchmark": base.benchmark,
        "judge": base.judge,
        "rivals": list(base.rivals),
        "base_references": base.references,
        "candidate_references": candidate.references,
        "base_model": base.model,
        "base_run": base.id,
        "candidate_model": candidate.model,
        "candidate_run": candidate.id,
        "metric": change.metric,
        **_numbers(change),
        "allowed_different": [str(entry) for entry in comparison.alike.allowed],
        "taken_as_equal": list(comparison.alike.unknown),
    }


def _for_people(
    comparison: Comparison, notes: Sequence[str], format: str, base_said: Texts | None, said: Texts | None
) -> str:
    base, candidate = comparison.sides
    title = f"{graded(base.run)}: {_told(base)} against {_told(candidate)}"
    cells = [
        [
            change.metric,
            value_told(change.metric, change.base),
            value_told(change.metric, change.candidate),
            number(change.difference.value, signed=True),
            interval(change.difference.low, change.difference.high),
            p_value(change.difference.p_value),
            number(change.difference.effect_size, signed=True),
            number(change.difference.detectable),
            str(change.difference.n),
        ]
        for change in comparison.metrics
    ]
    below = [*_READING, *_variance_told(comparison), *notes, *comparison.notes]
    tables = [render_table(_HEADS, cells, format, numeric=range(1, len(_HEADS)), title=title, notes=below)]
    if comparison.moved:
        tables.append(_moved_table(comparison, format))
        tables.append(_said_table(comparison, base_said, said, format))
    return "\n".join(table for table in tables if table)


def _variance_told(comparison: Comparison) -> Iterator[str]:
    """Where the headline's error comes from, and which of it would be worth to make smaller."""
    parts = comparison.components
    if parts is None:
        return
    shares = [
        f"{' + '.join(part.sources)} {100 * part.share:.0f} % (without it {part.detectable_without:.2f} would be seen)"
        for part in parts.parts
    ]
    yield f"error of {comparison.metrics[0].metric}, {parts.stderr:.2f}, by its source: {', '.join(shares)}"
    if not parts.seeds_known:
        yield "one checkpoint each: what another seed of the training would change is not in the error"


def _moved_table(comparison: Comparison, format: str) -> str:
    rows = [
        [
            entry.question,
            number(entry.base),
            number(entry.candidate),
            number(entry.candidate - entry.base, signed=True),
        ]
        for entry in comparison.moved
    ]
    heads = ["question", "base", "candidate", "difference"]
    title = f"questions that moved most ({comparison.metrics[0].metric})"
    return render_table(heads, rows, format, numeric=range(1, 4), title=title)


def _said_table(comparison: Comparison, base_said: Texts | None, said: Texts | None, format: str) -> str:
    """Both answers and both judgments, a line each; nothing where no texts were written."""
    rows, notes = [], []
    for who, side, texts in zip(("base", "candidate"), comparison.sides, (base_said, said), strict=True):
        if texts is None:
            why = f"{side.place} has no texts" if side.place else "of several checkpoints no texts are shown"
            notes.append(f"{who}: {why}")
    for entry in comparison.moved:
        for who, texts in (("base", base_said), ("candidate", said)):
            for turn in (texts or {}).get(entry.question, []):
                rows += [[entry.question, str(turn.turn), who, *told] for told in _lines(turn)]
    if not rows:
        return render_notes(notes, format)
    title = f"what was said, and how it was graded; up to {_SHOWN} characters, whole by --format json"
    return render_table(["question", "turn", "of", "", "text"], rows, format, numeric=[1], title=title, notes=notes)


def _lines(turn: Turn) -> Iterator[tuple[str, str]]:
    yield "answer", MISSING if turn.answer is None else _cut(turn.answer)
    for judgment in turn.judgments:
        place = "" if judgment.first is None else ", first of two" if judgment.first else ", second of two"
        grade = "not graded" if judgment.score is None else f"graded {judgment.score:g}"
        yield grade + place, _cut(judgment.reply or judgment.reason or MISSING)


def _cut(text: str) -> str:
    """On one line, and not longer than a table bears."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


def _told(side: Side) -> str:
    run: RunInfo = side.run
    name = f"{run.model} ({run.note})" if run.note else run.model
    seeds = "".join(f", {other.run.id}" for other in side.seeds)
    where = f" of {side.place}" if side.place else ""
    return f"{name}, run{'s' if seeds else ''} {run.id}{seeds}{where}"


def interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return MISSING
    return f"{number(low, signed=True)} to {number(high, signed=True)}"


def p_value(value: float | None) -> str:
    if value is None:
        return MISSING
    return "<0.001" if value < 0.001 else f"{value:.3f}"
