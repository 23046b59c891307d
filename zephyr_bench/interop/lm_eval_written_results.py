"""lm-eval's results for what the store holds of a run. Pure: values in, plain JSON objects out.

Results that were read come out as they were read. Of a run made here the numbers are means over its rows under
lm-eval's names, with the errors that lm-eval tells; left out is what a task's own code declares, and its version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from zephyr_bench.benchmarks.lm_eval_index import look_up
from zephyr_bench.benchmarks.open_llm_scores import rules_of
from zephyr_bench.errors import UserError
from zephyr_bench.interop.lm_eval_names import NO_FILTER, Label, keys_of, split_key
from zephyr_bench.interop.lm_eval_plan import IMPORTED, RESULTS
from zephyr_bench.interop.lm_eval_written_rows import Labels, Values, documents_of
from zephyr_bench.interop.stored_run import Row, StoredRun
from zephyr_bench.records import SampleScore
from zephyr_bench.stats.means import mean_stderr

_NO_STDERR = "N/A"  # lm-eval's word


def check_kind(run: StoredRun) -> None:
    """Raises UserError for a run that is of none of lm-eval's tasks, or not complete."""
    info = run.info
    if not rules_of(info.protocol):
        raise UserError(f"run {info.id} is of {info.benchmark}, and lm-eval's files hold runs of its own tasks only.")
    if info.status != "complete":
        raise UserError(f"run {info.id} is {info.status}; only a complete one has scores to export.")


def results_of(run: StoredRun) -> list[Row]:
    """One object a results file."""
    read: list[Row] = run.info.environment.get(RESULTS, [])
    return [_as_read(results) for results in read] or [_made_here(run)]


def _as_read(results: Row) -> Row:
    """But for a standard error that was NaN or null, which lm-eval's table takes as its N/A alone."""
    tasks = {
        task: {key: _NO_STDERR if value is None and split_key(key).is_error else value for key, value in told.items()}
        for task, told in results["results"].items()
    }
    return {**results, "results": tasks}


def time_of(run: StoredRun, results: Row) -> datetime:
    """When it was begun; before 0.4 no file tells that, and then when it was imported."""
    try:
        return datetime.fromtimestamp(results["date"], UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):  # no date, or none that can be
        return datetime.fromisoformat(run.info.created)


@dataclass(frozen=True)
class _Measured:
    """A task's number of one metric, over its rows or their parts."""

    value: float | None
    stderr: float | str
    rows: int


def _made_here(run: StoredRun) -> Row:
    info, labels = run.info, Labels(run)
    entry = labels.entry
    measured = {leaf: _measured(documents.values()) for leaf, documents in documents_of(run).items()}
    shots = {leaf: entry(leaf)["shots"] for leaf in measured if entry(leaf).get("shots") is not None}
    groups = _groups(run, measured)
    tasks = {leaf: _figures(leaf, numbers) for leaf, numbers in measured.items()}
    asked = {key: info.protocol[key] for key in ("limit", "gen_kwargs", "fewshot_seed") if key in info.protocol}
    return {
        "results": {**groups, **tasks},
        **({"groups": groups} if groups else {}),
        "group_subtasks": {name: [leaf for leaf in measured if entry(leaf)["task"] == name] for name in groups},
        "configs": {leaf: _config(entry(leaf), leaf, numbers) for leaf, numbers in measured.items()},
        "versions": {},
        "n-shot": shots,
        "higher_is_better": {leaf: {metric: True for metric, _ in numbers} for leaf, numbers in measured.items()},
        "n-samples": {leaf: _counts(info.protocol, tasks[leaf]["sample_len"]) for leaf in measured},
        "config": asked,
        "date": datetime.fromisoformat(info.created).timestamp(),
        **_told_of_the_run(run),
        "zephyr_bench": {"benchmark": info.benchmark, "run": info.id},
    }


def _measured(documents: Iterable[Values]) -> dict[Label, _Measured]:
    values: dict[Label, list[SampleScore]] = {}
    for document in documents:
        for label, samples in document.items():
            values.setdefault(label, []).extend(samples)
    found = {}
    for label, samples in values.items():
        graded = [sample.value for sample in samples if sample.value is not None]
        mean, stderr = mean_stderr(graded)
        whole = all(sample.turn == 0 for sample in samples)  # of a row's parts lm-eval tells no error
        rows = len({sample.question for sample in samples if sample.value is not None})
        found[label] = _Measured(mean, stderr if whole and stderr is not None else _NO_STDERR, rows)
    return found


def _figures(name: str, numbers: Mapping[Label, _Measured]) -> Row:
    found: Row = {"name": name, "alias": name, "sample_len": max(number.rows for number in numbers.values())}
    for label, number in numbers.items():
        key, its_error = keys_of(label)
        found |= {key: number.value, its_error: number.stderr}
    return found


def _groups(run: StoredRun, measured: Mapping[str, Mapping[Label, _Measured]]) -> dict[str, Row]:
    """Whole groups of the run that lm-eval gives numbers of their own: over rows, or over tasks."""
    found: dict[str, Row] = {}
    for entry in run.info.protocol["tasks"]:
        name = entry["task"]
        known = look_up(name)
        named = known.found(name) if known else ()
        if len(named) != 1 or named[0].name != name or {leaf.name for leaf in named[0].leaves} - measured.keys():
            continue
        members = [measured[leaf.name] for leaf in named[0].leaves]
        if len(members) > 1:
            labels = [label for label in members[0] if all(label in member for member in members)]
            numbers = {label: _pooled([m[label] for m in members], by_rows=named[0].pooled) for label in labels}
            found[name] = _figures(name, numbers)
    return found


def _pooled(parts: Sequence[_Measured], *, by_rows: bool) -> _Measured:
    rows = sum(part.rows for part in parts)
    if any(part.value is None for part in parts):
        return _Measured(None, _NO_STDERR, rows)
    weights = [part.rows if by_rows else 1 for part in parts]
    mean = sum((part.value or 0.0) * weight for part, weight in zip(parts, weights, strict=True)) / sum(weights)
    return _Measured(mean, _NO_STDERR, rows)


def _config(entry: Mapping[str, Any], leaf: str, numbers: Mapping[Label, _Measured]) -> Row:
    filters = [{"name": extraction} for extraction in dict.fromkeys(label[1] for label in numbers)]
    return {
        "task": leaf,
        **({"num_fewshot": entry["shots"]} if entry.get("shots") is not None else {}),
        "metric_list": [{"metric": metric} for metric in dict.fromkeys(label[0] for label in numbers)],
        **({"filter_list": filters} if filters != [{"name": NO_FILTER}] else {}),
    }


def _counts(protocol: Mapping[str, Any], rows: int) -> Row:
    """How many there were to choose from is known where nothing limited them."""
    whole = "limit" in protocol and protocol["limit"] is None
    return {**({"original": rows} if whole else {}), "effective": rows}


def _told_of_the_run(run: StoredRun) -> Row:
    protocol, environment = run.info.protocol, run.info.environment
    found: Row = {"model_name": run.info.model}
    if environment.get("imported") != IMPORTED:
        found["model_source"] = "zephyr-bench"
    if "lm_eval" in protocol:
        found["lm_eval_version"] = protocol["lm_eval"]
    if "transformers" in environment:
        found["transformers_version"] = environment["transformers"]
    if "chat_template" in protocol:
        # lm-eval's null where there was none, and its empty text where it doesn't see which
        found["chat_template"] = "" if protocol["chat_template"] else None
        found["fewshot_as_multiturn"] = protocol.get("fewshot_as_multiturn", bool(protocol["chat_template"]))
    if "system_instruction" in protocol:
        found["system_instruction"] = protocol["system_instruction"]
    return found
