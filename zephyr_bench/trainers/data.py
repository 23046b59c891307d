"""Training data at the door: dialogues, prompts and preference pairs in the alignment handbook's formats.

    dialogues: {"messages": [{"role", "content"}, ...]}
    prompts:   {"prompt": "...", "id", "category", "checks": [...]}   (the last three optional)
    pairs:     {"prompt": "...", "chosen": [messages], "rejected": [messages]}; the sides are whole chats, or
               only the last answer where `prompt` is a list of messages, or plain text; for loss selm also
               "sampled", an answer of the model that training starts from
Read from JSON lines, parquet or the hub. Raises UserError naming file, row and key. Knows no tokenizer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zephyr_bench.errors import UserError, first_line
from zephyr_bench.expectations import parse_checks
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.recipe import DataSource, Recipe
from zephyr_bench.records import Message, Question
from zephyr_bench.yaml_file import explain, read_jsonl


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


Row = TypeVar("Row", bound=BaseModel)


def read_dialogues(source: DataSource, *, recipe: Recipe) -> list[Dialogue]:
    dialogues = []
    for place, row in _checked(source, recipe, _DialogueRow):
        if not any(message.role == "assistant" for message in row.messages):
            raise UserError(f"{place}: no message of the assistant to learn from.")
        dialogues.append(Dialogue(tuple(message.plain() for message in row.messages)))
    return _not_empty(dialogues, source, recipe)


def read_prompts(source: DataSource, *, recipe: Recipe) -> list[Question]:
    """As one-turn questions; one without an id gets its content's hash."""
    prompts: dict[str, Question] = {}
    for place, row in _checked(source, recipe, _PromptRow):
        try:
            parse_checks(row.checks)
        except ValidationError as error:
            raise UserError(explain(error, _PromptRow, {}, f"{place}, checks")) from None
        id = row.id or fingerprint(row.prompt)
        if id in prompts:
            raise UserError(f"{place}: the prompt '{id}' stands twice.")
        prompts[id] = Question(id, row.category, (row.prompt,), checks=(tuple(row.checks),))
    return _not_empty(list(prompts.values()), source, recipe)


def read_pairs(source: DataSource, *, recipe: Recipe) -> list[Pair]:
    """Several pairs of one prompt_id are told apart by #2, #3 and so on."""
    pairs = []
    times: Counter[str] = Counter()
    for place, row in _checked(source, recipe, _PairRow):
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
        content = fingerprint([prompt, chosen[-1], rejected[-1]])
        name = row.prompt_id or content
        times[name] += 1
        id = name if times[name] == 1 else f"{name}#{times[name]}"
        sampled = _chat(row.sampled, "assistant")[-1] if row.sampled else None
        pairs.append(Pair(id, prompt, chosen[-1], rejected[-1], sampled))
    return _not_empty(pairs, source, recipe)


def _chat(value: str | list[_Message], role: Literal["user", "assistant"]) -> tuple[Message, ...]:
    if isinstance(value, str):
        return ({"role": role, "content": value},)
    return tuple(message.plain() for message in value)


def _checked(source: DataSource, recipe: Recipe, model: type[Row]) -> Iterator[tuple[str, Row]]:
    for number, (place, row) in enumerate(_rows(source, recipe)):
        if source.limit is not None and number == source.limit:
            return
        try:
            yield place, model.model_validate(row)
        except ValidationError as error:
            raise UserError(explain(error, model, {}, place)) from None


def _rows(source: DataSource, recipe: Recipe) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, row) of each."""
    if source.hub is not None:
        yield from _hub_rows(source.hub, source.split)
        return
    assert source.file is not None
    path = recipe.resolve(source.file)
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    for line, row in read_jsonl(path):
        yield f"{path} line {line}", row


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: can't be read as parquet: {str(error).splitlines()[0]}.") from None
    number = 0
    with file:
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{path} row {number}", row


def _hub_rows(name: str, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    import datasets

    try:
        loaded = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, RuntimeError) as error:  # what datasets and the hub's client raise
        reason = first_line(error)
        raise UserError(f"data set {name}, split {split}, can't be loaded from the hub: {reason}") from None
    for number, row in enumerate(loaded, start=1):
        yield f"{name} ({split}) row {number}", row


Item = TypeVar("Item")


def _not_empty(items: list[Item], source: DataSource, recipe: Recipe) -> list[Item]:
    if not items:
        where = recipe.resolve(source.file) if source.file else source.where
        raise UserError(f"{where}: holds no rows; expected at least one.")
    return items
