"""UltraChat's repairs: what is changed, what is left out, and what is none of their business."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.training_data.cleaning import refusal, true_cased


@pytest.mark.parametrize(
    ("text", "cased"),
    [
        ("hello. how are you?", "Hello. How are you?"),
        ("what should i do? i'm lost, and i'd ask.", "What should I do? I'm lost, and I'd ask."),
        ("plan a monday in december", "Plan a Monday in December"),
        ('"why?" he asked. “because.”', '"Why?" He asked. “Because.”'),
        ("is it open e.g. on sundays, i.e. now?", "Is it open e.g. on Sundays, i.e. now?"),
        ("example.com is down. see read.me please", "example.com is down. See read.me please"),
        ("él dijo: ¿qué?", "Él dijo: ¿qué?"),
    ],
)
def test_a_prompt_all_in_lower_case_gets_its_capitals(text: str, cased: str) -> None:
    assert true_cased(text) == cased


@pytest.mark.parametrize("text", ["Hello. how are you?", "i ask NASA", "", "12 + 3", "for x in y: z = x", "see `ls`"])
def test_other_prompts_stay_as_they_are(text: str) -> None:
    assert true_cased(text) == text


@given(st.text(alphabet="ai .?!'\"(\n1é", max_size=60))
def test_true_casing_changes_letters_case_only_and_only_once(text: str) -> None:
    cased = true_cased(text)
    assert cased.lower() == text.lower()
    assert true_cased(cased) == cased


@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry, but as an AI language model, I can't do that.",
        "As an artificial intelligence, I have no body.",
        "As a large language model trained on text, I guess.",
        "I do not have emotions, but Paris is the capital of France.",
        "I don’t have any personal opinions or beliefs.",
        "I do not possess the ability to feel emotions.",
        "i cannot express opinions on that.",
        "I am just a language model.",
    ],
)
def test_replies_of_an_ai_about_itself_are_found(reply: str) -> None:
    assert refusal(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "As an AI engineer, you train models.",
        "An AI language model predicts the next word.",
        "“I don't have feelings for you,” said Ann.",
        "I have strong opinions about tea.",
        "You do not have emotions to spare.",
        "I don't have enough time to form an opinion.",
        "I think that beliefs differ.",
    ],
)
def test_other_replies_are_kept(reply: str) -> None:
    assert refusal(reply) is None
