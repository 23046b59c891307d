"""Plain prompts, continued as they stand, without a chat template: by a server's Completions API, or by an engine here.

A request's one message holds the prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from zephyr_bench.engines.openai_chat import OpenAiChat
from zephyr_bench.engines.protocol import CompletingEngine, CompletionRequest, FollowUp
from zephyr_bench.records import Generation, GenerationRequest


class OpenAiText(OpenAiChat):
    """As OpenAI's older API takes prompts."""

    speaks = "Completions"

    async def send(self, client: Any, request: GenerationRequest) -> str:
        return str(await client.post("/completions", cast_to=str, body=self.body(request)))

    def body(self, request: GenerationRequest) -> dict[str, Any]:
        body = super().body(request)
        (message,) = body.pop("messages")
        return {**body, "prompt": [message["content"]]}

    def read(self, request: GenerationRequest, reply: Any) -> Generation:
        choice, usage = reply["choices"][0], reply.get("usage") or {}
        reason = "length" if choice.get("finish_reason") == "length" else "stop"
        counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
        return Generation(request.key, choice["text"], reason, *counts)


class TextEngine:
    """An engine's plain texts in place of its chats; the tokenizer puts its special tokens before and after them."""

    def __init__(self, engine: CompletingEngine) -> None:
        self.model = engine.model
        self._engine = engine

    @property
    def fingerprint(self) -> str:
        return self._engine.fingerprint

    def generate(self, requests: Iterable[GenerationRequest], *, then: FollowUp | None = None) -> Iterator[Generation]:
        """All first, then what follows from them."""
        asked = list(requests)
        while asked:
            results = [request.made for request in asked if request.made is not None]
            for result in self._engine.complete(map(self._tokenized, asked)):
                yield result
                results.append(result)
            asked = [request for result in results for request in (then(result) if then else ())]

    def _tokenized(self, request: GenerationRequest) -> CompletionRequest:
        (message,) = request.messages
        prompt = tuple(self._engine.encode(message["content"], add_special_tokens=True))
        return CompletionRequest(
            request.key, prompt, request.sampling, request.made, request.top_logprobs, request.or_nothing
        )

    def close(self) -> None:
        self._engine.close()
