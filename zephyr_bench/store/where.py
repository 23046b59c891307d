"""The small language of `--where`: recipe=zephyr7b and benchmark=mt-bench and not (seed<3 or judge~gpt).

In: text. Out: a tree of tests, and what it says of one run. Knows the names of fields, no tables and no SQL.

    any    := all ("or" all)*           all   := part ("and" part)*
    part   := "not" part | "(" any ")" | test
    test   := FIELD ("=" | "!=" | "<" | "<=" | ">" | ">=" | "~") VALUE
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.store.run_info import STATUSES

FIELDS = (
    *("id", "recipe", "stage", "benchmark", "model", "judge", "status", "tag", "created", "seed", "version"),
    *("protocol", "lineage", "environment"),
)
TREES = ("protocol", "lineage", "environment")  # JSON: a dotted name goes down into them
_OPERATORS = ("!=", "<=", ">=", "=", "<", ">", "~")
_TOKEN = re.compile(
    r"""\s*(?:(?P<operator>!=|<=|>=|=|<|>|~)|(?P<paren>[()])|(?P<quote>["'])|(?P<word>[^\s()"'=!<>~]+))"""
)
_TIME = re.compile(r"\d{1,4}|\d{4}-\d{0,2}|\d{4}-\d\d-\d{0,2}([T ][\d:.]*Z?)?")
_EXPECTED = "a test such as recipe=zephyr7b"
_DEEPEST = 50


@dataclass(frozen=True)
class Term:
    field: str  # one of FIELDS, or of TREES with a dotted path
    operator: str
    value: str
    quoted: bool  # `none` without quotes means that there is no value
    position: int  # of the field, from 1

    @property
    def root(self) -> str:
        return self.field.partition(".")[0]

    @property
    def path(self) -> str:
        """Below the root: `limit` of protocol.limit."""
        return self.field.partition(".")[2]

    @property
    def wants_none(self) -> bool:
        return self.value == "none" and not self.quoted


@dataclass(frozen=True)
class Not:
    part: Where


@dataclass(frozen=True)
class Joined:
    how: Literal["and", "or"]
    parts: tuple[Where, ...]


Where: TypeAlias = Term | Not | Joined


@dataclass(frozen=True)
class _Token:
    kind: str  # operator, paren, word, text (quoted) or end
    text: str
    position: int  # from 1

    def told(self) -> str:
        return "the end" if self.kind == "end" else f"'{self.text}'"


def parse_where(text: str) -> Where:
    """Raises UserError: one sentence with the position and what was expected there."""
    parser = _Parser(list(_tokens(text)))
    found = parser.either()
    if parser.next.kind != "end":
        raise parser.wrong("'and', 'or' or the end")
    return found


def quoted(text: str) -> str:
    """As a value of the language. Raises UserError for one with both kinds of quotes."""
    quote = "'" if '"' in text else '"'
    if quote in text:
        raise UserError(f"--where: {text} holds both kinds of quotes, and no value can.")
    return f"{quote}{text}{quote}"


def tests_of(where: Where) -> Iterator[Term]:
    match where:
        case Term():
            yield where
        case Not(part):
            yield from tests_of(part)
        case Joined(_, parts):
            for part in parts:
                yield from tests_of(part)


def holds(where: Where, look: Callable[[Term], Any]) -> bool:
    """What the tree says of one run. `look` gives what the run has for a test's field: None where it has nothing.

    Of a list (tags, protocol.rivals) any entry may fit. `!=` is the opposite of `=`, so a missing value differs from
    every value; it is neither less nor greater than one.
    """
    match where:
        case Not(part):
            return not holds(part, look)
        case Joined("and", parts):
            return all(holds(part, look) for part in parts)
        case Joined(_, parts):
            return any(holds(part, look) for part in parts)
        case Term():
            return _fits(where, look(where))
    raise TypeError(f"no tree: {where!r}")


def look_into(tree: Any, path: str) -> Any:
    """What stands at a dotted path; None where nothing does. A key may have dots itself."""
    if not path:
        return tree
    if not isinstance(tree, Mapping):
        return None
    if path in tree:
        return tree[path]
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        if (key := ".".join(parts[:end])) in tree:
            return look_into(tree[key], ".".join(parts[end:]))
    return None


def _tokens(text: str) -> Iterator[_Token]:
    place, end = 0, len(text.rstrip())
    while place < end:
        found = _TOKEN.match(text, place)
        if found is None:
            where = place + 1 + len(text[place:]) - len(text[place:].lstrip())
            raise UserError(f"--where, position {where}: '{text[where - 1]}' stands alone; expected {_EXPECTED}.")
        kind = str(found.lastgroup)
        start = found.start(kind)
        if kind == "quote":
            close = text.find(found["quote"], found.end())
            if close < 0:
                raise UserError(f"--where, position {start + 1}: the quote is not closed.")
            yield _Token("text", text[found.end() : close], start + 1)
            place = close + 1
        else:
            yield _Token(kind, found[kind], start + 1)
            place = found.end()
    yield _Token("end", "", end + 1)


class _Parser:
    """By recursive descent; `next` is the token that isn't taken yet."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0

    @property
    def next(self) -> _Token:
        return self._tokens[self._place]

    def take(self) -> _Token:
        token = self.next
        self._place += token.kind != "end"
        return token

    def wrong(self, expected: str) -> UserError:
        return UserError(f"--where, position {self.next.position}: expected {expected}, found {self.next.told()}.")

    def either(self) -> Where:
        return self._joined("or", self._all)

    def _all(self) -> Where:
        return self._joined("and", self._part)

    def _joined(self, how: Literal["and", "or"], part: Callable[[], Where]) -> Where:
        parts = [part()]
        while self._is(how):
            self.take()
            parts.append(part())
        return parts[0] if len(parts) == 1 else Joined(how, tuple(parts))

    def _is(self, word: str) -> bool:
        return self.next.kind == "word" and self.next.text.lower() == word

    def _part(self) -> Where:
        nots = 0
        while self._is("not"):
            self.take()
            nots += 1
        if self.next == _Token("paren", "(", self.next.position):
            self.take()
            self._depth += 1
            if self._depth > _DEEPEST:
                raise self.wrong(f"no more than {_DEEPEST} parentheses in each other")
            found = self.either()
            self._depth -= 1
            if self.next.text != ")" or self.next.kind != "paren":
                raise self.wrong("'and', 'or' or ')'")
            self.take()
        else:
            found = self._test()
        return Not(found) if nots % 2 else found

    def _test(self) -> Term:
        if self.next.kind != "word" or self.next.text.lower() in ("and", "or"):
            raise self.wrong(_EXPECTED)
        field = self.take()
        root, _, path = field.text.partition(".")
        if root not in FIELDS or (path and root not in TREES):
            hint = did_you_mean(root, FIELDS) if get_close_matches(root, FIELDS, cutoff=0.5) else ""
            raise UserError(
                f"--where, position {field.position}: unknown field '{field.text}'.{hint} Known are "
                f"{', '.join(FIELDS[:-3])}, and what protocol., lineage. and environment. have."
            )
        if root in TREES and not path:
            raise UserError(
                f"--where, position {field.position}: {root} has fields of its own; name one, such as "
                f"{ {'protocol': 'protocol.limit', 'lineage': 'lineage.steps'}.get(root, 'environment.torch') }."
            )
        if self.next.kind != "operator":
            raise self.wrong(f"one of {' '.join(_OPERATORS)} after {field.text}")
        operator = self.take()
        if self.next.kind not in ("word", "text") or any(map(self._is, ("and", "or", "not"))):
            raise self.wrong(f"a value after {field.text}{operator.text}")
        value = self.take()
        return _checked(Term(field.text, operator.text, value.text, value.kind == "text", field.position))


def _checked(test: Term) -> Term:
    """Raises UserError for what can hold of no run: a date that is none, a status that isn't there."""
    place = f"--where, position {test.position}: {test.field}{test.operator}{test.value}"
    if test.wants_none:
        if test.operator not in ("=", "!="):
            raise UserError(f"{place}: what is missing has no order; write {test.field}=none.")
        return test
    ordered = test.operator in ("<", "<=", ">", ">=")
    if test.field == "status" and test.operator in ("=", "!=") and test.value not in STATUSES:
        raise UserError(f"{place}: no such status.{did_you_mean(test.value, STATUSES)}")
    if test.field in ("status", "tag") and ordered:
        raise UserError(f"{place}: a {test.field} has no order; use =, != or ~.")
    if test.field == "id" and not test.value:
        raise UserError(f"{place}: expected an id or the beginning of one.")
    if test.field == "seed" and test.operator != "~" and not re.fullmatch(r"[+-]?\d{1,30}", test.value):
        raise UserError(f"{place[:200]}: expected a whole number, of 30 digits at most.")
    if test.field == "created" and test.operator != "~" and not _TIME.fullmatch(test.value):
        raise UserError(f"{place}: expected a date or the beginning of one, such as 2026-11 or 2026-11-29T08.")
    return test


def _fits(test: Term, found: Any) -> bool:
    if test.operator == "!=":
        return not _is_equal(test, found)
    if test.operator == "=":
        return _is_equal(test, found)
    return any(_compares(test, one) for one in _each(found))


def _each(found: Any) -> Sequence[Any]:
    return [one for one in (found if isinstance(found, list | tuple) else [found]) if one is not None]


def _is_equal(test: Term, found: Any) -> bool:
    entries = _each(found)
    if test.wants_none:
        return not entries
    return any(_compare(test, one) == 0 for one in entries)


def _compares(test: Term, found: Any) -> bool:
    if test.operator == "~":
        return _is_like(_text(found), test.value)
    order = _compare(test, found)
    if order is None:
        return False
    return {"<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[test.operator]


def _is_like(text: str, pattern: str) -> bool:
    """Holds the pattern; with * or ? it is all of the text. Letters' case says nothing."""
    text, pattern = text.casefold(), pattern.casefold()
    if not re.search("[*?]", pattern):
        return pattern in text
    return fnmatchcase(text, pattern.replace("[", "[[]"))  # fnmatch has classes, and we have none


def _compare(test: Term, found: Any) -> int | None:
    """-1, 0 or 1 as the run's value is less than the test's, the same or greater; None where they have no order."""
    if test.field in ("created", "id"):  # by the beginning: created=2026-11 is all of November
        value = test.value.replace(" ", "T") if test.field == "created" else test.value
        return _order(found[: len(value)], value)
    if test.field == "version" and test.operator not in ("=", "!="):
        return _order(_numbers(found), _numbers(test.value))
    if isinstance(found, bool | Mapping):
        return 0 if _text(found) == test.value else None
    if isinstance(found, int | float):
        try:
            number = int(test.value) if re.fullmatch(r"[+-]?\d{1,30}", test.value) else float(test.value)
        except ValueError:
            return None
        return None if number != number else _order(found, number)
    return _order(_text(found), test.value)


def _order(one: Any, other: Any) -> int:
    return int(one > other) - int(one < other)


def _numbers(version: str) -> tuple[tuple[int, str], ...]:
    """0.10.1.dev3 comes after 0.9: by its numbers, without what follows them."""
    found = re.match(r"\d+(\.\d+)*", version)
    parts = [part.lstrip("0") for part in found[0].split(".")] if found else []
    numbers = [(len(part), part) for part in parts]  # ordered as numbers are, however many digits they have
    while numbers and numbers[-1] == (0, ""):
        numbers.pop()
    return tuple(numbers)


def _text(found: Any) -> str:
    if isinstance(found, bool):
        return "true" if found else "false"
    return found if isinstance(found, str) else str(found)
