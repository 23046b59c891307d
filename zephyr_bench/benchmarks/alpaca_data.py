"""AlpacaEval's files of outputs: {"instruction", "output", "generator", "dataset"}, a JSON list or JSON lines.

In: a path. Out: rows, and questions made of them. An instruction is known by its text: the files give it no id, and
versions 1 and 2 ask the same ones.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from zephyr_bench.errors import UserError
from zephyr_bench.file_content import content_of
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Answer, Question
from zephyr_bench.yaml_file import explain, objects_of

_SHOWN = 60  # characters of an instruction in a message


class OutputRow(BaseModel):
    """A model's output for one instruction."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    instruction: str
    output: str
    generator: str = ""
    dataset: str = ""


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number from 1, object) of each row; the file may be gzipped. Raises UserError naming file and row."""
    content = content_of(path).removeprefix(codecs.BOM_UTF8)
    if _is_one_object(content):
        raise UserError(f"{path}: holds one JSON object; expected a list of rows, or JSON lines with a row on each.")
    if not content.lstrip().startswith(b"["):
        yield from objects_of(content.split(b"\n"), path)
        return
    try:
        rows = json.loads(content)
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: malformed JSON: {error}.") from None
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{path} row {number}: expected a JSON object, found {type(row).__name__}.")
        yield number, row


def _is_one_object(content: bytes) -> bool:
    """Rather than JSON lines: one over several lines, or of columns, as pandas's `to_json` writes them."""
    if not content.lstrip().startswith(b"{"):
        return False
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):  # more than one, or broken, which reading by lines tells better
        return False
    return b"\n" in content.strip() or any(isinstance(found.get(key), dict | list) for key in ("instruction", "data"))


def read_outputs(path: Path) -> list[tuple[int, OutputRow]]:
    """Raises UserError naming file, row and key."""
    rows: list[tuple[int, OutputRow]] = []
    for number, row in read_rows(path):
        try:
            rows.append((number, OutputRow.model_validate(row)))
        except ValidationError as error:
            raise UserError(explain(error, OutputRow, {}, f"{path} row {number}")) from None
    if not rows:
        raise UserError(f"{path}: holds no outputs.")
    return rows


def read_baseline(path: Path, baseline: str) -> list[tuple[Question, Answer]]:
    """Each instruction of a file with the baseline's answer. Raises UserError for one that stands there twice."""
    pairs: list[tuple[Question, Answer]] = []
    seen: dict[str, int] = {}
    for number, row in read_outputs(path):
        question = question_of(row.instruction, row.dataset)
        if question.id in seen:
            raise UserError(
                f"{path} row {number}: instruction {told(row.instruction)} stands in row {seen[question.id]} already."
            )
        seen[question.id] = number
        pairs.append((question, baseline_answer(baseline, question, row.output)))
    return pairs


def question_of(instruction: str, dataset: str) -> Question:
    """Its category is the collection that the instruction is from."""
    text = instruction.encode("utf-8", "surrogatepass")
    return Question(hashlib.sha256(text).hexdigest()[:12], dataset, (instruction,))


def baseline_answer(baseline: str, question: Question, output: str) -> Answer:
    key = fingerprint({"baseline": baseline, "turns": question.turns, "output": output})
    return Answer(key, baseline, question.id, 1, output)


def told(instruction: str) -> str:
    """The beginning of an instruction, for a message."""
    line = " ".join(instruction.split())
    return repr(line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…")


def told_some(instructions: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(instructions) - 3} more" if len(instructions) > 3 else ""
    return ", ".join(map(told, instructions[:3])) + more
