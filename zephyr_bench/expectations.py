"""Machine-checkable expectations of an answer: their schema. judges/checks.py carries them out.

In a question file they are objects with a `check` key, a list per turn:
    {"check": "contains", "any": ["Paris"]}   {"check": "words", "max": 40}
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator


class _Check(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    weight: float = Field(1.0, gt=0, description="share in the grade")


class _Bounds(_Check):
    min: int = Field(0, ge=0)
    max: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _bounded(self) -> _Bounds:
        if self.min == 0 and self.max is None:
            raise ValueError("needs min or max")
        if self.max is not None and self.max < self.min:
            raise ValueError("max is below min")
        return self


class Contains(_Check):
    """The answer holds one of `any`, or every one of `all`; as whole words, case ignored."""

    check: Literal["contains"]
    any: tuple[str, ...] = ()
    all: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _not_empty(self) -> Contains:
        if not (self.any or self.all):
            raise ValueError("needs any or all")
        return self


class Excludes(_Check):
    """The answer holds none of these, as whole words, case ignored."""

    check: Literal["excludes"]
    any: tuple[str, ...] = Field(min_length=1)


class Matches(_Check):
    """The pattern is found somewhere (re.search; multi-line, case ignored)."""

    check: Literal["matches"]
    pattern: str

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return value


class Exactly(_Check):
    """The whole answer is one of these, but for case, outer blanks and closing punctuation."""

    check: Literal["exactly"]
    any: tuple[str, ...] = Field(min_length=1)


class Starts(_Check):
    """The answer begins with this, case and leading blanks ignored."""

    check: Literal["starts"]
    text: str = Field(min_length=1)


class Ends(_Check):
    """The answer ends with this, case, trailing blanks, quotes and full stops ignored."""

    check: Literal["ends"]
    text: str = Field(min_length=1)


class Number(_Check):
    """The last number in the answer is `value` (thousands commas allowed)."""

    check: Literal["number"]
    value: float
    tolerance: float = Field(1e-6, ge=0)


class Json(_Check):
    """The answer, or its one code fence, is valid JSON with these top-level keys."""

    check: Literal["json"]
    keys: tuple[str, ...] = ()
    type: Literal["object", "array", "any"] = "any"


class Python(_Check):
    """The answer's code (its first code fence, else all of it) runs and passes the asserts.

    An assert is `assert f(2) == 4`, `assert f(2) is True`, `assert f(2)`, `assert not f(2)`, or several
    of these joined by `and`; its right side is a literal.
    """

    check: Literal["python"]
    asserts: tuple[str, ...] = Field(min_length=1)

    @field_validator("asserts")
    @classmethod
    def _of_the_form(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            parse_assert(text)
        return value


class Words(_Bounds):
    """Number of words, split at white space."""

    check: Literal["words"]


class Sentences(_Bounds):
    """Number of sentences: runs closed by . ! or ? before white space or the end."""

    check: Literal["sentences"]


class Lines(_Bounds):
    """Number of lines that are not blank."""

    check: Literal["lines"]


class Items(_Bounds):
    """Number of list items: lines that begin with -, *, • or a number with a dot or bracket."""

    check: Literal["items"]


class Count(_Bounds):
    """How often `text` occurs, as whole words, case ignored."""

    check: Literal["count"]
    text: str = Field(min_length=1)


class Case(_Check):
    """All letters are of one case."""

    check: Literal["case"]
    case: Literal["lower", "upper"] = Field(alias="is")


class Language(_Check):
    """The answer's language, as an ISO 639-1 code (told by py3langid)."""

    check: Literal["language"]
    code: str = Field(alias="is", pattern="^[a-z]{2}$")


@dataclass(frozen=True)
class Expected:
    """What an expression must be worth; `identical` where True and 1 are not alike."""

    expression: str
    value: Any
    identical: bool = False


def parse_assert(text: str) -> list[Expected]:
    """The parts of one assert. Raises ValueError for another form than `Python` allows."""
    try:
        statements = ast.parse(text).body
    except SyntaxError as error:
        raise ValueError(f"'{text}' is not Python: {error.msg}") from None
    if len(statements) != 1 or not isinstance(statements[0], ast.Assert):
        raise ValueError(f"'{text}' is not one assert")
    test = statements[0].test
    joined = isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And)
    return [_expected(part, text) for part in (test.values if joined else [test])]  # type: ignore[attr-defined]


def _expected(part: ast.expr, text: str) -> Expected:
    if isinstance(part, ast.Call):
        return Expected(f"bool({ast.unparse(part)})", True)
    if isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.Not):
        return Expected(f"bool({ast.unparse(part.operand)})", False)
    if isinstance(part, ast.Compare) and len(part.ops) == 1 and isinstance(part.ops[0], ast.Eq | ast.Is):
        try:
            value = ast.literal_eval(part.comparators[0])
        except ValueError:
            raise ValueError(f"the right side of '{text}' is not a literal") from None
        return Expected(ast.unparse(part.left), value, isinstance(part.ops[0], ast.Is))
    raise ValueError(f"'{text}' is none of f(x) == literal, f(x) is literal, f(x), not f(x)")


Check = Annotated[
    Contains
    | Excludes
    | Matches
    | Exactly
    | Starts
    | Ends
    | Number
    | Json
    | Python
    | Words
    | Sentences
    | Lines
    | Items
    | Count
    | Case
    | Language,
    Field(discriminator="check"),
]

_adapter: TypeAdapter[Check] = TypeAdapter(Check)


def parse_checks(raw: Iterable[Mapping[str, Any]]) -> tuple[Check, ...]:
    """Checked expectations of one turn. Raises pydantic.ValidationError."""
    return tuple(_adapter.validate_python(dict(check)) for check in raw)
