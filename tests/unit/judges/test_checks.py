from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from zephyr_bench.expectations import parse_checks
from zephyr_bench.judges.checks import count_sentences, share_met

FENCED = "Here it is:\n```python\ndef double(x):\n    return 2 * x\n```\nDone."


def met(text: str, check: dict[str, Any]) -> bool:
    return share_met(text, parse_checks([check])) == 1


@pytest.mark.parametrize(
    ("text", "check", "expected"),
    [
        ("The capital is Paris.", {"check": "contains", "any": ["paris"]}, True),
        ("Parisian life", {"check": "contains", "any": ["Paris"]}, False),
        ("red and blue", {"check": "contains", "all": ["red", "green"]}, False),
        ("New   York", {"check": "contains", "any": ["New York"]}, True),
        ("2 + 2 = 4", {"check": "contains", "any": ["= 4"]}, True),
        ("a cat", {"check": "excludes", "any": ["dog", "cat"]}, False),
        ("Sure! Yes", {"check": "excludes", "any": ["of course"]}, True),
        ("They're going", {"check": "matches", "pattern": "they['’]re"}, True),
        ("Paris!", {"check": "exactly", "any": ["paris"]}, True),
        ("It is Paris", {"check": "exactly", "any": ["paris"]}, False),
        ("  Dear Rosa,", {"check": "starts", "text": "dear rosa"}, True),
        ("my friend.", {"check": "ends", "text": "friend"}, True),
        ("friendly", {"check": "ends", "text": "friend"}, False),
        ("3 apples and 4 pears make 7.", {"check": "number", "value": 7}, True),
        ("It costs 1,250.50 euros", {"check": "number", "value": 1250.5}, True),
        ("7 in all, of 12", {"check": "number", "value": 7}, False),
        ("no digits", {"check": "number", "value": 7}, False),
        ('{"a": 1}', {"check": "json", "keys": ["a"]}, True),
        ('```json\n{"a": 1}\n```', {"check": "json", "keys": ["a"], "type": "object"}, True),
        ("[1, 2]", {"check": "json", "type": "object"}, False),
        ("{'a': 1}", {"check": "json"}, False),
        ("[" * 100_000, {"check": "json"}, False),
        ("one two three", {"check": "words", "max": 3}, True),
        ("one two three", {"check": "words", "min": 4}, False),
        ("One. Two! Three?", {"check": "sentences", "min": 3, "max": 3}, True),
        ("a\n\nb\n", {"check": "lines", "min": 2, "max": 2}, True),
        ("- a\n* b\n1. c\n2) d\ntext", {"check": "items", "min": 4, "max": 4}, True),
        ("-not an item", {"check": "items", "min": 1}, False),
        ("tea, Tea and teatime", {"check": "count", "text": "tea", "min": 2, "max": 2}, True),
        ("all small", {"check": "case", "is": "lower"}, True),
        ("Not small", {"check": "case", "is": "lower"}, False),
        ("Je voudrais une tasse de thé, s'il vous plaît.", {"check": "language", "is": "fr"}, True),
        ("I would like a cup of tea, please.", {"check": "language", "is": "fr"}, False),
        (FENCED, {"check": "python", "asserts": ["assert double(4) == 8"]}, True),
        (FENCED, {"check": "python", "asserts": ["assert double(4) == 9"]}, False),
    ],
)
def test_check_holds(text: str, check: dict[str, Any], expected: bool) -> None:
    assert met(text, check) is expected


def test_an_empty_answer_meets_nothing() -> None:
    assert share_met(" \n", parse_checks([{"check": "words", "max": 5}, {"check": "excludes", "any": ["a"]}])) == 0


def test_share_is_weighted() -> None:
    checks = parse_checks([{"check": "words", "max": 1, "weight": 3}, {"check": "words", "min": 5}])
    assert share_met("one", checks) == 0.75


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One", 1),
        ("One. ", 1),
        ("Pi is 3.14 here.", 1),
        ('He said "Go!" Then he left.', 2),
        ("Wait... what?", 2),
        ("...", 0),
    ],
)
def test_sentences_are_counted(text: str, sentences: int) -> None:
    assert count_sentences(text) == sentences


@pytest.mark.parametrize(
    "check",
    [
        {"check": "words"},
        {"check": "words", "min": 3, "max": 2},
        {"check": "contains"},
        {"check": "matches", "pattern": "("},
        {"check": "wordz", "max": 2},
        {"check": "python", "asserts": ["assert f(1) > 2"]},
        {"check": "python", "asserts": ["import os"]},
        {"check": "python", "asserts": ["assert f(1) == g(1)"]},
    ],
)
def test_a_check_that_says_nothing_is_refused(check: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parse_checks([check])


@given(st.text(max_size=200))
def test_no_text_breaks_a_check(text: str) -> None:
    every = parse_checks(
        [
            {"check": "contains", "any": ["a"]},
            {"check": "number", "value": 1},
            {"check": "json"},
            {"check": "sentences", "max": 2},
            {"check": "items", "max": 2},
            {"check": "ends", "text": "a"},
            {"check": "case", "is": "upper"},
            {"check": "language", "is": "en"},
        ]
    )
    assert 0 <= share_met(text, every) <= 1
