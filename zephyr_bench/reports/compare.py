"""`compare`: finds the runs that a user means, pairs them by benchmark and judge, prints what changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.reports.comparison import Comparison, MetricChange, Side, compare_sides
from zephyr_bench.reports.counted import value_told
from zephyr_bench.reports.ranking import rivals_told
from zephyr_bench.reports.render import MISSING, number, render_json, render_records, render_table
from zephyr_bench.reports.standings import checkpoint_labels, runs_that_count

if TYPE_CHECKING:
    from zephyr_bench.store import RunInfo, Store

_CSV_COLUMNS = (
    *(
        "benchmark",
        "judge",
        "rivals",
        "base_references",
        "candidate_references",
        "base_model",
        "base_run",
        "candidate_model",
        "candidate_run",
        "metric",
    ),
    *("base", "candidate", "difference", "stderr", "low", "high", "p_value", "n"),
)
_READING = (
    "candidate - base over the same questions; an interval that includes 0 shows no change",
    "each row stands alone: none is adjusted for the number of rows",
)


def render_comparison(store: Store, base: str, candidate: str, *, format: str, benchmark: str | None = None) -> str:
    """Two models (by name) or runs (by id) on every benchmark and judge that both have, as text.

    `format` is table, markdown, csv or json. Raises UserError for an unknown name, or nothing in common.
    """
    runs = store.runs()
    left, notes = find_runs(store, runs, base, benchmark)
    right, more = find_runs(store, runs, candidate, benchmark)
    pairs = _pair(left, right, base, candidate)
    compared = [compare_stored(store, first, second) for first, second in pairs]
    return _render(compared, [*notes, *more], format)


def compare_stored(store: Store, base: RunInfo, candidate: RunInfo) -> Comparison:
    """Raises UserError for runs whose judge was shown different reference answers: their grades don't compare."""
    if not _may_compare(base, candidate):
        raise UserError(
            f"run {base.id} was judged with references {base.references}, run {candidate.id} with "
            f"{candidate.references}: their grades don't compare; judge one of them anew, with --references."
        )
    return compare_sides(_side(store, base), _side(store, candidate))


def _side(store: Store, run: RunInfo) -> Side:
    return Side(run, store.samples_of(run.id), store.scores_of([run.id]).get(run.id, []))


def find_runs(
    store: Store, runs: Sequence[RunInfo], word: str, benchmark: str | None
) -> tuple[list[RunInfo], list[str]]:
    """The runs that count of the model of that name (or name@12ab34cd), or the run of that id; and notes."""
    labels = checkpoint_labels(runs)
    meant = [run for run in runs if word in (run.model, labels[run.model_fingerprint, run.model])]
    if not meant:
        if not any(run.id.startswith(word) for run in runs):
            known = {*labels.values(), *(run.id for run in runs)}
            raise UserError(f"'{word}' is neither a model nor a run of the store.{did_you_mean(word, known)}")
        return [store.run(word)], []
    newest = meant[0]
    notes = []
    if any(run.model_fingerprint != newest.model_fingerprint for run in meant):
        label = labels[newest.model_fingerprint, newest.model]
        notes.append(f"{word} names several checkpoints; the newest, {label}, is compared")
        meant = [run for run in meant if run.model_fingerprint == newest.model_fingerprint]
    counting = [run for run in runs_that_count(meant) if benchmark in (None, run.benchmark)]
    scores = store.scores_of([run.id for run in counting])
    counting = [run for run in counting if scores[run.id]]  # answers alone, imported, compare with nothing
    if not counting:
        what = f" of {benchmark}" if benchmark else ""
        raise UserError(f"model {word} has no complete run{what}; evaluate it first, or name a run's id.")
    return counting, notes


def _pair(
    left: Sequence[RunInfo], right: Sequence[RunInfo], base: str, candidate: str
) -> list[tuple[RunInfo, RunInfo]]:
    """Runs of the same benchmark and judge; two single runs of one benchmark even where judges differ."""
    pairs = [(a, b) for a in left for b in right if _graded_alike(a, b) and _may_compare(a, b)]
    alone = len(left) == len(right) == 1
    if not pairs and alone and (left[0].benchmark, left[0].rivals) == (right[0].benchmark, right[0].rivals):
        pairs = [(left[0], right[0])]
    if not pairs:
        has = [", ".join(sorted({_graded(run) for run in side})) for side in (left, right)]
        raise UserError(
            f"nothing to compare: {base} has {has[0]}, {candidate} has {has[1]}; "
            f"evaluate both on one benchmark with one judge."
        )
    return sorted(pairs, key=lambda pair: (pair[0].benchmark, pair[0].judge or "", pair[0].id))


def _graded_alike(a: RunInfo, b: RunInfo) -> bool:
    return (a.benchmark, a.judge, a.rivals) == (b.benchmark, b.judge, b.rivals)


def _may_compare(a: RunInfo, b: RunInfo) -> bool:
    """False where both are known to be judged with reference answers, and with other ones."""
    return None in (a.references, b.references) or a.references == b.references


def _graded(run: RunInfo) -> str:
    told = [f"against {rivals_told(run.rivals)}"] if run.rivals else []
    told += [f"by {run.judge}"] if run.judge else []
    told += [f"with references {run.references}"] if run.references else []
    return " ".join([run.benchmark, *told])


def _render(compared: Sequence[Comparison], notes: Sequence[str], format: str) -> str:
    if format == "json":
        return render_json([as_json(entry, notes) for entry in compared])
    if format == "csv":
        rows = [_csv_row(entry, change) for entry in compared for change in entry.metrics]
        return render_records(rows, _CSV_COLUMNS, format)
    return "\n".join(_for_people(entry, notes, format) for entry in compared)


def as_json(comparison: Comparison, notes: Sequence[str] = ()) -> dict[str, Any]:
    base, candidate = comparison.base, comparison.candidate
    return {
        "benchmark": base.benchmark,
        "judge": base.judge,
        "rivals": list(base.rivals),
        "base": _named(base),
        "candidate": _named(candidate),
        "metrics": [{"metric": change.metric, **_numbers(change)} for change in comparison.metrics],
        "moved": [asdict(entry) for entry in comparison.moved],
        "notes": [*notes, *comparison.notes],
    }


def _named(run: RunInfo) -> dict[str, Any]:
    return {"model": run.model, "run": run.id, **({"references": run.references} if run.references else {})}


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
    }


def _for_people(comparison: Comparison, notes: Sequence[str], format: str) -> str:
    base, candidate = comparison.base, comparison.candidate
    title = f"{_graded(base)}: {_told(base)} against {_told(candidate)}"
    heads = ["metric", "base", "candidate", "difference", "95 % interval", "p", "pairs"]
    cells = [
        [
            change.metric,
            value_told(change.metric, change.base),
            value_told(change.metric, change.candidate),
            number(change.difference.value, signed=True),
            interval(change.difference.low, change.difference.high),
            p_value(change.difference.p_value),
            str(change.difference.n),
        ]
        for change in comparison.metrics
    ]
    text = render_table(
        heads, cells, format, numeric=range(1, 7), title=title, notes=[*_READING, *notes, *comparison.notes]
    )
    if not comparison.moved:
        return text
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
    return text + "\n" + render_table(heads, rows, format, numeric=range(1, 4), title=title)


def _told(run: RunInfo) -> str:
    name = f"{run.model} ({run.note})" if run.note else run.model
    return f"{name}, run {run.id}"


def interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return MISSING
    return f"{number(low, signed=True)} to {number(high, signed=True)}"


def p_value(value: float | None) -> str:
    if value is None:
        return MISSING
    return "<0.001" if value < 0.001 else f"{value:.3f}"
