"""The rows of FastChat's llm_judge files, as every release wrote them (0.2.14 to 0.2.36 and the forks of these).

- question: `turns`; of the Vicuna benchmark before MT-Bench one `text`.
- answer: `choices` with `index` and `turns`; before that one `text` with `metadata`. `model_id`, or `model`.
- single judgment: `judge` [model, prompt], or a plain name; `turn`, or none and the prompt's name tells it.
- pair judgment: `g1_winner` and `g2_winner`, or the one `winner` that `load_pairwise_model_judgments` reads too; by a
  single-answer judge with `m1_score`, `m2_score` and no turn.

What a row is, its keys say, never the file's name. The whole row is kept beside what is read of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    model_validator,
)

from zephyr_bench.errors import UserError
from zephyr_bench.interop.json_lines import Line, objects_in, read_each_once
from zephyr_bench.yaml_file import explain

_LARGEST = 10**100  # a score may be off the judge's scale, but its square is to be a number
_MULTI_TURN = "-multi-turn"  # ends the names of the prompts that show both turns


def _id_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _name_as_pair(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_number(value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError("expected a number or null")
    if value is not None and abs(value) > _LARGEST:
        raise ValueError("too large a number")
    return None if value is None else float(value)


QuestionId = Annotated[str, BeforeValidator(_id_as_text)]
Judge = Annotated[tuple[str, ...], BeforeValidator(_name_as_pair), Field(min_length=1)]
Turn = Annotated[StrictInt, Field(ge=1)]
Score = Annotated[float | None, BeforeValidator(_as_number)]
Winner = Literal["model_1", "model_2", "tie", "error"]


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class QuestionRow(_Row):
    question_id: QuestionId
    category: str
    turns: tuple[str, ...] = Field((), min_length=1)
    text: str | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> QuestionRow:
        if not self.asked:
            raise ValueError("key 'turns' is missing")
        return self

    @property
    def asked(self) -> tuple[str, ...]:
        return self.turns or (() if self.text is None else (self.text,))


class Choice(_Row):
    index: Annotated[StrictInt, Field(ge=0)] | None = None
    turns: tuple[str, ...] = Field(min_length=1)


class AnswerRow(_Row):
    question_id: QuestionId
    model: str = Field(validation_alias=AliasChoices("model_id", "model"))
    choices: tuple[Choice, ...] | None = Field(None, min_length=1)
    text: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> AnswerRow:
        if self.choices is None and self.text is None:
            raise ValueError("key 'choices' is missing")
        return self

    @property
    def chosen(self) -> list[tuple[int, tuple[str, ...]]]:
        """(number of the choice, its turns) of each. Numbered by place: FastChat's judge is shown the first."""
        if self.choices is None:
            return [(0, (self.text or "",))]
        return [(place, choice.turns) for place, choice in enumerate(self.choices)]


class _JudgedRow(_Row):
    question_id: QuestionId
    judge: Judge
    turn: Turn | None = None

    @property
    def judge_name(self) -> str:
        return self.judge[0]

    @property
    def prompt(self) -> str | None:
        return self.judge[1] if len(self.judge) > 1 else None

    @property
    def judged_turn(self) -> int:
        return self.turn or (2 if (self.prompt or "").endswith(_MULTI_TURN) else 1)


class SingleRow(_JudgedRow):
    model: str = Field(validation_alias=AliasChoices("model", "model_id"))
    score: Score
    judgment: str = ""
    user_prompt: str = ""


class PairRow(_JudgedRow):
    model_1: str
    model_2: str
    g1_winner: Winner | None = None
    g2_winner: Winner | None = None
    winner: Winner | Literal["inconsistent"] | None = None
    g1_judgment: str = ""
    g2_judgment: str = ""
    g1_user_prompt: str = ""

    @model_validator(mode="after")
    def _two_models_and_a_winner(self) -> PairRow:
        if self.model_1 == self.model_2:
            raise ValueError(f"model_1 and model_2 are both '{self.model_1}'")
        if self.winner is None and None in (self.g1_winner, self.g2_winner):
            raise ValueError(f"key '{'g1_winner' if self.g1_winner is None else 'g2_winner'}' is missing")
        return self

    @property
    def winners(self) -> tuple[Winner, Winner] | None:
        """Who won as given, and with the places exchanged; None where all that is told is that they differ."""
        if self.g1_winner is not None and self.g2_winner is not None:
            return self.g1_winner, self.g2_winner
        return None if self.winner is None or self.winner == "inconsistent" else (self.winner, self.winner)


@dataclass(frozen=True)
class Rows:
    """What the files hold, in their order."""

    questions: Sequence[Line[QuestionRow]]
    answers: Sequence[Line[AnswerRow]]
    singles: Sequence[Line[SingleRow]]
    pairs: Sequence[Line[PairRow]]


_KINDS: dict[type[_Row], str] = {
    QuestionRow: "a question (question_id, category, turns)",
    AnswerRow: "an answer (question_id, model_id, choices)",
    SingleRow: "a judgment (question_id, model, judge, score)",
    PairRow: "a judgment of a pair (question_id, model_1, model_2, judge, g1_winner, g2_winner)",
}


def read_rows(paths: Sequence[Path]) -> Rows:
    """All rows of all files. Raises UserError naming file, line and key."""
    found: dict[type[_Row], list[Any]] = {kind: [] for kind in _KINDS}
    for path, content in read_each_once(paths):
        kind: type[_Row] | None = None
        for number, raw in objects_in(content, path):
            place = f"{path} line {number}"
            this = _kind_of(raw, place)
            if kind not in (None, this):
                raise UserError(f"{place}: found {_KINDS[this]}, expected {_KINDS[kind]} as in the lines before.")
            kind = this
            try:
                found[kind].append(Line(place, kind.model_validate(raw), raw))
            except ValidationError as error:
                raise UserError(explain(error, kind, {}, place)) from None
        if kind is None:
            raise UserError(f"{path}: holds no rows; expected {_any_kind()}.")
    return Rows(found[QuestionRow], found[AnswerRow], found[SingleRow], found[PairRow])


def _kind_of(raw: Mapping[str, Any], place: str) -> type[_Row]:
    if "model_1" in raw or "model_2" in raw:
        return PairRow
    if "judge" in raw or "judgment" in raw or "score" in raw:
        return SingleRow
    if "choices" in raw or ("text" in raw and "category" not in raw):
        return AnswerRow
    if "turns" in raw or "category" in raw:
        return QuestionRow
    raise UserError(f"{place}: expected {_any_kind()}, found the keys {', '.join(raw) or '(none)'}.")


def _any_kind() -> str:
    *first, last = _KINDS.values()
    return f"{', '.join(first)} or {last}"
