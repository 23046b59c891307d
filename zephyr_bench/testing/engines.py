"""Conformance of an engine: what every Engine promises, as functions that raise AssertionError.

A plug-in's author runs them with a factory of their engine over any small chat model:

    import pytest
    from zephyr_bench.testing.engines import CHECKS, SCORING_CHECKS

    @pytest.mark.parametrize("check", [*CHECKS, *SCORING_CHECKS], ids=lambda check: check.__name__)
    def test_engine_conforms(check):
        check(lambda: MyEngine(source, EngineOptions()))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from zephyr_bench.engines.protocol import Engine, ScoringEngine
from zephyr_bench.records import Generation, GenerationRequest, Sampling, ScoreRequest

EngineFactory = Callable[[], Engine]
ScoringEngineFactory = Callable[[], ScoringEngine]

_QUESTIONS = ("Say hello.", "Name a colour, and say in a long sentence why you like it.", "2+2=", "Why?")
_SAMPLED = Sampling(temperature=0.8, top_p=0.9, max_new_tokens=12, seed=7)
_TOLERANCE = 1e-3  # of a log-probability; a batch changes the order of additions


def has_a_model_and_a_stable_fingerprint(make: EngineFactory) -> None:
    first, second = make(), make()
    assert isinstance(first, Engine), "lacks a member of the Engine protocol"
    assert first.fingerprint, "has no fingerprint"
    assert first.fingerprint == second.fingerprint, "two engines alike differ in fingerprint"
    assert first.model.name, "the model has no name"
    assert first.model.fingerprint, "the model has no fingerprint"


def answers_each_request_once(make: EngineFactory) -> None:
    requests = _requests(Sampling(max_new_tokens=8))
    keys = [result.key for result in _generate(make, requests)]
    assert sorted(keys) == sorted(request.key for request in requests), f"asked {len(requests)}, got keys {keys}"


def makes_no_more_tokens_than_asked(make: EngineFactory) -> None:
    limits = (1, 3, 5, 8)
    requests = [
        replace(request, sampling=Sampling(max_new_tokens=limit))
        for request, limit in zip(_requests(Sampling()), limits, strict=True)
    ]
    for result in _generate(make, requests):
        limit = limits[int(result.key)]
        made = result.completion_tokens
        assert made is not None, "completion_tokens is not counted"
        assert made <= limit, f"{made} tokens, asked for {limit} at most"
        assert result.finish_reason in ("stop", "length"), f"finish_reason is {result.finish_reason!r}"
        assert result.prompt_tokens, "prompt_tokens is not counted"


def greedy_answers_do_not_depend_on_the_batch(make: EngineFactory) -> None:
    _same_alone_and_together(make, Sampling(max_new_tokens=12))


def sampled_answers_depend_on_their_seed_only(make: EngineFactory) -> None:
    _same_alone_and_together(make, _SAMPLED)


def other_seeds_give_other_answers(make: EngineFactory) -> None:
    hot = Sampling(temperature=1.5, max_new_tokens=12)
    requests = [
        GenerationRequest(str(seed), ({"role": "user", "content": _QUESTIONS[1]},), replace(hot, seed=seed))
        for seed in range(6)
    ]
    assert len({result.text for result in _generate(make, requests)}) > 1, "six seeds gave one answer"


def stop_strings_end_an_answer_and_are_left_out(make: EngineFactory) -> None:
    request = _requests(Sampling(max_new_tokens=24))[1]
    (whole,) = _generate(make, [request])
    assert len(whole.text) > 2, "the model answers too little to test stop strings: use another model"
    stop = whole.text[len(whole.text) // 2 :][:2]
    (cut,) = _generate(make, [replace(request, sampling=replace(request.sampling, stop=(stop,)))])
    assert cut.text == whole.text[: whole.text.index(stop)], f"stop string {stop!r}: got {cut.text!r}"
    assert cut.finish_reason == "stop", f"finish_reason is {cut.finish_reason!r} after a stop string"


def answers_again_after_close(make: EngineFactory) -> None:
    engine = make()
    request = _requests(Sampling(max_new_tokens=4))[0]
    (before,) = engine.generate([request])
    engine.close()
    (after,) = engine.generate([request])
    engine.close()
    assert before == after, "the answer changed after close"


def no_requests_give_no_results(make: EngineFactory) -> None:
    assert list(make().generate([])) == [], "results without requests"


def what_follows_from_a_result_is_answered_too(make: EngineFactory) -> None:
    first, second = _requests(Sampling(max_new_tokens=6))[:2]
    told: list[str] = []

    def then(result: Generation) -> list[GenerationRequest]:
        told.append(result.key)
        return [second] if result.key == first.key else []

    engine = make()
    keys = [result.key for result in engine.generate([first], then=then)]
    engine.close()
    assert keys == [first.key, second.key], f"results {keys}, expected the first request's and what followed from it"
    assert told == keys, f"was told of {told}"


def what_is_made_already_is_not_given_back(make: EngineFactory) -> None:
    requests = _requests(Sampling(max_new_tokens=6))
    made, later = _generate(make, requests[:1])[0], requests[-1]
    told: list[str] = []

    def then(result: Generation) -> list[GenerationRequest]:
        told.append(result.key)
        return [later] if result == made else []

    engine = make()
    known = [replace(requests[0], made=made), *requests[1:-1]]
    keys = [result.key for result in engine.generate(known, then=then)]
    engine.close()
    assert sorted(keys) == [request.key for request in requests[1:]], f"results {keys}"
    assert sorted(told) == [request.key for request in requests], f"was told of {told}"


def scores_each_request_once(make: ScoringEngineFactory) -> None:
    engine = make()
    assert isinstance(engine, ScoringEngine), "lacks a member of the ScoringEngine protocol"
    requests = _score_requests(engine)
    results = {result.key: result for result in engine.score(requests)}
    engine.close()
    assert sorted(results) == sorted(request.key for request in requests), f"got keys {sorted(results)}"
    for request in requests:
        result = results[request.key]
        assert result.tokens == len(request.continuation), f"{result.tokens} tokens counted"
        assert -math.inf < result.log_prob <= 0, f"log-probability {result.log_prob}"


def scores_do_not_depend_on_the_batch(make: ScoringEngineFactory) -> None:
    engine = make()
    requests = _score_requests(engine)
    together = {result.key: result for result in engine.score(requests)}
    for request in requests:
        (alone,) = engine.score([request])
        difference = abs(alone.log_prob - together[request.key].log_prob)
        assert difference <= _TOLERANCE * len(request.continuation), f"differs by {difference} from the batch's"
    engine.close()


def scores_add_up_along_a_continuation(make: ScoringEngineFactory) -> None:
    """log p(ab | c) = log p(a | c) + log p(b | ca)"""
    engine = make()
    context, rest = tuple(engine.encode("The quick brown fox")), tuple(engine.encode(" jumps over it"))
    whole = ScoreRequest("whole", context, rest)
    parts = [
        ScoreRequest("first", context, rest[:1]),
        ScoreRequest("second", context + rest[:1], rest[1:]),
    ]
    found = {result.key: result.log_prob for result in engine.score([whole, *parts])}
    engine.close()
    difference = abs(found["whole"] - found["first"] - found["second"])
    assert difference <= _TOLERANCE * len(rest), f"parts and whole differ by {difference}"


def a_too_long_context_is_cut_on_the_left(make: ScoringEngineFactory) -> None:
    engine = make()
    word, rest = engine.encode(" word"), tuple(engine.encode(" end"))
    long = tuple((word * (engine.max_length // len(word) + 2))[: engine.max_length + 5])
    kept = long[-(engine.max_length + 1 - len(rest)) :]
    found = {
        result.key: result.log_prob
        for result in engine.score([ScoreRequest("long", long, rest), ScoreRequest("cut", kept, rest)])
    }
    engine.close()
    assert abs(found["long"] - found["cut"]) <= _TOLERANCE * len(rest), f"long and cut context differ: {found}"


CHECKS: Sequence[Callable[[EngineFactory], None]] = (
    has_a_model_and_a_stable_fingerprint,
    answers_each_request_once,
    makes_no_more_tokens_than_asked,
    greedy_answers_do_not_depend_on_the_batch,
    sampled_answers_depend_on_their_seed_only,
    other_seeds_give_other_answers,
    stop_strings_end_an_answer_and_are_left_out,
    answers_again_after_close,
    no_requests_give_no_results,
    what_follows_from_a_result_is_answered_too,
    what_is_made_already_is_not_given_back,
)
SCORING_CHECKS: Sequence[Callable[[ScoringEngineFactory], None]] = (
    scores_each_request_once,
    scores_do_not_depend_on_the_batch,
    scores_add_up_along_a_continuation,
    a_too_long_context_is_cut_on_the_left,
)


def _requests(sampling: Sampling) -> list[GenerationRequest]:
    return [
        GenerationRequest(str(number), ({"role": "user", "content": text},), sampling)
        for number, text in enumerate(_QUESTIONS)
    ]


def _generate(make: EngineFactory, requests: Sequence[GenerationRequest]) -> list[Generation]:
    engine = make()
    try:
        return list(engine.generate(requests))
    finally:
        engine.close()


def _same_alone_and_together(make: EngineFactory, sampling: Sampling) -> None:
    requests = _requests(sampling)
    together = {result.key: result for result in _generate(make, requests)}
    for request in requests:
        (alone,) = _generate(make, [request])
        assert alone == together[request.key], f"{request.messages}: alone {alone}, together {together[request.key]}"


def _score_requests(engine: ScoringEngine) -> list[ScoreRequest]:
    """Shared contexts, continuations of one and of many tokens, one inside another."""
    context = tuple(engine.encode("Question: what is the capital of France?\nAnswer:"))
    other = tuple(engine.encode("A"))
    texts = (" Paris", " Paris is the capital", " London", " A")
    requests = [ScoreRequest(f"{number}", context, tuple(engine.encode(text))) for number, text in enumerate(texts)]
    return [*requests, ScoreRequest("other", other, tuple(engine.encode(" long way to go")))]
