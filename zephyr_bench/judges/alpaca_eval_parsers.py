"""How a judge's reply is read by the rules of alpaca_eval's parsers (0.6.6, completion_parsers.py), in code of our own.

In: the text of a reply, or for `logprob_parser` what might have stood at each token's place. Out: the list of what a
parser found; one value v in [1, 2] (1: the first output is better) makes the score 2 - v. Python and JSON literals are
read, and nothing is executed. Only the judge's reply comes here, never an answer.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

from pydantic import Field, field_validator

from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.judges.forms import Verdict
from zephyr_bench.recipe import Entry
from zephyr_bench.yaml_file import Location, check_mapping, lines_below

VERSION = 1  # changes with any verdict
TokenPlaces = Sequence[Mapping[str, float]]  # alternative -> natural log-probability, of each token of a reply
_MOST_SHOWN = 60  # characters of a value in a reason
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, SyntaxError, TypeError)
_PIPELINE = "pipeline_meta_parser"


class Parser(Protocol):
    reads_tokens: ClassVar[bool]
    """`read` is given TokenPlaces, and not the text."""

    def read(self, reply: Any) -> list[Any]:
        """Raises ValueError or one of _UNREADABLE for what it can't read."""
        ...


def verdict(parser: Parser, reply: Any) -> Verdict:
    """(preference for the first output, why there is none).

    alpaca_eval breaks off at a value outside [1, 2], even at 0, which its parsers give for a tie. Here 0 is a tie, and
    any other is a reply without a preference.
    """
    try:
        found = parser.read(reply)
    except (ValueError, *_UNREADABLE) as error:
        return None, f"the judge's reply can't be read ({type(error).__name__}: {_shown(error)})"
    if len(found) != 1:
        return None, f"{len(found) or 'no'} verdicts in the judge's reply, expected one"
    (value,) = found
    if value is None or value != value:
        return None, "no verdict in the judge's reply"
    if isinstance(value, int | float) and 1 <= value <= 2:
        return 2.0 - value, None
    if isinstance(value, int | float) and value == 0 and not isinstance(value, bool):
        return 0.5, None
    return None, f"the verdict in the judge's reply is {_shown(repr(value))}, expected a number from 1 to 2"


def _shown(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"


def _not_empty(reply: Any) -> Any:
    if isinstance(reply, str) and not reply:
        raise ValueError("it is empty")
    return reply


def _literal(reply: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's, of odd spellings; the reply isn't the user's code
        return ast.literal_eval(reply)


class RegexParser(Entry):
    """Keys of `outputs_to_match`, in the order in which their patterns match one after another."""

    reads_tokens: ClassVar[bool] = False
    outputs_to_match: dict[Any, str]

    @field_validator("outputs_to_match")
    @classmethod
    def _compile(cls, value: dict[Any, str]) -> dict[Any, str]:
        for key, pattern in value.items():
            try:
                _compiled(pattern)
            except re.error as error:
                raise ValueError(f"the pattern of {key} is no regular expression: {error}") from None
        return value

    @cached_property
    def _patterns(self) -> list[tuple[Any, re.Pattern[str]]]:
        return [(key, _compiled(pattern)) for key, pattern in self.outputs_to_match.items()]

    def read(self, reply: Any) -> list[Any]:
        """Of two that begin at the same place the one named first. What follows a match is a text of its own, to ^ too.

        alpaca_eval never comes back from a pattern that matches nothing at all.
        """
        rest, found = _not_empty(reply), []
        while matches := [(match, key) for key, pattern in self._patterns if (match := pattern.search(rest))]:
            match, key = min(matches, key=lambda one: one[0].start())
            if not match.end():
                raise ValueError(f"the pattern of {key} matches the empty text")
            found.append(key)
            rest = rest[match.end() :]
        return found


def _compiled(pattern: str) -> re.Pattern[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # a shipped config says [[A]], a set of two characters
        return re.compile(pattern)


class LmsysParser(Entry):
    """Two grades in the first line: the higher is better, equal ones are 0."""

    reads_tokens: ClassVar[bool] = False

    def read(self, reply: Any) -> list[Any]:
        _not_empty(reply)
        try:
            first, second = map(float, reply.split("\n")[0].replace(",", " ").split(" "))
        except (AttributeError, ValueError):
            return [math.nan]
        return [1 if first > second else 2 if first < second else 0]  # two NaN are a tie there too


class RankingParser(Entry):
    """The rank of `model_1_name` in a list of {"model": …, "rank": …}: a Python literal, or what was read before."""

    reads_tokens: ClassVar[bool] = False
    model_1_name: str = "model_1"

    def read(self, reply: Any) -> list[Any]:
        _not_empty(reply)
        try:
            ranks = _literal(reply) if isinstance(reply, str) else reply
            rank = [entry for entry in ranks if entry["model"] == self.model_1_name][0]["rank"]  # noqa: RUF015 all are looked at
        except (ValueError, *_UNREADABLE):
            return [math.nan]
        return [rank if rank in [1, 2] else math.nan]


class JsonParser(Entry):
    """`annotation_key` of the JSON object, or of each in a list; null: the object itself."""

    reads_tokens: ClassVar[bool] = False
    annotation_key: str | None

    def read(self, reply: Any) -> list[Any]:
        text = _not_empty(reply)
        if "```json" in text:
            block = re.search(r"```json(.*?)```", text, re.DOTALL)
            if block is None:
                raise ValueError("its ```json block has no end")
            text = block[1]
        value = json.loads(text)
        return [self._entry(value)] if isinstance(value, dict) else [self._entry(one) for one in value]

    def _entry(self, value: Any) -> Any:
        return value if self.annotation_key is None else value[self.annotation_key]


class EvalParser(Entry):
    """A Python literal; a list is several values. Its name promises more than is done, there and here."""

    reads_tokens: ClassVar[bool] = False

    def read(self, reply: Any) -> list[Any]:
        value = _literal(_not_empty(reply))
        return value if isinstance(value, list) else [value]


class ReplaceParser(Entry):
    """What `replacer` says in place of the whole reply; `default_replacer` for what it doesn't know, auto: as it is."""

    reads_tokens: ClassVar[bool] = False
    replacer: dict[Any, Any]
    default_replacer: Any = "auto"

    def read(self, reply: Any) -> list[Any]:
        _not_empty(reply)
        return [self.replacer.get(reply, reply if self.default_replacer == "auto" else self.default_replacer)]


class LogprobParser(Entry):
    """2 - the probability of `numerator_token` among `denominator_tokens`, at one token of the reply.

    `is_binarize` makes it 1 where the numerator is the likeliest, else 2. An alternative that isn't told has
    probability 0; where none of all is, there is no verdict.
    """

    reads_tokens: ClassVar[bool] = True
    numerator_token: str
    denominator_tokens: list[str] = Field(min_length=1)
    is_binarize: bool = True
    log_prob_index: Literal["batch"] | int = "batch"  # batch: of every token, so the reply must have one only

    def read(self, reply: Any) -> list[Any]:
        places: TokenPlaces = reply
        if self.log_prob_index == "batch":
            return [self._value(place) for place in places]
        return [self._value(places[self.log_prob_index])]

    def _value(self, place: Mapping[str, float]) -> float:
        if not place.keys() & {self.numerator_token, *self.denominator_tokens}:
            return math.nan
        told = {token: place.get(token, -math.inf) for token in (self.numerator_token, *self.denominator_tokens)}
        numerator = told[self.numerator_token]
        if self.is_binarize:
            others = [token for token in self.denominator_tokens if token != self.numerator_token]
            return 1 if all(numerator > told[token] for token in others) else 2
        return 2 - math.exp(numerator - _log_sum_exp([told[token] for token in self.denominator_tokens]))


def _log_sum_exp(log_probs: Sequence[float]) -> float:
    most = max(log_probs)
    return most if math.isinf(most) else most + math.log(sum(math.exp(one - most) for one in log_probs))


@dataclass(frozen=True)
class Pipeline:
    """Each reads what the one before found, entry by entry; `is_squeeze` takes a single entry out of its list."""

    reads_tokens: ClassVar[bool] = False
    steps: tuple[Parser, ...]
    is_squeeze: bool

    def read(self, reply: Any) -> list[Any]:
        return list(self._read(reply, 0))

    def _read(self, reply: Any, depth: int) -> Any:
        found = self.steps[depth].read(_not_empty(reply))
        if depth + 1 < len(self.steps):
            found = [self._read(one, depth + 1) for one in found]
        return found[0] if self.is_squeeze and depth and len(found) == 1 else found


class _PipelineSpec(Entry):
    parsers_to_kwargs: dict[str, dict[str, Any]] = Field(min_length=1)
    is_squeeze: bool = True


_PARSERS: dict[str, type[Any]] = {
    "eval_parser": EvalParser,
    "json_parser": JsonParser,
    "lmsys_parser": LmsysParser,
    "logprob_parser": LogprobParser,
    "ranking_parser": RankingParser,
    "regex_parser": RegexParser,
    "replace_parser": ReplaceParser,
}


def parser_of(name: str, arguments: Mapping[str, Any], *, lines: Mapping[Location, int], source: str) -> Parser:
    """The parser that a config names, its arguments checked; `lines` are theirs. Raises UserError."""
    if name == _PIPELINE:
        spec = check_mapping(_PipelineSpec, arguments, lines, source)
        steps = tuple(
            parser_of(step, given, lines=lines_below(lines, "parsers_to_kwargs", step), source=source)
            for step, given in spec.parsers_to_kwargs.items()
        )
        if any(step.reads_tokens for step in steps):
            raise UserError(f"{source}: {_PIPELINE} can't run logprob_parser; name it alone, as fn_completion_parser.")
        return Pipeline(steps, spec.is_squeeze)
    if name not in _PARSERS:
        raise UserError(f"{source}: unknown parser '{name}'.{did_you_mean(name, [*_PARSERS, _PIPELINE])}")
    parser: Parser = check_mapping(_PARSERS[name], arguments, lines, source)
    return parser
