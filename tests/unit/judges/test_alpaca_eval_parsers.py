"""Against alpaca_eval's own parsers: tests/parity/test_alpaca_eval_judging.py."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.errors import UserError
from zephyr_bench.judges.alpaca_eval_parsers import Parser, parser_of, verdict

OUTPUTS = {1: r"Output \(a\)", 2: r"Output \(b\)"}
WEIGHTED = {"numerator_token": "m", "denominator_tokens": ["m", "M"], "is_binarize": False}
LOG_PROBS = st.floats(-100, 0)


def parser(name: str, **arguments: Any) -> Parser:
    return parser_of(name, arguments, lines={}, source="config.yaml")


def read(reply: Any, name: str, **arguments: Any) -> float | None:
    return verdict(parser(name, **arguments), reply)[0]


def test_of_several_matches_there_is_no_verdict() -> None:
    assert read("Output (b)", "regex_parser", outputs_to_match=OUTPUTS) == 0
    score, reason = verdict(parser("regex_parser", outputs_to_match=OUTPUTS), "Output (a) beats Output (b)")
    assert (score, reason) == (None, "2 verdicts in the judge's reply, expected one")


def test_a_pattern_that_matches_nothing_ends() -> None:
    score, reason = verdict(parser("regex_parser", outputs_to_match={1: "x*"}), "abc")
    assert score is None
    assert "matches the empty text" in (reason or "")


@pytest.mark.parametrize(
    ("reply", "score"), [("8 7\nBecause", 1), ("2,9", 0), ("5 5", 0.5), ("7 eight", None), ("1 2 3", None)]
)
def test_grades_in_the_first_line_are_compared(reply: str, score: float | None) -> None:
    assert read(reply, "lmsys_parser") == score


@pytest.mark.parametrize("reply", ["__import__('os').getcwd()", "[x for x in (1,)]", "1 if True else 2", "f'{1}'"])
def test_nothing_of_a_reply_is_executed(reply: str) -> None:
    assert read(reply, "eval_parser") is None
    assert read(reply, "ranking_parser") is None


def test_a_pipeline_reads_what_the_parser_before_found() -> None:
    steps = {"json_parser": {"annotation_key": "ordered_models"}, "ranking_parser": {"model_1_name": "m"}}
    reply = json.dumps({"ordered_models": [{"model": "M", "rank": 1}, {"model": "m", "rank": 2}]})
    assert read(reply, "pipeline_meta_parser", parsers_to_kwargs=steps) == 0


@pytest.mark.parametrize("value", [True, 1, 1.0])
def test_true_is_the_first_and_false_is_no_verdict(value: Any) -> None:
    assert read(json.dumps({"x": value}), "json_parser", annotation_key="x") == 1
    assert read('{"x": false}', "json_parser", annotation_key="x") is None


@pytest.mark.parametrize("value", ["0.5", "3", "-1", "'1'", "[1]", "None", "1e999", ""])
def test_what_is_no_preference_is_told(value: str) -> None:
    score, reason = verdict(parser("eval_parser"), value)
    if value == "[1]":  # a list is several values, here one
        assert score == 1
        return
    assert score is None
    assert reason


@given(first=LOG_PROBS, second=LOG_PROBS)
def test_the_score_is_the_probability_of_the_first_among_the_two(first: float, second: float) -> None:
    score = read([{"m": first, "M": second, "x": -1.0}], "logprob_parser", **WEIGHTED)
    assert score == pytest.approx(1 / (1 + math.exp(second - first)), abs=1e-12)
    assert read([{"m": second, "M": first}], "logprob_parser", **WEIGHTED) == pytest.approx(1 - score, abs=1e-12)


@given(first=LOG_PROBS, second=LOG_PROBS)
def test_binarized_the_likelier_is_the_verdict(first: float, second: float) -> None:
    binarized = {**WEIGHTED, "is_binarize": True}
    assert read([{"m": first, "M": second}], "logprob_parser", **binarized) == (1 if first > second else 0)


@pytest.mark.parametrize(("place", "score"), [({"m": -0.3}, 1), ({"M": -0.3}, 0), ({"The": -0.3}, None)])
def test_a_token_that_is_not_told_has_no_probability(place: dict[str, float], score: float | None) -> None:
    assert read([place], "logprob_parser", **WEIGHTED) == score


def test_the_last_token_is_read_where_the_config_says_so() -> None:
    places = [{"Because": -0.1}, {"m": -0.1}]
    assert read(places, "logprob_parser", **WEIGHTED, log_prob_index=-1) == 1
    assert read(places, "logprob_parser", **WEIGHTED, log_prob_index=5) is None
    assert read(places, "logprob_parser", **WEIGHTED) is None, "of all tokens there are two"


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("regexparser", {}, r"unknown parser 'regexparser'\. Did you mean regex_parser"),
        ("ranking_parser", {"model1_name": "m"}, r"unknown key 'model1_name'\. Did you mean model_1_name"),
        ("regex_parser", {"outputs_to_match": {1: "("}}, "the pattern of 1 is no regular expression"),
        ("json_parser", {}, "key 'annotation_key' is missing"),
        ("logprob_parser", {"numerator_token": "m", "denominator_tokens": []}, "denominator_tokens"),
        ("pipeline_meta_parser", {"parsers_to_kwargs": {"jsonparser": {}}}, "unknown parser 'jsonparser'"),
        ("pipeline_meta_parser", {"parsers_to_kwargs": {"logprob_parser": WEIGHTED}}, "can't run logprob_parser"),
    ],
)
def test_a_parser_that_is_none_is_the_users_mistake(name: str, arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        parser(name, **arguments)
    assert "config.yaml" in str(caught.value)


@given(st.text(), st.sampled_from(["ranking_parser", "lmsys_parser", "eval_parser"]))
def test_any_text_is_a_preference_or_a_reason(reply: str, name: str) -> None:
    score, reason = verdict(parser(name), reply)
    assert (score is None) == (reason is not None)
    assert score is None or 0 <= score <= 1
