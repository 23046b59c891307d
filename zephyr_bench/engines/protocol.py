"""What an engine is: one model that continues chats and, where it can, scores tokens.

An engine knows no benchmark, judge or store. A third party adds one by the entry point group
`zephyr_bench.engines`: name -> callable(model: ModelSource, options: EngineOptions) -> Engine.
`zephyr_bench.testing.engines` holds the conformance suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from zephyr_bench.records import Generation, GenerationRequest, Message, Sampling, ScoredTokens, ScoreRequest

_CHARACTERS_PER_TOKEN = 3  # about, and rather too many tokens than too few


@dataclass(frozen=True)
class EngineOptions:
    """How to run a model, whatever the model is. 'auto' leaves the choice to the engine."""

    engine: str = "transformers"
    dtype: str = "auto"
    device: str = "auto"
    batch_size: int | None = None  # None: chosen by the engine
    base_url: str | None = None  # of a server
    api_key_env: str = "OPENAI_API_KEY"  # the variable that holds the server's key
    concurrency: int | None = None  # calls to a server at once; None: found out
    trust_remote_code: bool = False
    include: tuple[Path, ...] = ()


@dataclass(frozen=True)
class ModelSource:
    """A model found but not loaded: where its files are and what they hash to.

    `location` is a directory of safetensors, or a hub id with the revision: owner/name@commit. `fingerprint` covers
    weights, config, tokenizer and chat template. `lineage` is the trainer's lineage.json where there is one.
    """

    name: str
    location: str
    fingerprint: str
    lineage: Mapping[str, Any] = field(default_factory=dict, hash=False)
    note: str = ""  # shown beside the name in reports: "quantised"


FollowUp = Callable[[Generation], Iterable[GenerationRequest]]
"""What to ask next, now that a result is there: the second turn of a dialogue, say."""


@runtime_checkable
class Engine(Protocol):
    """Continues chats.

    Making an engine is cheap and loads nothing; weights are loaded at the first call that needs
    them, and stay until `close`. Not thread safe.
    """

    model: ModelSource

    @property
    def fingerprint(self) -> str:
        """Changes when, and only when, an answer could: checkpoint, dtype, backend and its version."""
        ...

    def generate(self, requests: Iterable[GenerationRequest], *, then: FollowUp | None = None) -> Iterator[Generation]:
        """Each request's result exactly once, as it finishes, in any order; nothing for one that is `made`.

        `then` is told of each result, a new one once the caller has taken it, and what it gives back is asked beside
        the rest; where that leaves no room for an answer, the answer is empty and cut at the length. A
        result does not depend on the other requests beyond floating point; temperature 0 is greedy, and otherwise the
        request's own seed decides. `text` holds neither special tokens nor the stop string. Raises UserError (no chat
        template, prompt too long for the model) before the first result where it can, ServiceError where a server
        failed for good.
        """
        ...

    def close(self) -> None:
        """Frees the weights; a later call loads them again."""
        ...


@runtime_checkable
class TokenizingEngine(Engine, Protocol):
    """An engine that shows the model's tokenizer. Asking loads the tokenizer, never the weights."""

    @property
    def max_length(self) -> int:
        """Tokens of context and continuation together."""
        ...

    @property
    def start_token(self) -> int:
        """What stands before an empty context: BOS, or EOS where there is no BOS."""
        ...

    @property
    def end_token(self) -> int:
        """EOS."""
        ...

    @property
    def chat_template(self) -> str | None: ...

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]: ...

    def decode(self, tokens: Iterable[int]) -> str: ...

    def render(self, messages: Iterable[Message], *, add_generation_prompt: bool = True) -> str:
        """The chat through the tokenizer's own template, as text. Raises UserError without a template."""
        ...


@runtime_checkable
class ScoringEngine(TokenizingEngine, Protocol):
    """An engine that also tells log-probabilities of given tokens."""

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoredTokens]:
        """Each request's log-probability exactly once, as it is known, in any order.

        A context with its continuation longer than `max_length` is cut on the left, as lm-eval does. An engine that
        takes fewer tokens of input says so by a property `longest_scored`.
        """
        ...


@dataclass(frozen=True)
class CompletionRequest:
    """Token ids to continue as they stand, without a chat template. `key` comes back with the result."""

    key: str
    prompt: tuple[int, ...]
    sampling: Sampling
    made: Generation | None = None  # as a GenerationRequest's
    top_logprobs: int = 0  # likewise
    or_nothing: bool = False  # likewise


def most_tokens(request: GenerationRequest) -> tuple[int, int]:
    """(input, output) tokens of a call at most, about; without a tokenizer, for the pace and what it may cost."""
    characters = sum(len(message["content"]) for message in request.messages)
    return characters // _CHARACTERS_PER_TOKEN + 1, request.sampling.max_new_tokens


@runtime_checkable
class CompletingEngine(TokenizingEngine, Protocol):
    """An engine that also continues plain text: what lm-eval's generative tasks need."""

    def complete(self, requests: Iterable[CompletionRequest]) -> Iterator[Generation]:
        """As `generate`, from token ids."""
        ...
