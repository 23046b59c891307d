import pytest
from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.engines.score_inputs import model_input, of_nothing
from zephyr_bench.errors import UserError
from zephyr_bench.records import ScoredTokens, ScoreRequest

TOKENS = st.lists(st.integers(0, 99), max_size=12).map(tuple)


def request(context, continuation):
    return ScoreRequest("1", tuple(context), tuple(continuation))


def test_last_token_is_scored_and_not_read():
    assert model_input(request([0, 1, 2, 3], [4, 5, 6]), 512) == ((0, 1, 2, 3, 4, 5), 3)


def test_too_long_a_context_loses_its_beginning():
    assert model_input(request([0, 1, 2, 3], [4, 5, 6]), 6) == ((0, 1, 2, 3, 4, 5), 3)
    assert model_input(request([0, 1, 2, 3], [4, 5, 6]), 5) == ((1, 2, 3, 4, 5), 2)
    assert model_input(request([0, 1, 2, 3], [4, 5, 6]), 3) == ((3, 4, 5), 0)


@given(context=TOKENS.filter(len), continuation=TOKENS.filter(len), max_length=st.integers(12, 30))
def test_each_token_of_the_continuation_comes_after_what_stood_before_it(context, continuation, max_length):
    inputs, first = model_input(request(context, continuation), max_length)
    text = [*context, *continuation]
    assert len(inputs) == min(max_length, len(text) - 1)
    for number, token in enumerate(continuation):
        before = inputs[: first + number + 1]
        place = len(context) + number
        assert text[place] == token
        assert before == tuple(text[place - len(before) : place])


def test_empty_context_says_what_to_put_there():
    with pytest.raises(UserError, match=r"a context of one token at least: put BOS or EOS before the continuation\.$"):
        model_input(request([], [1]), 8)


def test_continuation_is_refused_and_not_cut():
    assert model_input(request([0], range(8)), 8) == ((0, *range(7)), 0)
    with pytest.raises(UserError, match="a continuation of 9 tokens is longer than the model's 8"):
        model_input(request([0], range(9)), 8)


def test_nothing_is_certain_and_asks_no_model():
    assert of_nothing(request([], [])) == ScoredTokens("1", 0.0, True, 0)
    assert of_nothing(request([0], [1])) is None
