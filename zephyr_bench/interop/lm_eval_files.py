"""lm-eval's files as every release wrote them (0.3, 0.4 to 0.4.13): what each is, its content says, never its name.

- results: one object with `results`, metrics by task (0.4: loggers/evaluation_tracker.py, `save_results_aggregated`);
- samples: objects with `doc_id`, a line each, a row for each document and filter (`save_results_samples`); the first
  releases of 0.4 wrote a list of them. One file holds one task; of which one and of which model, no row says.

NaN and infinities, which lm-eval writes and JSON doesn't have, stand for what is missing: they become null here, and so
do numbers beyond floats.
Of a row that scores given texts the texts are let go at once: many-shot prompts make such files hundreds of MB.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, ValidationError

from zephyr_bench.errors import UserError
from zephyr_bench.file_content import content_of
from zephyr_bench.interop.lm_eval_texts import is_generated
from zephyr_bench.yaml_file import explain, objects_of

_EXPECTED = "expected lm-eval's results (an object with 'results') or samples (lines with 'doc_id')"
_HASHES = ("doc_hash", "prompt_hash", "target_hash")
# of a row, what is no metric
_FIXED = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", *_HASHES}


def _null_as_empty(value: Any) -> Any:
    return {} if value is None else value


ByTask = Annotated[dict[str, Any], BeforeValidator(_null_as_empty)]


class ResultsFields(BaseModel):
    """What is read of a results file; which of them it has, `model_fields_set` tells."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    results: dict[str, dict[str, Any]]
    config: ByTask = {}
    configs: Annotated[dict[str, dict[str, Any]], BeforeValidator(_null_as_empty)] = {}
    shots: ByTask = Field({}, alias="n-shot")
    rows: Annotated[dict[str, dict[str, Any]], BeforeValidator(_null_as_empty)] = Field({}, alias="n-samples")
    group_subtasks: Annotated[dict[str, list[str]], BeforeValidator(_null_as_empty)] = {}
    groups: ByTask = {}
    task_hashes: ByTask = {}
    samples: Annotated[dict[str, list[dict[str, Any]]], BeforeValidator(_null_as_empty)] = {}
    model_name: str | None = None
    lm_eval_version: str | None = None
    transformers_version: str | None = None
    chat_template: Any = None
    fewshot_as_multiturn: bool | None = None
    system_instruction: str | None = None
    zephyr_bench: ByTask = {}  # in files that we exported


class RowFields(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    doc_id: StrictInt
    filter: str | None = None
    metrics: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ResultsFile:
    path: Path
    fields: ResultsFields
    raw: Mapping[str, Any]  # without samples


@dataclass(frozen=True)
class SampleRow:
    place: str
    doc_id: int
    filter: str | None  # early releases don't tell it
    values: Mapping[str, Any]  # by metric
    generated: Mapping[str, Any] | None  # the whole row, of one that reads a text which the model wrote


@dataclass(frozen=True)
class SamplesFile:
    path: Path
    rows: Sequence[SampleRow]
    digest: str  # of the content
    task_hash: str | None  # as results tell it; None where rows have no hashes
    task: str | None = None  # known where the rows stood within results


def read_lm_eval_files(paths: Sequence[Path]) -> tuple[list[ResultsFile], list[SamplesFile]]:
    """All results, the same once, and all samples: the same ones may be of two models.

    Raises UserError naming file, line and key.
    """
    results: dict[str, ResultsFile] = {}
    samples: dict[Path, SamplesFile] = {}
    for path in paths:
        content = content_of(path)
        digest = hashlib.sha256(content).hexdigest()
        if digest in results or path in samples:
            continue
        found = _value_or_lines(content, path)
        if isinstance(found, dict) and "results" in found:
            results[digest] = _results(found, path)
        else:
            samples[path] = _samples(found, path, digest)
    return list(results.values()), list(samples.values())


def within(file: ResultsFile) -> list[SamplesFile]:
    """The samples that stand in a results file, as simple_evaluate returns them."""
    found = []
    for task, rows in file.fields.samples.items():
        numbered = [(f"{file.path} samples.{task} row {number}", row) for number, row in enumerate(rows, 1)]
        made = _rows(numbered, file.path)
        found.append(SamplesFile(file.path, made, f"{file.path}/{task}", None, task))
    return found


def _value_or_lines(content: bytes, path: Path) -> Any:
    """The file's one JSON value, or the numbered objects of its lines."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path} line {line}: is not UTF-8 text.") from None
    try:
        return _parsed(text)
    except json.JSONDecodeError as error:
        if not _begins_with_a_line_of_json(text):
            raise UserError(
                f"{path} line {error.lineno}: malformed JSON: {error.msg} at column {error.colno}; {_EXPECTED}."
            ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: malformed JSON: {error}.") from None
    return [(f"{path} line {number}", row) for number, row in objects_of(content.split(b"\n"), path, parse=_parsed)]


def _begins_with_a_line_of_json(text: str) -> bool:
    try:
        _parsed(text.lstrip().split("\n", 1)[0])
    except (ValueError, RecursionError):
        return False
    return True


def _parsed(text: str) -> Any:
    return json.loads(text, parse_constant=lambda _: None, parse_float=_finite, parse_int=_within_floats)


def _finite(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None


def _within_floats(digits: str) -> int | None:
    return int(digits) if math.isfinite(float(digits)) else None


def _results(raw: dict[str, Any], path: Path) -> ResultsFile:
    try:
        fields = ResultsFields.model_validate(raw)
    except ValidationError as error:
        raise UserError(explain(error, ResultsFields, {}, str(path))) from None
    return ResultsFile(path, fields, {key: value for key, value in raw.items() if key != "samples"})


def _samples(found: Any, path: Path, digest: str) -> SamplesFile:
    if isinstance(found, dict):
        found = [(f"{path} line 1", found)]
    elif not isinstance(found, list) or not found:
        raise UserError(f"{path}: {_EXPECTED}, found {'no rows' if found == [] else type(found).__name__}.")
    elif not isinstance(found[0], tuple):  # a list, which JSON has no tuples in
        found = [(f"{path} row {number}", row) for number, row in enumerate(found, start=1)]
    return SamplesFile(path, _rows(found, path), digest, _task_hash(row for _, row in found))


def _rows(numbered: Sequence[tuple[str, Any]], path: Path) -> list[SampleRow]:
    rows = []
    for place, raw in numbered:
        if not isinstance(raw, dict) or "doc_id" not in raw:
            keys = (", ".join(map(str, raw)) or "no keys") if isinstance(raw, dict) else type(raw).__name__
            raise UserError(f"{place}: {_EXPECTED}, found {keys}.")
        try:
            fields = RowFields.model_validate(raw)
        except ValidationError as error:
            raise UserError(explain(error, RowFields, {}, place)) from None
        names = fields.metrics if fields.metrics is not None else [key for key in raw if key not in _FIXED]
        values = {name: raw[name] for name in names if name in raw}
        rows.append(SampleRow(place, fields.doc_id, fields.filter, values, raw if is_generated(raw) else None))
    return rows


def _task_hash(rows: Any) -> str | None:
    digest = hashlib.sha256()
    for row in rows:
        hashes = [row.get(name) for name in _HASHES]
        if not all(isinstance(value, str) for value in hashes):
            return None
        digest.update("".join(hashes).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
