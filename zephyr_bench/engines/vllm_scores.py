"""Log-probabilities by vLLM: what it is asked, and what is read from its answers.

In: token ids of contexts and continuations. Out: what to ask, in the order in which vLLM has least to read, and each
score once the last of its asks is answered. How vLLM is started and asked is vllm_engine.py's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

from zephyr_bench.engines.score_inputs import model_input
from zephyr_bench.records import ScoredTokens, ScoreRequest

UNREAD = 2  # vLLM reads the last token too, and generates one (lm-eval 0.4.13, vllm_causallms.py, cuts alike)
_TARGETS = 128  # vLLM's MAX_LOGPROB_TOKEN_IDS
_AT_ONCE = 1024  # under way; more than it takes up in one step, and soon told


@dataclass(frozen=True)
class Text:
    """A context with its continuation, which begins at `start`."""

    key: str
    tokens: tuple[int, ...]
    start: int

    @property
    def context(self) -> tuple[int, ...]:
        return self.tokens[: self.start]

    @property
    def continuation(self) -> tuple[int, ...]:
        return self.tokens[self.start :]


@dataclass(frozen=True)
class Abilities:
    """Of the vLLM that is running.

    It reads no cache for a request of `prompt_logprobs`, and tells all of the prompt's; for one of `logprob_token_ids`
    (of the token that comes next) it reads the cache, in whole blocks.
    """

    next_tokens: bool
    block: int | None  # tokens; None: it keeps nothing of what it has read

    @classmethod
    def of(cls, engine: Any) -> Abilities:
        """Of vLLM's LLMEngine, and of the requests that this version of vLLM takes."""
        from vllm import SamplingParams

        cache = engine.vllm_config.cache_config
        keeps = bool(cache.enable_prefix_caching)
        return cls(hasattr(SamplingParams, "logprob_token_ids"), cache.block_size if keeps else None)

    def read_by_steps(self, text: Text) -> bool:
        """Whether asking after each token by itself is the less to read: a block at most each time, and the context
        once for all that follow it."""
        count = len(text.tokens) - text.start
        return self.next_tokens and (count == 1 or (self.block is not None and count * self.block <= text.start))


@dataclass
class _Sum:
    """A score to which parts are still missing."""

    key: str
    tokens: int
    parts: dict[int, tuple[float, bool]] = field(default_factory=dict)  # place in the continuation -> its token's

    def add(self, place: int, log_prob: float, likeliest: float) -> Iterator[ScoredTokens]:
        """Itself, where it was the last. Of equally likely tokens each is the first choice, as by lm-eval's vllm."""
        self.parts[place] = log_prob, log_prob >= likeliest
        if len(self.parts) == self.tokens:
            found = [self.parts[place] for place in range(self.tokens)]
            yield ScoredTokens(self.key, sum(value for value, _ in found), all(first for _, first in found), len(found))


@dataclass(frozen=True)
class NextTokens:
    """Asks how likely each of some tokens is to come next."""

    tokens: tuple[int, ...]
    wanted: Mapping[int, list[tuple[_Sum, int]]]  # token -> whose it is, and at what place

    @property
    def arguments(self) -> dict[str, Any]:
        return {"logprob_token_ids": list(self.wanted), "logprobs": len(self.wanted)}  # older versions want both

    def read(self, output: Any) -> Iterator[ScoredTokens]:
        (completion,) = output.outputs
        told = completion.logprobs[0]  # of those, and of the token that it chose
        likeliest = told[completion.token_ids[0]].logprob
        for token, owners in self.wanted.items():
            for owner, place in owners:
                yield from owner.add(place, told[token].logprob, likeliest)


@dataclass(frozen=True)
class WholeText:
    """Asks how likely each token of the text is, and the likeliest in its place."""

    text: Text
    owner: _Sum

    @property
    def tokens(self) -> tuple[int, ...]:
        return self.text.tokens

    @property
    def arguments(self) -> dict[str, Any]:
        return {"prompt_logprobs": 1}

    def read(self, output: Any) -> Iterator[ScoredTokens]:
        for place, token in enumerate(self.text.continuation):
            told = output.prompt_logprobs[self.text.start + place]
            likeliest = max(one.logprob for one in told.values())
            yield from self.owner.add(place, told[token].logprob, likeliest)


Ask = NextTokens | WholeText


def text_of(request: ScoreRequest, max_length: int) -> Text:
    """The request as vLLM reads it. Too long a context loses its beginning. Raises UserError."""
    inputs, first = model_input(request, max_length - UNREAD)
    return Text(request.key, (*inputs, request.continuation[-1]), first + 1)


def scores(
    texts: Iterable[Text],
    abilities: Abilities,
    *,
    ask: Callable[[tuple[int, ...], dict[str, Any]], str],
    step: Callable[[], Iterable[Any]],
    abort: Callable[[Iterable[str]], None],
) -> Iterator[ScoredTokens]:
    """Each at the step that answers its last ask. `ask` names what it begins; what is given up is aborted."""
    waiting = asks(texts, abilities)
    under_way: dict[str, Ask] = {}
    try:
        while True:
            for one in islice(waiting, _AT_ONCE - len(under_way)):
                under_way[ask(one.tokens, scoring_arguments(one))] = one
            if not under_way:
                return
            for output in step():
                yield from under_way.pop(output.request_id).read(output)
    finally:
        abort(under_way)


def asks(texts: Iterable[Text], abilities: Abilities) -> Iterator[Ask]:
    """Those that begin alike come after each other, so that the cache still holds what they share.

    Of one context, what is asked as a whole comes first: it doesn't read the cache, and fills it.
    """
    for context, texts_of_it in groupby(sorted(texts, key=lambda text: text.tokens), key=lambda text: text.context):
        steps: dict[tuple[int, ...], dict[int, list[tuple[_Sum, int]]]] = {}
        for text in texts_of_it:
            continuation = text.continuation
            owner = _Sum(text.key, len(continuation))
            if not abilities.read_by_steps(text):
                yield WholeText(text, owner)
                continue
            for place, token in enumerate(continuation):
                steps.setdefault(continuation[:place], {}).setdefault(token, []).append((owner, place))
        for step, wanted in steps.items():
            tokens = iter(wanted)
            while some := list(islice(tokens, _TARGETS)):
                yield NextTokens(context + step, {token: wanted[token] for token in some})


def scoring_arguments(ask: Ask) -> dict[str, Any]:
    """vLLM's SamplingParams, by keyword."""
    return {"temperature": 0.0, "max_tokens": 1, "detokenize": False, **ask.arguments}
