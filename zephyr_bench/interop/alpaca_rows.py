"""The rows of alpaca_eval's files, as every release wrote them (to 0.6.6).

- annotation: `instruction`, `output_1` and `output_2` of `generator_1` and `generator_2`, `annotator`, `preference`.
  The second is the model; the first is the baseline, alpaca_eval's reference (annotators/pairwise_evaluator.py,
  `annotate_head2head`). The judge's reply stands under one of REPLIES, as text or as the API's object.
- output: `instruction`, `output`, `generator`.

What a row is, its keys say, never the file's name. The whole row is kept beside what is read of it; pandas's NaN is
no JSON and stands for what is missing: it becomes null here, but for the inside of a reply, which is kept as text.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from zephyr_bench.benchmarks.alpaca_data import OutputRow, read_rows
from zephyr_bench.errors import UserError
from zephyr_bench.interop.json_lines import Line, read_each_once
from zephyr_bench.yaml_file import explain

REPLIES = ("raw_completion", "preference_raw_completion")


def _as_preference(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected a number or null")
    if value != 0 and not 1 <= value <= 2:
        raise ValueError("expected 1 (output_1 is better) to 2 (output_2 is), 0 for a draw, or null")
    return float(value)


def _null_as_empty(value: Any) -> Any:
    return "" if value is None else value


def _not_empty(value: str) -> str:
    if not value:
        raise ValueError("expected a name")
    return value


Preference = Annotated[float | None, BeforeValidator(_as_preference)]
Name = Annotated[str, AfterValidator(_not_empty)]  # pydantic's own lengths refuse lone surrogates
Dataset = Annotated[str, BeforeValidator(_null_as_empty)]


class AnnotationRow(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    instruction: str
    output_1: str
    output_2: str
    generator_1: Name
    generator_2: Name
    annotator: Name
    preference: Preference
    dataset: Dataset = ""

    @property
    def baseline(self) -> str:
        return self.generator_1

    @property
    def model(self) -> str:
        return self.generator_2


class GeneratedRow(OutputRow):
    generator: Name
    dataset: Dataset = ""


@dataclass(frozen=True)
class Rows:
    """What the files hold, in their order."""

    annotations: Sequence[Line[AnnotationRow]]
    outputs: Sequence[Sequence[Line[GeneratedRow]]]  # of each file


_KINDS: dict[type[BaseModel], str] = {
    AnnotationRow: "an annotation (instruction, output_1, output_2, generator_1, generator_2, annotator, preference)",
    GeneratedRow: "an output (instruction, output, generator)",
}


def read_alpaca_rows(paths: Sequence[Path]) -> Rows:
    """All rows of all files. Raises UserError naming file, row and key."""
    annotations: list[Line[AnnotationRow]] = []
    outputs: list[list[Line[GeneratedRow]]] = []
    seen: Counter[str] = Counter()
    for path, _ in read_each_once(paths):
        lines = _lines_of(path)
        if isinstance(lines[0].row, AnnotationRow):
            annotations += _new_to(seen, lines)
        else:
            outputs.append(_new_to(seen, lines))
    return Rows(annotations, outputs)


def _new_to(seen: Counter[str], lines: Sequence[Line[Any]]) -> list[Line[Any]]:
    """Without what another file held: a row that stands twice in one file is a repeat, in two files it is the same."""
    here: Counter[str] = Counter()
    new = []
    for line in lines:
        text = json.dumps(line.raw, sort_keys=True)
        here[text] += 1
        if here[text] > seen[text]:
            new.append(line)
    seen |= here  # the larger number of both
    return new


def _lines_of(path: Path) -> list[Line[Any]]:
    found: list[Line[Any]] = []
    kind: type[BaseModel] | None = None
    for number, read in read_rows(path):
        place = f"{path} row {number}"
        this = _kind_of(read, place)
        if kind not in (None, this):
            raise UserError(f"{place}: found {_KINDS[this]}, expected {_KINDS[kind]} as in the rows before.")
        kind = this
        raw = _without_nan(read, place)
        try:
            found.append(Line(place, kind.model_validate(raw), raw))
        except ValidationError as error:
            raise UserError(explain(error, kind, {}, place)) from None
    if not found:
        raise UserError(f"{path}: holds no rows; expected {' or '.join(_KINDS.values())}.")
    return found


def _kind_of(raw: Mapping[str, Any], place: str) -> type[BaseModel]:
    if raw.keys() & {"preference", "output_1", "output_2"}:
        return AnnotationRow
    if "output" in raw:
        return GeneratedRow
    found = ", ".join(raw) or "(none)"
    raise UserError(f"{place}: expected {' or '.join(_KINDS.values())}, found the keys {found}.")


def reply_key(raw: Mapping[str, Any]) -> str | None:
    """Under which key the judge's reply stands."""
    return next((key for key in REPLIES if raw.get(key) is not None), None)


def _without_nan(raw: Mapping[str, Any], place: str) -> dict[str, Any]:
    reply = reply_key(raw)
    try:
        return {
            key: value if key == reply and not isinstance(value, float) else _null_for_nan(value)
            for key, value in raw.items()
        }
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: malformed JSON: {error}.") from None


def _null_for_nan(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, float | dict | list):
        return json.loads(json.dumps(value), parse_constant=_constant)
    return value


def _constant(word: str) -> None:
    if word == "NaN":
        return None
    raise ValueError(f"{word} is not a number that JSON has")
