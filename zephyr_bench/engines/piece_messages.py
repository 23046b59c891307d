"""What the processes of a launch tell each other: requests and results as JSON.

A request's key stays at home: in a message it is known by its place in its piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_bench.engines.prefix_plan import common_prefix
from zephyr_bench.engines.protocol import CompletionRequest, EngineOptions, ModelSource
from zephyr_bench.records import GeneratedToken, Generation, Sampling, ScoredTokens, ScoreRequest

if TYPE_CHECKING:
    from zephyr_bench.engines.transformers_engine import TransformersEngine


@dataclass(frozen=True)
class Work:
    """A kind of work: how its requests and results travel, and what does it."""

    name: str
    pack: Callable[[Sequence[Any]], list[Any]]
    unpack: Callable[[list[Any]], list[Any]]
    pack_result: Callable[[Any], list[Any]]  # the place first
    unpack_result: Callable[[list[Any]], Any]
    ask: Callable[[TransformersEngine, list[Any]], Iterator[Any]]


def _pack_scores(requests: Sequence[ScoreRequest]) -> list[Any]:
    """Each context without what it begins with like the one before."""
    packed: list[Any] = []
    before: tuple[int, ...] = ()
    for request in requests:
        same = common_prefix(before, request.context)
        packed.append([same, request.context[same:], request.continuation])
        before = request.context
    return packed


def _unpack_scores(packed: list[Any]) -> list[ScoreRequest]:
    requests: list[ScoreRequest] = []
    context: tuple[int, ...] = ()
    for place, (same, rest, continuation) in enumerate(packed):
        context = (*context[:same], *rest)
        requests.append(ScoreRequest(str(place), context, tuple(continuation)))
    return requests


def _pack_completions(requests: Sequence[CompletionRequest]) -> list[Any]:
    """Of a known answer only its length is wanted."""
    return [
        {
            "prompt": request.prompt,
            "sampling": asdict(request.sampling),
            "made": None if request.made is None else request.made.completion_tokens or 0,
            "top_logprobs": request.top_logprobs,
        }
        for request in requests
    ]


def _unpack_completions(packed: list[Any]) -> list[CompletionRequest]:
    """Whether a prompt may leave no room for an answer was decided where it was asked."""
    return [
        CompletionRequest(
            str(place),
            tuple(row["prompt"]),
            replace(Sampling(**row["sampling"]), stop=tuple(row["sampling"]["stop"])),
            None if row["made"] is None else Generation(str(place), "", "stop", len(row["prompt"]), row["made"]),
            row["top_logprobs"],
            or_nothing=True,
        )
        for place, row in enumerate(packed)
    ]


def _pack_generation(result: Generation) -> list[Any]:
    tokens = [[token.text, dict(token.alternatives)] for token in result.tokens]
    counts = result.prompt_tokens, result.completion_tokens
    return [int(result.key), result.text, result.finish_reason, *counts, tokens]


def _unpack_generation(packed: list[Any]) -> Generation:
    place, text, reason, prompt_tokens, completion_tokens, tokens = packed
    told = tuple(GeneratedToken(token, alternatives) for token, alternatives in tokens)
    return Generation(str(place), text, reason, prompt_tokens, completion_tokens, told)


SCORE = Work(
    "score",
    _pack_scores,
    _unpack_scores,
    lambda result: [int(result.key), result.log_prob, result.is_greedy, result.tokens],
    lambda packed: ScoredTokens(str(packed[0]), *packed[1:]),
    lambda engine, requests: engine.score(requests),
)
COMPLETE = Work(
    "complete",
    _pack_completions,
    _unpack_completions,
    _pack_generation,
    _unpack_generation,
    lambda engine, requests: engine.complete(requests),
)
WORKS = {work.name: work for work in (SCORE, COMPLETE)}


def pack_engine(model: ModelSource, options: EngineOptions) -> dict[str, Any]:
    """What an engine is made of elsewhere."""
    folder = Path(model.location)
    return {
        "model": {
            "name": model.name,
            "location": str(folder.resolve()) if folder.is_dir() else model.location,
            "fingerprint": model.fingerprint,
        },
        "options": {
            "dtype": options.dtype,
            "device": options.device,
            "batch_size": options.batch_size,
            "trust_remote_code": options.trust_remote_code,
            "include": [str(place.resolve()) for place in options.include],
        },
    }


def unpack_engine(packed: dict[str, Any]) -> tuple[ModelSource, EngineOptions]:
    options = {**packed["options"], "include": tuple(map(Path, packed["options"]["include"]))}
    return ModelSource(**packed["model"]), EngineOptions(**options)
