"""A results file of lm-eval as this package reads it: its model, how it was asked, and numbers by task.

In: a file's fields. Out: names since 0.4 (lm_eval_names.py), shares from 0 to 1. Groups are left aside: their numbers
come of their tasks', by rules that a benchmark has of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import canonical_json
from zephyr_bench.interop.lm_eval_files import ResultsFields, ResultsFile
from zephyr_bench.interop.lm_eval_names import Label, keys_of, label_of_0_4, label_since_0_4, split_key, task_since_0_4

_BEFORE_0_4 = "before 0.4"  # a release that old doesn't tell its number
# where a model's name may stand in model_args, the most telling first (0.4.13, GeneralConfigTracker)
_NAMED_BY = ("peft", "delta", "pretrained", "model", "path", "engine")
# of model_args, what moves a number by rounding at most
_MACHINE = {"batch_size", "max_batch_size", "device", "parallelize", "device_map", "tensor_parallel_size"} | {
    "data_parallel_size",
    "gpu_memory_utilization",
    "num_concurrent",
}
_NO_NUMBER = "N/A"


@dataclass(frozen=True)
class Figure:
    """lm-eval's mean over a task's rows, a share; None where it is not a number."""

    value: float | None
    stderr: float | None


@dataclass(frozen=True)
class LeafResults:
    """One task's."""

    file: Path
    name: str  # in the file
    shots: int | None
    rows: int | None  # that were asked
    told: Mapping[Label, tuple[Any, Any]]  # value and standard error as they stand there
    filters: tuple[str, ...]  # in lm-eval's order

    def figure(self, label: Label) -> Figure:
        """Raises UserError for a metric that isn't there, or no number."""
        if label not in self.told:
            known = ", ".join(",".join(other) for other in self.told) or "no metric"
            raise UserError(f"{self.file}: results.{self.name} has no {','.join(label)}, only {known}.")
        value, stderr = self.told[label]
        key, its_error = keys_of(label)
        return Figure(self._number(value, key), self._number(stderr, its_error))

    def _number(self, value: Any, key: str) -> float | None:
        if value is None or value == _NO_NUMBER:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{self.file}: results.{self.name}.{key}: expected a number, found {value!r}.")
        return float(value)


@dataclass(frozen=True)
class Results:
    file: ResultsFile
    model: str
    leaves: Mapping[str, LeafResults]  # by their names since 0.4
    asked: Mapping[str, Any]  # what a run's protocol tells, but for the tasks; unknown fields are absent
    kind: str  # the same in files of one checkpoint, asked alike

    @property
    def path(self) -> Path:
        return self.file.path


def read_results(file: ResultsFile, model: str | None = None) -> Results:
    """`model` is the name where the file tells none. Raises UserError naming the file."""
    fields = file.fields
    groups = {name for name, members in fields.group_subtasks.items() if members} | fields.groups.keys()
    tasks = {name: told for name, told in fields.results.items() if name not in groups}
    old = not any("," in key for told in fields.results.values() for key in told)
    labels = {name: _told(name, told, old) for name, told in tasks.items()}
    leaves = {
        task_since_0_4(name): LeafResults(
            file.path, name, _shots(file, name, old), _rows(fields, name), found, _filters(fields, name, found)
        )
        for name, found in labels.items()
        if found
    }
    if not leaves:
        raise UserError(f"{file.path}: holds no task's results.")
    name = _model(file, model)
    asked = _asked(file, old)
    return Results(file, name, leaves, asked, canonical_json([name, asked, _checkpoint(fields)]))


def _told(name: str, told: Mapping[str, Any], old: bool) -> dict[Label, tuple[Any, Any]]:
    """Value and standard error of each metric."""
    values: dict[Label, Any] = {}
    errors: dict[Label, Any] = {}
    for key, value in told.items():
        metric, extraction, is_error = split_key(key)
        label = label_since_0_4(name, metric) if old else label_of_0_4(name, metric, extraction)
        if label is not None:
            (errors if is_error else values)[label] = value
    return {label: (value, errors.get(label)) for label, value in values.items()}


def _shots(file: ResultsFile, name: str, old: bool) -> int | None:
    fields = file.fields
    found = fields.config.get("num_fewshot") if old else fields.shots.get(name)
    if found is None and not old:
        found = fields.configs.get(name, {}).get("num_fewshot")
        if found is None and name in fields.configs and "num_fewshot" in fields.configs[name]:
            return 0  # lm-eval's null
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise UserError(f"{file.path}: the number of shots of {name} is {found!r}; expected a number from 0 on.")
    return found


def _rows(fields: ResultsFields, name: str) -> int | None:
    found = fields.rows.get(name, {}).get("effective", fields.results[name].get("sample_len"))
    return found if isinstance(found, int) else None


def _filters(fields: ResultsFields, name: str, labels: Mapping[Label, Any]) -> tuple[str, ...]:
    declared = fields.configs.get(name, {}).get("filter_list") or ()
    names = [entry["name"] for entry in declared if isinstance(entry, dict) and isinstance(entry.get("name"), str)]
    return tuple(dict.fromkeys(names or (extraction for _, extraction in labels)))


def _model(file: ResultsFile, given: str | None) -> str:
    config = file.fields.config
    arguments = _model_args(config)
    by_args = next((str(arguments[key]) for key in _NAMED_BY if arguments.get(key)), None)
    told = file.fields.model_name or by_args or config.get("model")
    if told is not None and not isinstance(told, str):
        raise UserError(f"{file.path}: config.model: expected a name, found {told!r}.")
    if given and told and given != told:
        raise UserError(f"{file.path}: is of model {told}, not of {given}; leave out --model.")
    if not (told or given):
        raise UserError(f"{file.path}: tells no model (model_name, or config.model_args); name it with --model.")
    return told or given or ""


def _model_args(config: Mapping[str, Any]) -> dict[str, Any]:
    given = config.get("model_args")
    if isinstance(given, dict):
        return given
    parts = [part.partition("=") for part in given.split(",")] if isinstance(given, str) else []
    return {key.strip(): value.strip() for key, _, value in parts if key.strip()}


def _checkpoint(fields: ResultsFields) -> dict[str, Any]:
    known = {key: value for key, value in _model_args(fields.config).items() if key not in _MACHINE}
    further = ("model", "model_revision", "model_sha", "model_dtype")
    return {"model_args": known, **{key: fields.config.get(key) for key in further}}


def _asked(file: ResultsFile, old: bool) -> dict[str, Any]:
    fields = file.fields
    there = fields.model_fields_set
    version = fields.lm_eval_version or (_BEFORE_0_4 if old else None)
    found: dict[str, Any] = {"lm_eval": version} if version else {}
    if "chat_template" in there:
        found["chat_template"] = fields.chat_template is not None  # "": a server's own, which lm-eval doesn't see
    if found.get("chat_template") and fields.fewshot_as_multiturn is False:
        found["fewshot_as_multiturn"] = False  # our own runs' chats have their shots as turns
    if "system_instruction" in there:
        found["system_instruction"] = fields.system_instruction or None
    for name in ("gen_kwargs", "fewshot_seed"):
        if name in fields.config:
            value = fields.config[name]
            found[name] = value if value or value == 0 else None  # none, {} and "" are one
    if "limit" in fields.config:
        found["limit"] = _limit(file)
    return found


def _limit(file: ResultsFile) -> int | float | None:
    """lm-eval's own, or where rows were chosen one by one (its --samples) how many of a task at most."""
    limit = file.fields.config["limit"]
    if limit is None:
        chosen = [
            rows["effective"]
            for rows in file.fields.rows.values()
            if isinstance(rows.get("effective"), int)
            and isinstance(rows.get("original"), int)
            and rows["effective"] < rows["original"]
        ]
        return max(chosen, default=None)
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        raise UserError(f"{file.path}: config.limit: expected a number or null, found {limit!r}.")
    return int(limit) if limit == int(limit) else limit
