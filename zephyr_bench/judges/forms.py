"""What a judge by language model is shown, and how its reply is read: a form, filled in for each match.

Two kinds: MT-Bench's published prompts with FastChat's parsing, and templates of a YAML's own. Pure but for reading the
published file. Only the judge's reply is ever parsed, never an answer.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from pydantic import field_validator, model_validator

from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.judges import parsers
from zephyr_bench.judges.prompts import JudgePrompt, prompt_name, read_prompts, render
from zephyr_bench.published_file import PublishedFile
from zephyr_bench.recipe import Entry
from zephyr_bench.records import Answer, GeneratedToken, Generation, Match, Message

LOWEST, HIGHEST = 1.0, 10.0  # of MT-Bench's rating; FastChat would take any number
_FIELD = re.compile(r"\{(\w+)\}")
_MOST_ALTERNATIVES = 20  # of a token; what OpenAI's API gives at most
_UNTOLD = "no probabilities of the verdict were told, or no one token of the judge's reply holds it"

Verdict = tuple[float | None, str | None]
"""(score, why there is none)."""


class Form(Protocol):
    top_logprobs: int
    """Alternatives of each token that `verdict` needs; 0: none."""

    def missing(self) -> str | None: ...

    def unfit(self, *, paired: bool) -> str | None:
        """Why it can't be filled in for pairs, or for single answers."""
        ...

    def fingerprint_parts(self) -> Mapping[str, Any]: ...

    def name(self, match: Match) -> str | None:
        """Of the prompt, where there are several."""
        ...

    def chat(self, match: Match) -> list[Message]: ...

    def verdict(self, match: Match, reply: Generation) -> Verdict: ...


class MtBenchForm:
    """The eight prompts of FastChat's judge_prompts.jsonl."""

    top_logprobs = 0

    def __init__(self, prompts: PublishedFile, reference_categories: tuple[str, ...], folder: Path) -> None:
        self._file = prompts
        self._categories = reference_categories
        self._folder = folder

    def missing(self) -> str | None:
        return self._file.missing(self._folder)

    def unfit(self, *, paired: bool) -> str | None:
        return None

    def fingerprint_parts(self) -> Mapping[str, Any]:
        return {
            "prompts": self._file.sha256 or fingerprint([p.model_dump() for p in self._prompts.values()]),
            "reference_categories": sorted(self._categories),
            "parser": parsers.VERSION,
        }

    @cached_property
    def _prompts(self) -> Mapping[str, JudgePrompt]:
        return read_prompts(self._file.locate(self._folder))

    def name(self, match: Match) -> str | None:
        return prompt_name(match, reference_categories=self._categories)

    def chat(self, match: Match) -> list[Message]:
        return render(self._prompts, match, reference_categories=self._categories)

    def verdict(self, match: Match, reply: Generation) -> Verdict:
        if not reply.text.strip():
            return None, "the judge's reply is empty"
        if match.rival is not None:
            preference = parsers.preference(reply.text)
            return preference, None if preference is not None else "no [[A]], [[B]] or [[C]] in the judge's reply"
        rating = parsers.rating(reply.text)
        if rating is None:
            return None, "no [[rating]] in the judge's reply"
        if not LOWEST <= rating <= HIGHEST:
            return None, f"the rating in the judge's reply is not between {LOWEST:g} and {HIGHEST:g}"
        return rating, None


class Rating(Entry):
    """How one answer's grade is read: the last match of `pattern`, whose group is a number."""

    template: str
    pattern: str
    lowest: float
    highest: float
    expected: bool = False  # the mean over the score token's probabilities, in place of the token that was drawn

    _checked = field_validator("pattern")(lambda value: _pattern(value))


class Choice(Entry):
    """How a preference between two is read: the last match of `pattern`, whose group is one of the words."""

    template: str
    pattern: str
    first: str
    second: str
    tie: str | None = None
    expected: bool = False  # the probability of `first` against `second`, in place of the token that was drawn

    _checked = field_validator("pattern")(lambda value: _pattern(value))


class Templates(Entry):
    """Prompts of the YAML's own. In braces: {instruction} (the whole chat before the answer), {answer}, {answer_a},
    {answer_b}, {reference}, {criteria}."""

    system: str | None = None
    criteria: str = ""
    single: Rating | None = None
    pairwise: Choice | None = None

    @model_validator(mode="after")
    def _knows_its_fields(self) -> Templates:
        if self.single is None and self.pairwise is None:
            raise ValueError("needs single, pairwise or both")
        known = {"instruction", "reference", "criteria"}
        for key, part, own in (
            ("single", self.single, {"answer"}),
            ("pairwise", self.pairwise, {"answer_a", "answer_b"}),
        ):
            for name in _FIELD.findall(part.template) if part else ():
                if name not in known | own:
                    raise ValueError(
                        f"{key}.template: unknown field {{{name}}}; known: {', '.join(sorted(known | own))}"
                    )
        return self


def _pattern(value: str) -> str:
    try:
        groups = re.compile(value).groups
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if groups != 1:
        raise ValueError("needs exactly one group, in parentheses: the verdict")
    return value


class TemplateForm:
    """A YAML's own prompts."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        expected = [part for part in (templates.single, templates.pairwise) if part and part.expected]
        self.top_logprobs = _MOST_ALTERNATIVES if expected else 0

    def missing(self) -> str | None:
        return None

    def unfit(self, *, paired: bool) -> str | None:
        key = "pairwise" if paired else "single"
        return f"the judge's YAML has no templates.{key}" if getattr(self._templates, key) is None else None

    def fingerprint_parts(self) -> Mapping[str, Any]:
        return {"templates": self._templates.model_dump(), "form": 1}

    def name(self, match: Match) -> str | None:
        return "single" if match.rival is None else "pairwise"

    def chat(self, match: Match) -> list[Message]:
        part = self._part(match)
        chat: list[Message] = []
        if self._templates.system:
            chat.append({"role": "system", "content": self._templates.system})
        return [*chat, {"role": "user", "content": _filled(part.template, self._fields(match))}]

    def _part(self, match: Match) -> Rating | Choice:
        part = self._templates.single if match.rival is None else self._templates.pairwise
        if part is None:
            raise UserError(f"this judge has no template '{self.name(match)}'; name another judge with --judge.")
        return part

    def _fields(self, match: Match) -> dict[str, str]:
        reference = match.question.reference[match.turn - 1 : match.turn]
        sides = (
            {"answer": match.answers} if match.rival is None else {"answer_a": match.answers, "answer_b": match.rival}
        )
        fields = {side: answers[match.turn - 1].text or "" for side, answers in sides.items()}
        return {
            **fields,
            "instruction": _instruction(match),
            "reference": reference[0] if reference else "(no reference answer)",
            "criteria": self._templates.criteria,
        }

    def verdict(self, match: Match, reply: Generation) -> Verdict:
        part = self._part(match)
        found = next(iter(deque(re.finditer(part.pattern, reply.text), maxlen=1)), None)
        if found is None:
            return None, f"nothing in the judge's reply matches {part.pattern}"
        if isinstance(part, Rating):
            return _rated(part, reply, found)
        return _chosen(part, reply, found)


def _rated(part: Rating, reply: Generation, found: re.Match[str]) -> Verdict:
    try:
        drawn = float(found[1] or "")  # None: the pattern matched without its group
    except ValueError:
        return None, f"{found[1]!r} in the judge's reply is no number"
    if not part.lowest <= drawn <= part.highest:
        return None, f"the score in the judge's reply is not between {part.lowest:g} and {part.highest:g}"
    if not part.expected:
        return drawn, None
    masses: dict[float, float] = {}
    for word, mass in _alternatives(reply, found):
        if word.isascii() and word.isdigit() and part.lowest <= int(word) <= part.highest:
            masses[float(word)] = masses.get(float(word), 0.0) + mass
    if not masses:
        return None, _UNTOLD
    return sum(value * mass for value, mass in masses.items()) / sum(masses.values()), None


def _chosen(part: Choice, reply: Generation, found: re.Match[str]) -> Verdict:
    worth = {part.first: 1.0, part.second: 0.0, **({part.tie: 0.5} if part.tie else {})}
    if found[1] not in worth:
        return None, f"{found[1]!r} in the judge's reply is none of {', '.join(worth)}"
    if not part.expected:
        return worth[found[1]], None
    masses = dict.fromkeys(worth, 0.0)
    for word, mass in _alternatives(reply, found):
        if word in masses:
            masses[word] += mass
    whole = sum(masses.values())
    if not whole:
        return None, _UNTOLD
    return sum(worth[word] * mass for word, mass in masses.items()) / whole, None


def _alternatives(reply: Generation, found: re.Match[str]) -> Iterable[tuple[str, float]]:
    """(word, probability) of what might have stood in the verdict's place; nothing where no one token holds it."""
    end = 0
    for token in reply.tokens:
        place = slice(found.start(1) - end, found.end(1) - end)
        end += len(token.text)
        if end > found.start(1):
            return _words(token, place) if token.text[place] == found[1] else ()
    return ()


def _words(token: GeneratedToken, place: slice) -> Iterator[tuple[str, float]]:
    """Of the alternatives that have the same around that place of the token: a bracket, say. Blanks are the same."""
    before, after = token.text[: place.start].lstrip(), token.text[place.stop :].rstrip()
    for text, log_prob in token.alternatives.items():
        word = text.strip()
        if word.startswith(before) and word.endswith(after) and len(word) > len(before + after):
            yield word[len(before) : len(word) - len(after)].strip(), math.exp(log_prob)


def _instruction(match: Match) -> str:
    """The user's words of the first turn; from the second on the whole chat before the answer, as text."""
    turns = match.question.turns
    if match.turn == 1:
        return turns[0]
    sides = [match.answers] if match.rival is None else [match.answers, match.rival]
    names = ["Assistant"] if match.rival is None else ["Assistant A", "Assistant B"]
    lines: list[str] = []
    for turn in range(match.turn - 1):
        lines.append(f"User: {turns[turn]}")
        lines += [f"{name}: {_text(answers[turn])}" for name, answers in zip(names, sides, strict=True)]
    return "\n\n".join([*lines, f"User: {turns[match.turn - 1]}"])


def _filled(template: str, fields: Mapping[str, str]) -> str:
    """Braces in what is filled in are text."""
    return _FIELD.sub(lambda found: fields.get(found[1], found[0]), template)


def _text(answer: Answer) -> str:
    return answer.text or ""
