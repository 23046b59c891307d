from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.judges.parsers import preference, rating


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Rating: [[7]]", 7),
        ("Rating: [[7.5]] out of [[10]]", 7.5),
        ("Rating: [8]", 8),
        ("[3] steps, so [[6]]", 6),
        ("Rating: 8", None),
        ("[[eight]]", None),
        ("", None),
    ],
)
def test_the_first_double_bracket_is_the_rating_else_the_first_single_one(reply: str, score: float | None) -> None:
    assert rating(reply) == score


@pytest.mark.parametrize(("reply", "value"), [("[[A]]", 1), ("so [[B]]", 0), ("[[C]]", 0.5), ("[A]", None)])
def test_a_winner_stands_in_double_brackets(reply: str, value: float | None) -> None:
    assert preference(reply) == value


@given(st.text())
def test_no_reply_breaks_the_parsers(reply: str) -> None:
    assert rating(reply) is None or rating(reply) >= 0  # type: ignore[operator]
    assert preference(reply) in (None, 0, 0.5, 1)
