"""A recipe's training data, read once before any stage: rows chosen, checked and cleaned, and what is not used told.

In: the sources of a recipe. Out: dialogues, prompts and pairs, each with its place, and every row left out with why.
Raises UserError with all bad rows of a stage at once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from zephyr_bench.errors import UserError
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import DataSource, Recipe
from zephyr_bench.records import Message, Question
from zephyr_bench.training_data.cleaning import refusal, true_cased
from zephyr_bench.training_data.data import Dialogue, Pair, dialogue_of, pair_of, prompt_of
from zephyr_bench.training_data.mixing import RawRow, rows_of, where
from zephyr_bench.training_data.ultrafeedback import binarized
from zephyr_bench.written_file import write_text

LEFT_OUT = "left_out.jsonl"
_SHOWN = 10  # bad rows in a message

Item = TypeVar("Item")


@dataclass(frozen=True)
class LeftOut:
    place: str  # of a row: its file and line
    kind: str  # a few words, to count by
    reason: str


@dataclass(frozen=True)
class Rows(Generic[Item]):
    """What is used of some sources, where each stands, and what is not."""

    items: tuple[Item, ...] = ()
    places: tuple[str, ...] = ()  # of the items
    left_out: tuple[LeftOut, ...] = ()
    true_cased: int = 0  # prompts

    def without(self, unwanted: Mapping[int, LeftOut]) -> Rows[Item]:
        """Less the items of these numbers, counted from 0."""
        kept = [number for number in range(len(self.items)) if number not in unwanted]
        return replace(
            self,
            items=tuple(self.items[number] for number in kept),
            places=tuple(self.places[number] for number in kept),
            left_out=(*self.left_out, *unwanted.values()),
        )

    def told(self) -> str:
        """What is to be said of them: '3 rows left out (2 refusal, 1 bad row)'; empty where all is used as it is."""
        kinds = Counter(row.kind for row in self.left_out)
        left_out = f"{len(self.left_out)} rows left out ({', '.join(f'{n} {kind}' for kind, n in kinds.items())})"
        cased = f"{self.true_cased} prompts all in lower case got their capitals"
        return "; ".join([left_out] * bool(kinds) + [cased] * bool(self.true_cased))


@dataclass(frozen=True)
class StageData(Generic[Item]):
    train: Rows[Item]
    held_out: Rows[Item] = Rows()


def read_recipe(recipe: Recipe) -> dict[str, StageData[Any]]:
    """Stage -> its dialogues (dsft, dsft2), prompts (feedback) or pairs (ddpo). Raises UserError."""
    found: dict[str, StageData[Any]] = {}
    for name, dsft in recipe.dsft_stages:
        found[name] = StageData(read_dialogues(*dsft.data, recipe=recipe), _held_out(read_dialogues, dsft, recipe))
    if recipe.feedback:
        prompts = read_prompts(recipe.feedback.prompts, recipe=recipe)
        found["feedback"] = StageData(prompts, _held_out(read_prompts, recipe.feedback, recipe))
    if recipe.ddpo:
        found["ddpo"] = StageData(
            read_pairs(*recipe.ddpo.data, recipe=recipe), _held_out(read_pairs, recipe.ddpo, recipe)
        )
    return found


def _held_out(read: Callable[..., Rows[Item]], stage: Any, recipe: Recipe) -> Rows[Item]:
    return read(stage.held_out, recipe=recipe) if stage.held_out else Rows()


def tell(data: Mapping[str, StageData[Any]], progress: Progress) -> None:
    """Of each stage, what was left out or changed."""
    for stage, rows in data.items():
        for what, part in ((stage, rows.train), (f"{stage}, held out", rows.held_out)):
            if told := part.told():
                progress.say(f"{what}: {told}; {len(part.items)} rows stay")


def write_left_out(folder: Path, data: StageData[Any]) -> None:
    """FOLDER/left_out.jsonl: a line for each row left out; no file where there is none."""
    rows = [*data.train.left_out, *data.held_out.left_out]
    if rows:
        lines = (json.dumps({"row": row.place, "kind": row.kind, "reason": row.reason}) + "\n" for row in rows)
        write_text(folder / LEFT_OUT, "".join(lines))
    else:
        (folder / LEFT_OUT).unlink(missing_ok=True)


def read_dialogues(*sources: DataSource, recipe: Recipe) -> Rows[Dialogue]:
    cased: Counter[str] = Counter()

    def made(source: DataSource, row: RawRow, content: Mapping[str, Any]) -> Dialogue | LeftOut:
        dialogue = dialogue_of(content, row.place)
        if "refusals" in source.clean:
            replies = (refusal(one["content"]) for one in dialogue.messages if one["role"] == "assistant")
            if words := next(filter(None, replies), None):
                return LeftOut(row.place, "refusal", f"a reply says {words!r}")
        if "true-case" in source.clean:
            messages = tuple(map(_true_cased, dialogue.messages))
            cased[row.place] = sum(one != other for one, other in zip(messages, dialogue.messages, strict=True))
            dialogue = Dialogue(messages)
        return dialogue

    return replace(_read(sources, recipe, made), true_cased=cased.total())


def _true_cased(message: Message) -> Message:
    return {**message, "content": true_cased(message["content"])} if message["role"] == "user" else message


def read_prompts(*sources: DataSource, recipe: Recipe) -> Rows[Question]:
    """As one-turn questions, each id once."""
    seen: set[str] = set()

    def made(source: DataSource, row: RawRow, content: Mapping[str, Any]) -> Question:
        prompt = prompt_of(content, row.place)
        if prompt.id in seen:
            raise UserError(f"{row.place}: the prompt '{prompt.id}' stands twice.")
        seen.add(prompt.id)
        return prompt

    return _read(sources, recipe, made)


def read_pairs(*sources: DataSource, recipe: Recipe) -> Rows[Pair]:
    """Several pairs of one prompt_id are told apart by #2, #3 and so on."""
    times: Counter[str] = Counter()

    def made(source: DataSource, row: RawRow, content: Mapping[str, Any]) -> Pair | LeftOut:
        if source.binarize:
            found = binarized(content, row.place, by=source.binarize, seed=recipe.seed)
            if isinstance(found, str):
                return LeftOut(row.place, "no pair", found)
            pair = found
        else:
            pair = pair_of(content, row.place)
        times[pair.id] += 1
        number = times[pair.id]
        return replace(pair, id=pair.id if number == 1 else f"{pair.id}#{number}")

    return _read(sources, recipe, made)


def _read(
    sources: Sequence[DataSource],
    recipe: Recipe,
    made: Callable[[DataSource, RawRow, Mapping[str, Any]], Item | LeftOut],
) -> Rows[Item]:
    items: list[Item] = []
    places: list[str] = []
    left_out: list[LeftOut] = []
    bad: list[tuple[int, int, UserError]] = []  # (source, row, what is wrong)
    for number, source in enumerate(sources):
        before = len(items), len(left_out), len(bad)
        for row in rows_of(source, recipe=recipe):
            try:
                if isinstance(row.content, UserError):
                    raise row.content
                item = made(source, row, row.content)
            except UserError as error:
                if source.bad_rows == "stop":
                    bad.append((number, row.number, error))
                    continue
                item = LeftOut(row.place, "bad row", str(error).removeprefix(f"{row.place}: "))
            if isinstance(item, LeftOut):
                left_out.append(item)
            else:
                items.append(item)
                places.append(row.place)
        if (len(items), len(left_out), len(bad)) == before:
            raise UserError(f"{where(source, recipe)}: holds no rows; expected at least one.")
    if bad:
        raise _all_of(bad)
    if left_out and not items:
        first = left_out[0]
        raise UserError(
            f"{first.place}: {first.reason.rstrip('.')}, and no row of {len(left_out)} is left to learn from."
        )
    return Rows(tuple(items), tuple(places), tuple(left_out))


def _all_of(bad: Sequence[tuple[int, int, UserError]]) -> UserError:
    """One is told as it is; of several the first, by source and line."""
    errors = [error for *_, error in sorted(bad, key=lambda found: found[:2])]
    if len(errors) == 1:
        return errors[0]
    shown = "".join(f"\n  - {error}" for error in errors[:_SHOWN])
    more = f"\n  - and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    return UserError(
        f"{len(errors)} rows are bad; mend them, or have them left out by bad_rows: leave-out:{shown}{more}"
    )
