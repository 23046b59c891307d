"""A stand-in answers as vLLM does, by the probabilities of a toy; tests/parity/test_vllm.py asks the real one."""

from itertools import count
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.engines.vllm_scores import Abilities, NextTokens, WholeText, asks, scores, text_of
from zephyr_bench.errors import UserError
from zephyr_bench.records import ScoredTokens, ScoreRequest

LENGTH = 64
CACHE = Abilities(next_tokens=True, block=2)
NO_CACHE = Abilities(next_tokens=True, block=None)
OLD = Abilities(next_tokens=False, block=2)  # a vLLM that doesn't know logprob_token_ids
TOKENS = st.lists(st.integers(0, 5), min_size=1, max_size=8).map(tuple)


def log_prob(before, token):
    return -1.0 - (sum(before) * 31 + len(before) * 7 + token * 5) % 8


def told(before, *tokens):
    """vLLM tells the likeliest token beside those asked for."""
    top = max(range(6), key=lambda token: log_prob(before, token))
    return top, {token: SimpleNamespace(logprob=log_prob(before, token)) for token in (*tokens, top)}


class StandIn:
    """Ends three requests a step, the last begun first."""

    def __init__(self):
        self.asked, self.under_way, self.aborted, self._names = [], {}, [], count()

    def ask(self, tokens, arguments):
        name = str(next(self._names))
        self.asked.append((tokens, arguments))
        self.under_way[name] = (tokens, arguments)
        return name

    def step(self):
        for name in list(self.under_way)[:-4:-1]:
            yield self._output(name, *self.under_way.pop(name))

    def abort(self, names):
        self.aborted += names

    def _output(self, name, tokens, arguments):
        assert (arguments["temperature"], arguments["max_tokens"], arguments["detokenize"]) == (0.0, 1, False)
        top, likely = told(tokens, *arguments.get("logprob_token_ids", ()))
        completion = SimpleNamespace(token_ids=[top], logprobs=[likely])
        places = [None, *(told(tokens[:place], tokens[place])[1] for place in range(1, len(tokens)))]
        return SimpleNamespace(
            request_id=name,
            outputs=[completion],
            prompt_logprobs=places if arguments.get("prompt_logprobs") == 1 else None,
        )


def requests_of(*pairs):
    return [ScoreRequest(str(number), tuple(a), tuple(b)) for number, (a, b) in enumerate(pairs)]


def scored(requests, abilities, *, vllm=None, max_length=LENGTH):
    vllm = vllm or StandIn()
    texts = [text_of(request, max_length) for request in requests]
    return list(scores(texts, abilities, ask=vllm.ask, step=vllm.step, abort=vllm.abort))


def by_hand(request):
    text = request.context + request.continuation
    places = range(len(request.context), len(text))
    found = [log_prob(text[:place], text[place]) for place in places]
    is_greedy = all(
        value >= max(log_prob(text[:place], token) for token in range(6))
        for place, value in zip(places, found, strict=True)
    )
    return ScoredTokens(request.key, sum(found), is_greedy, len(found))


@pytest.mark.parametrize("abilities", [CACHE, NO_CACHE, OLD])
@given(pairs=st.lists(st.tuples(TOKENS, TOKENS), max_size=12))
def test_each_request_is_scored_once_however_it_is_asked(abilities, pairs):
    requests = requests_of(*pairs)
    found = scored(requests, abilities)
    assert sorted(found, key=lambda one: int(one.key)) == [by_hand(request) for request in requests]


def test_choices_of_one_token_are_one_ask_whether_a_cache_is_kept_or_not():
    requests = requests_of(*(([1, 2, 3], [token]) for token in (4, 5, 0, 1)))
    for abilities in (CACHE, NO_CACHE):
        vllm = StandIn()
        scored(requests, abilities, vllm=vllm)
        ((tokens, arguments),) = vllm.asked
        assert tokens == (1, 2, 3)
        assert sorted(arguments["logprob_token_ids"]) == [0, 1, 4, 5]
        assert "prompt_logprobs" not in arguments, "it would read no cache"


def test_few_tokens_after_a_long_context_are_asked_one_after_the_other_and_what_they_share_once():
    vllm = StandIn()
    context = [1, 2, 3, 4, 5, 0]
    scored(requests_of((context, [1, 2, 3]), (context, [1, 2, 4]), (context, [2, 2])), CACHE, vllm=vllm)
    asked = {tokens[6:]: arguments["logprob_token_ids"] for tokens, arguments in vllm.asked}
    assert asked == {(): [1, 2], (1,): [2], (1, 2): [3, 4], (2,): [2]}


@pytest.mark.parametrize(
    ("abilities", "context", "continuation"),
    [(CACHE, 5, 3), (CACHE, 1, 30), (NO_CACHE, 30, 2), (OLD, 30, 1)],
    ids=["few tokens before it", "a whole text", "nothing kept", "an older vLLM"],
)
def test_what_steps_would_read_again_is_asked_as_a_whole(abilities, context, continuation):
    vllm = StandIn()
    scored(requests_of(([1] * context, [2] * continuation)), abilities, vllm=vllm)
    ((tokens, arguments),) = vllm.asked
    assert tokens == (1,) * context + (2,) * continuation
    assert arguments["prompt_logprobs"] == 1


def test_what_begins_alike_is_asked_one_after_the_other():
    """Whole texts first: they read no cache, and fill it."""
    requests = requests_of(([3, 3, 3], [1]), ([1, 1], [2]), ([3, 3], [4]), ([1, 1], [2, 2, 2]), ([3, 3, 3], [2]))
    found = [ask.tokens for ask in asks([text_of(request, LENGTH) for request in requests], CACHE)]
    assert found == [(1, 1, 2, 2, 2), (1, 1), (3, 3, 3), (3, 3)]


def test_no_more_tokens_are_asked_for_at_once_than_vllm_takes():
    requests = requests_of(*(([0], [token]) for token in range(300)))
    found = list(asks([text_of(request, LENGTH) for request in requests], CACHE))
    assert [len(ask.wanted) for ask in found if isinstance(ask, NextTokens)] == [128, 128, 44]


def test_cut_as_lm_evals_vllm_model_cuts():
    """It leaves room for the token that vLLM always makes."""
    (request,) = requests_of((range(10), [10, 11]))
    assert text_of(request, 13).tokens == tuple(range(12))
    text = text_of(request, 9)
    assert (text.tokens, text.context, text.continuation) == (tuple(range(4, 12)), tuple(range(4, 10)), (10, 11))
    with pytest.raises(UserError, match="a continuation of 8 tokens is longer than the model's 7"):
        text_of(*requests_of(([0], range(8))), 9)


def test_equally_likely_tokens_are_all_first_choices():
    """As by lm-eval's vllm model; in 16 bits it happens."""
    (ask,) = asks([text_of(request, LENGTH) for request in requests_of(([1], [7]))], CACHE)
    same = SimpleNamespace(logprob=-0.5)
    output = SimpleNamespace(outputs=[SimpleNamespace(token_ids=[3], logprobs=[{3: same, 7: same}])])
    assert [one.is_greedy for one in ask.read(output)] == [True]
    (ask,) = asks([text_of(request, LENGTH) for request in requests_of(([1], [7]))], OLD)
    assert isinstance(ask, WholeText)
    assert [one.is_greedy for one in ask.read(SimpleNamespace(prompt_logprobs=[None, {7: same, 3: same}]))] == [True]


def test_scores_come_as_their_last_token_is_told_and_the_rest_is_given_up():
    vllm = StandIn()
    texts = [text_of(request, LENGTH) for request in requests_of(*(([number], [1]) for number in range(7)))]
    results = scores(texts, CACHE, ask=vllm.ask, step=vllm.step, abort=vllm.abort)
    assert next(results).key == "6"
    results.close()
    assert set(vllm.aborted) >= set(vllm.under_way)


def test_little_waits_with_vllm_at_once():
    vllm = StandIn()
    texts = [text_of(request, LENGTH) for request in requests_of(*(([number], [1]) for number in range(3000)))]
    results = scores(texts, CACHE, ask=vllm.ask, step=vllm.step, abort=vllm.abort)
    next(results)
    assert len(vllm.asked) == 1024
    assert len({one.key for one in results}) == 2999
