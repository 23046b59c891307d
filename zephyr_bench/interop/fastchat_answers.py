"""FastChat's answer rows as answers: keyed by model, question, turn and choice, so that judgments find them.

A judgment file alone names answers too: those have no text. What a row says beside its texts is each answer's origin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.interop.fastchat_questions import Questions
from zephyr_bench.interop.fastchat_rows import AnswerRow
from zephyr_bench.interop.imported_runs import Told
from zephyr_bench.interop.json_lines import Line
from zephyr_bench.records import Answer, Question

ORIGIN = "fastchat"  # of an answer or judgment: the row, with None for what is stored beside it
FIRST_CHOICE = "first_choice"  # of an answer: the replicate that its row's choice 0 has


class Answers:
    """The answers of the files, and those that judgments ask for."""

    def __init__(self, lines: Sequence[Line[AnswerRow]], questions: Questions) -> None:
        self._found: dict[str, Told] = {}
        self._by_model: dict[str, dict[str, Told]] = {}
        self.places: dict[str, str] = {}  # by key: where a text stands
        rows: dict[tuple[str, str], list[Line[AnswerRow]]] = {}
        for line in lines:
            rows.setdefault((line.row.model, line.row.question_id), []).append(line)
        for same in rows.values():
            first = 0
            for line in reversed(same):  # FastChat reads a question's last row; earlier ones count as more choices
                self._add(line, questions, first)
                first += max(number for number, _ in line.row.chosen) + 1

    def _add(self, line: Line[AnswerRow], questions: Questions, first: int) -> None:
        model, origin = line.row.model, {ORIGIN: _without_texts(line.raw), FIRST_CHOICE: first}
        for number, texts in line.row.chosen:
            for turn, text in enumerate(texts, start=1):
                question = questions.of(line.row.question_id, turn, line.place)
                answer = _answer(model, question.id, turn, first + number, text, origin)
                self._found[answer.key] = question, answer
                self._by_model.setdefault(model, {})[answer.key] = question, answer
                self.places[answer.key] = line.place

    def models(self) -> list[str]:
        """Those with answer rows, in the files' order."""
        return list(self._by_model)

    def of(self, model: str) -> Mapping[str, Told]:
        """A model's answers of which the files have the text, by key."""
        return self._by_model.get(model, {})

    def judged(self, model: str, question: Question, turn: int) -> tuple[Answer, ...]:
        """The answers of turns 1 to `turn` that FastChat's judge was shown: the first choice's."""
        unknown = (_answer(model, question.id, number, 0, None, None) for number in range(1, turn + 1))
        return tuple(self._found.get(answer.key, (question, answer))[1] for answer in unknown)


def _answer(
    model: str, question: str, turn: int, replicate: int, text: str | None, origin: Mapping[str, Any] | None
) -> Answer:
    what = {"model": model, "question": question, "turn": turn, "replicate": replicate}
    key = fingerprint({"imported": what})
    return Answer(key, model, question, turn, text, replicate=replicate, origin=origin)


def _without_texts(raw: Mapping[str, Any]) -> dict[str, Any]:
    if raw.get("choices") is None:
        return {**raw, "text": None}
    return {**raw, "choices": [{**choice, "turns": [None] * len(choice["turns"])} for choice in raw["choices"]]}
