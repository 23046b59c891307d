"""What the question ids of FastChat's files mean: the questions given beside them, else the benchmark's own.

Also which reference answers a judge was shown, read from its prompts. Reads the benchmark's files only when asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from zephyr_bench.benchmarks.mt_bench import MtBench
from zephyr_bench.errors import UserError
from zephyr_bench.interop.fastchat_rows import QuestionRow
from zephyr_bench.interop.json_lines import Line
from zephyr_bench.records import Question

References = Mapping[str, Mapping[str, tuple[str, ...]]]  # name -> question id -> reference answer of each turn
Shown = tuple[str, int, str]  # question id, turn, the judge's prompt
OTHERS = "others"  # reference answers that the benchmark doesn't know
_WHOLE_NUMBER = re.compile("0|-?[1-9][0-9]{0,17}")


class Questions:
    """By id. They have no references: what a judge was shown is not told by the question."""

    def __init__(self, given: Sequence[Line[QuestionRow]], benchmark: MtBench) -> None:
        self._benchmark = benchmark
        self._given: dict[str, Question] = {}
        self._lines = {line.row.question_id: line for line in given}
        for line in given:
            question = Question(line.row.question_id, line.row.category, line.row.asked)
            if self._given.setdefault(question.id, question) != question:
                raise UserError(f"{line.place}: question '{question.id}' stands twice, with different content.")

    def of(self, id: str, turn: int, place: str) -> Question:
        """The question that a row at `place` speaks of. Raises UserError for one that isn't known."""
        question = self._given.get(id) or self._own(place, id).get(id)
        if question is None:
            raise UserError(
                f"{place}: question '{id}' is none of {self._benchmark.name}'s; give its question.jsonl too."
            )
        if turn > len(question.turns):
            raise UserError(
                f"{place}: turn {turn} of question '{id}', which has {len(question.turns)}; give the question.jsonl "
                "that this file was made with."
            )
        return question

    def beside(self, ids: Collection[str]) -> dict[str, Any]:
        """What the rows of the given file say beside category and turns, by id: a note for the reader, a field of
        someone's own. Turns are left out, unless two questions have the same: the store keeps those once.
        """
        alike = Counter(question.turns for question in self._given.values())
        found: dict[str, Any] = {}
        for id in sorted(self._given.keys() & ids):
            raw, question = self._lines[id].raw, self._given[id]
            plain = {"question_id": as_written(id), "category": question.category, "turns": list(question.turns)}
            if raw != plain or alike[question.turns] > 1:
                found[id] = raw if alike[question.turns] > 1 else {**raw, _text_key(raw): None}
        return found

    def _own(self, place: str, id: str) -> Mapping[str, Question]:
        try:
            return self._benchmarks
        except UserError as error:
            raise UserError(
                f"{place}: question '{id}' needs the questions of {self._benchmark.name}, or a question.jsonl beside "
                f"this file: {error}"
            ) from None

    @cached_property
    def _benchmarks(self) -> dict[str, Question]:
        return {q.id: Question(q.id, q.category, q.turns) for q in self._benchmark.questions}

    @cached_property
    def references(self) -> References:
        """The benchmark's sets of reference answers that are at hand."""
        if self._benchmark.missing():
            return {}
        found: dict[str, Mapping[str, tuple[str, ...]]] = {}
        for name in self._benchmark.reference_names:
            with suppress(UserError):  # absent, or the hub answers but not with this file
                shown = self._benchmark.with_references(name)
                found[name] = {question.id: question.reference for question in shown}
        return found


def references_shown(prompts: Iterable[Shown], references: References) -> str | None:
    """Name of the only set whose answers stand in every prompt that has some; `others` where none does.

    None where several do, or no set is at hand.
    """
    possible = set(references)
    for id, turn, prompt in prompts:
        possible &= {name for name, answers in references.items() if _stand_in(answers.get(id, ())[:turn], prompt)}
    if references and not possible:
        return OTHERS
    return possible.pop() if len(possible) == 1 else None


def _stand_in(answers: Sequence[str], prompt: str) -> bool:
    return bool(answers) and all(answer in prompt for answer in answers)


def as_written(id: str) -> int | str:
    """FastChat's own ids are whole numbers."""
    return int(id) if _WHOLE_NUMBER.fullmatch(id) else id


def by_id(id: str) -> tuple[int, str]:
    """Whole numbers by their size, before other ids."""
    number = as_written(id)
    return (number, "") if isinstance(number, int) else (1 << 63, id)


def _text_key(raw: Mapping[str, Any]) -> str:
    return "turns" if "turns" in raw else "text"
