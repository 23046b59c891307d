"""What a row of training data must be, in the alignment handbook's formats, and what it becomes.

    dialogues: {"messages": [{"role", "content"}, ...]}
    prompts:   {"prompt": "...", "id", "category", "checks": [...]}   (the last three optional)
    pairs:     {"prompt": "...", "chosen": [messages], "rejected": [messages]}; the sides are whole chats, or
               only the last answer where `prompt` is a list of messages, or plain text; for loss selm also
               "sampled", an answer of the model that training starts from
Raises UserError naming a row's place and key. Reads no file (reading.py does), knows no tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zephyr_bench.errors import UserError
from zephyr_bench.expectations import parse_checks
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Message, Question
from zephyr_bench.yaml_file import explain


@dataclass(frozen=True)
class Dialogue:
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Pair:
    """One prompt (a chat that ends with the user) and two answers to it; `sampled` is one of the reference's own."""

    id: str
    prompt: tuple[Message, ...]
    chosen: Message
    rejected: Message
    sampled: Message | None = None

    @property
    def answers(self) -> tuple[Message, ...]:
        return (self.chosen, self.rejected, *([self.sampled] if self.sampled else []))


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "user", "assistant"]
    content: str

    def plain(self) -> Message:
        return {"role": self.role, "content": self.content}


class _DialogueRow(BaseModel):
    model_config = ConfigDict(extra="ignore")
    messages: list[_Message] = Field(min_length=2)


class _PromptRow(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)
    prompt: str = Field(min_length=1)
    id: str | None = None
    category: str = ""
    checks: list[dict[str, Any]] = Field(default_factory=list)


class _PairRow(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)
    prompt_id: str | None = None
    prompt: str | list[_Message]
    chosen: str | list[_Message] = Field(min_length=1)
    rejected: str | list[_Message] = Field(min_length=1)
    sampled: str | list[_Message] | None = Field(None, min_length=1)


RowModel = TypeVar("RowModel", bound=BaseModel)


def checked(content: Mapping[str, Any], model: type[RowModel], place: str) -> RowModel:
    """A row as a pydantic model. Raises UserError naming its place and key."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError(explain(error, model, {}, place)) from None


def dialogue_of(content: Mapping[str, Any], place: str) -> Dialogue:
    row = checked(content, _DialogueRow, place)
    if not any(message.role == "assistant" for message in row.messages):
        raise UserError(f"{place}: no message of the assistant to learn from.")
    return Dialogue(tuple(message.plain() for message in row.messages))


def prompt_of(content: Mapping[str, Any], place: str) -> Question:
    """As a one-turn question; one without an id gets its content's hash."""
    row = checked(content, _PromptRow, place)
    try:
        parse_checks(row.checks)
    except ValidationError as error:
        raise UserError(explain(error, _PromptRow, {}, f"{place}, checks")) from None
    return Question(row.id or fingerprint(row.prompt), row.category, (row.prompt,), checks=(tuple(row.checks),))


def pair_of(content: Mapping[str, Any], place: str) -> Pair:
    row = checked(content, _PairRow, place)
    start = _chat(row.prompt, "user")
    chosen, rejected = _chat(row.chosen, "assistant"), _chat(row.rejected, "assistant")
    before, other = (side[:-1] for side in (chosen, rejected))
    if before != other:
        raise UserError(f"{place}: chosen and rejected answer different chats.")
    # the handbook's `prompt` repeats the first user message of both sides
    prompt = before or start
    for key, side in (("chosen", chosen), ("rejected", rejected)):
        if side[-1]["role"] != "assistant":
            raise UserError(f"{place}: {key} ends with a message of the {side[-1]['role']}, not the assistant.")
    if chosen[-1]["content"].strip() == rejected[-1]["content"].strip():
        raise UserError(f"{place}: chosen and rejected are the same text; remove the pair, it teaches nothing.")
    if not prompt or prompt[-1]["role"] != "user":
        raise UserError(f"{place}: prompt must be text, or a chat that ends with the user.")
    id = row.prompt_id or fingerprint([prompt, chosen[-1], rejected[-1]])
    sampled = _chat(row.sampled, "assistant")[-1] if row.sampled else None
    return Pair(id, prompt, chosen[-1], rejected[-1], sampled)


def _chat(value: str | list[_Message], role: Literal["user", "assistant"]) -> tuple[Message, ...]:
    if isinstance(value, str):
        return ({"role": role, "content": value},)
    return tuple(message.plain() for message in value)
