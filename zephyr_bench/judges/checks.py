"""Carries out the checkable expectations of expectations.py on an answer's text.

Pure but for `python`, which runs the answer's code in a process of its own (python_process.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from zephyr_bench import expectations as e
from zephyr_bench.judges.python_process import passes

VERSION = 1  # raised with every change that could change a verdict

_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_ITEM = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s+\S", re.MULTILINE)
_CLOSING = " \t\r\n.\"'”’"
_NUMBER = re.compile(r"(?<!\d)[-+]?\d[\d,]*(?:\.\d+)?|[-+]?\.\d+")


def share_met(text: str, checks: Sequence[e.Check]) -> float:
    """The weighted share of the checks that the answer meets, in [0, 1]; an empty answer meets none."""
    if not text.strip():
        return 0.0
    met = sum(check.weight for check in checks if holds(check, text))
    return met / sum(check.weight for check in checks)


@singledispatch
def holds(check: Any, text: str) -> bool:
    """Whether an answer, not blank, meets one check."""
    raise TypeError(f"no rule for {type(check).__name__}")


@holds.register
def _(check: e.Contains, text: str) -> bool:
    return all(_occurrences(word, text) for word in check.all) and (
        not check.any or any(_occurrences(word, text) for word in check.any)
    )


@holds.register
def _(check: e.Excludes, text: str) -> bool:
    return not any(_occurrences(word, text) for word in check.any)


@holds.register
def _(check: e.Count, text: str) -> bool:
    return _within(check, _occurrences(check.text, text))


@holds.register
def _(check: e.Matches, text: str) -> bool:
    return re.search(check.pattern, text, re.IGNORECASE | re.MULTILINE) is not None


@holds.register
def _(check: e.Exactly, text: str) -> bool:
    return _bare(text) in {_bare(word) for word in check.any}


@holds.register
def _(check: e.Starts, text: str) -> bool:
    return text.lstrip().casefold().startswith(check.text.casefold())


@holds.register
def _(check: e.Ends, text: str) -> bool:
    return text.rstrip(_CLOSING).casefold().endswith(check.text.rstrip(_CLOSING).casefold())


@holds.register
def _(check: e.Number, text: str) -> bool:
    found = _NUMBER.findall(text)
    return bool(found) and abs(float(found[-1].replace(",", "")) - check.value) <= check.tolerance


@holds.register
def _(check: e.Json, text: str) -> bool:
    try:
        value = json.loads(_code(text), parse_constant=_no_json)
    except (ValueError, RecursionError):
        return False
    kinds = {"object": dict, "array": list, "any": object}
    return isinstance(value, kinds[check.type]) and (
        not check.keys or (isinstance(value, dict) and set(check.keys) <= set(value))
    )


@holds.register
def _(check: e.Python, text: str) -> bool:
    return passes(_code(text), check.asserts)


@holds.register
def _(check: e.Words, text: str) -> bool:
    return _within(check, len(text.split()))


@holds.register
def _(check: e.Sentences, text: str) -> bool:
    return _within(check, count_sentences(text))


@holds.register
def _(check: e.Lines, text: str) -> bool:
    return _within(check, sum(bool(line.strip()) for line in text.splitlines()))


@holds.register
def _(check: e.Items, text: str) -> bool:
    return _within(check, len(_ITEM.findall(text)))


@holds.register
def _(check: e.Case, text: str) -> bool:
    return text.islower() if check.case == "lower" else text.isupper()


@holds.register
def _(check: e.Language, text: str) -> bool:
    import py3langid

    return str(py3langid.classify(text)[0]) == check.code


def count_sentences(text: str) -> int:
    """Runs of text closed by . ! or ? before white space or the end; a last run needs no mark."""
    runs = re.split(r"(?<=[.!?])[\"')\]”’]*(?:\s+|\Z)", text.strip())
    return sum(any(char.isalnum() for char in run) for run in runs)


def _occurrences(word: str, text: str) -> int:
    """As whole words, case ignored; white space of any kind and length is one blank."""
    pattern = r"\s+".join(re.escape(part) for part in word.split())
    return len(re.findall(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE))


def _within(bounds: e.Words | e.Sentences | e.Lines | e.Items | e.Count, found: int) -> bool:
    return found >= bounds.min and (bounds.max is None or found <= bounds.max)


def _bare(text: str) -> str:
    return text.strip().rstrip(".!?").casefold()


def _no_json(name: str) -> None:
    """Python reads NaN and Infinity; JSON has neither."""
    raise ValueError(name)


def _code(text: str) -> str:
    """The first fenced block, or all of the text where there is none."""
    fence = _FENCE.search(text)
    return fence[1] if fence else text
