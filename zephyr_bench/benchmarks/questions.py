"""Question files: our own JSON lines, and FastChat's with its reference answers.

Ours: {"id", "category", "turns": [...], "reference": [...], "checks": [[...], ...], "output": "..."}.
FastChat's: {"question_id", "category", "turns"}; references lie in a file of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from zephyr_bench.errors import UserError
from zephyr_bench.expectations import parse_checks
from zephyr_bench.records import Question
from zephyr_bench.yaml_file import explain, read_jsonl_as


class QuestionRow(BaseModel):
    """One line of a question file."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)

    id: str = Field(validation_alias=AliasChoices("id", "question_id"))
    category: str
    turns: tuple[str, ...] = Field(min_length=1)
    reference: tuple[str, ...] = ()
    checks: tuple[tuple[dict[str, Any], ...], ...] = ()
    output: str | None = None  # the baseline's answer to a one-turn instruction

    @model_validator(mode="after")
    def _a_list_per_turn(self) -> QuestionRow:
        if any(not turn.strip() for turn in self.turns):
            raise ValueError("a turn is empty")
        if self.checks and len(self.checks) != len(self.turns):
            raise ValueError(f"{len(self.turns)} turns but {len(self.checks)} lists of checks")
        return self


class _ReferenceChoice(BaseModel):
    turns: tuple[str, ...]


class ReferenceRow(BaseModel):
    """One line of FastChat's reference_answer files."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    question_id: str
    choices: tuple[_ReferenceChoice, ...] = Field(min_length=1)


def read_questions(path: Path) -> list[tuple[QuestionRow, Question]]:
    """The questions of a file, in its order. Raises UserError naming file, line and key."""
    rows: list[tuple[QuestionRow, Question]] = []
    seen: dict[str, int] = {}
    for line, row in read_jsonl_as(path, QuestionRow):
        if row.id in seen:
            raise UserError(f"{path} line {line}: id '{row.id}' stands in line {seen[row.id]} already.")
        seen[row.id] = line
        for turn, checks in enumerate(row.checks, start=1):
            try:
                parse_checks(checks)
            except ValidationError as error:
                source = f"{path} line {line}, checks of turn {turn}"
                raise UserError(explain(error, QuestionRow, {}, source)) from None
        rows.append((row, Question(row.id, row.category, row.turns, row.reference, row.checks)))
    if not rows:
        raise UserError(f"{path}: holds no questions.")
    return rows


def with_references(questions: Sequence[Question], path: Path) -> list[Question]:
    """The questions with the reference answers of a FastChat file, and no others.

    FastChat's question file has notes of its own under `reference`, which it shows to no judge.
    """
    references = {row.question_id: row.choices[0].turns for _, row in read_jsonl_as(path, ReferenceRow)}
    return [replace(question, reference=references.get(question.id, ())) for question in questions]
