"""Fingerprints: the same content, the same hash; another content, another."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.fingerprint import file_sha256, fingerprint, short
from zephyr_bench.records import Answer, Match, Question, Sampling, answer_key

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), json_values, max_size=6))
def test_the_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))


def test_the_hash_names_its_algorithm_and_is_stable() -> None:
    expected = hashlib.sha256(b'{"a":[1,"\\u00e9",null]}').hexdigest()
    assert fingerprint({"a": (1, "é", None)}) == f"sha256:{expected}"
    assert short(f"sha256:{expected}") == expected[:8]


def test_nan_has_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="JSON"):
        fingerprint(float("nan"))


def test_file_hash_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(b"zephyr" * 1000)
    assert file_sha256(path) == hashlib.sha256(b"zephyr" * 1000).hexdigest()


QUESTION = Question("q", "math", ("one", "two"), checks=(({"check": "number", "value": 1},), ()))


def test_greedy_answers_have_one_key_whatever_the_seed() -> None:
    keys = {
        answer_key("engine", QUESTION, 1, Sampling(temperature=0.0, seed=seed, top_p=p))
        for seed in (0, 1)
        for p in (0.9, 1)
    }
    assert len(keys) == 1


def test_sampled_answers_have_a_key_per_seed_and_replicate() -> None:
    hot = [
        answer_key("engine", QUESTION, 1, Sampling(temperature=0.7, seed=seed), n) for seed in (0, 1) for n in (0, 1)
    ]
    assert len(set(hot)) == 4


def test_a_later_turn_does_not_change_the_key_of_an_earlier_answer() -> None:
    other = Question("q", "math", ("one", "another"))
    assert answer_key("e", QUESTION, 1, Sampling()) == answer_key("e", other, 1, Sampling())
    assert answer_key("e", QUESTION, 2, Sampling()) != answer_key("e", other, 2, Sampling())


def test_changed_checks_ask_for_a_new_judgment_but_not_for_a_new_answer() -> None:
    changed = Question("q", "math", ("one", "two"), checks=(({"check": "number", "value": 2},), ()))
    answer = Answer("k", "m", "q", 1, "1")
    assert answer_key("e", QUESTION, 2, Sampling()) == answer_key("e", changed, 2, Sampling())
    assert Match(QUESTION, 1, (answer,)).key("judge") != Match(changed, 1, (answer,)).key("judge")


def test_second_turn_is_asked_after_the_models_own_first_answer() -> None:
    chat = QUESTION.messages(2, (Answer("k", "m", "q", 1, "mine"),))
    assert [message["content"] for message in chat] == ["one", "mine", "two"]
    assert [message["role"] for message in chat] == ["user", "assistant", "user"]
