"""Chats to any server that speaks OpenAI's Chat Completions API."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from zephyr_bench.engines.sdk_chat import SdkChat
from zephyr_bench.engines.server import Server, sendable
from zephyr_bench.records import GeneratedToken, Generation, GenerationRequest


class OpenAiChat(SdkChat):
    """`extra` parameters go into each request as they stand; null takes one out."""

    sdk = "openai"
    install = "pip install openai"
    speaks = "Chat Completions"

    def __init__(self, server: Server, model: str, *, extra: Mapping[str, Any]) -> None:
        super().__init__(server, model)
        self._extra = dict(extra)

    def open(self, sdk: ModuleType, http: Any) -> Any:
        server = self.server
        key, timeout = server.key() or "none", server.timeout_seconds
        return sdk.AsyncOpenAI(api_key=key, base_url=server.base_url, max_retries=0, timeout=timeout, http_client=http)

    async def send(self, client: Any, request: GenerationRequest) -> str:
        return str(await client.post("/chat/completions", cast_to=str, body=self.body(request)))

    def body(self, request: GenerationRequest) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{**message, "content": sendable(message["content"])} for message in request.messages],
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_new_tokens,
        }
        if sampling.temperature > 0:
            body |= {"top_p": sampling.top_p, "seed": sampling.seed}
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if request.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        return {name: value for name, value in {**body, **self._extra}.items() if value is not None}

    def read(self, request: GenerationRequest, reply: Any) -> Generation:
        choice = reply["choices"][0]
        text = _said(choice["message"])
        reason = "length" if choice.get("finish_reason") == "length" else "stop"
        told = ((choice.get("logprobs") or {}).get("content") or []) if request.top_logprobs else []
        tokens = tuple(
            GeneratedToken(here["token"], {at["token"]: float(at["logprob"]) for at in here["top_logprobs"]})
            for here in told
        )
        usage = reply.get("usage") or {}
        return Generation(request.key, text, reason, usage.get("prompt_tokens"), usage.get("completion_tokens"), tokens)


def _said(message: Mapping[str, Any]) -> str:
    """The text; where a tool or function was called, the arguments of the first call, which are JSON."""
    calls = [*(call["function"] for call in message.get("tool_calls") or ()), message.get("function_call")]
    return str((calls[0] or {}).get("arguments") or message.get("content") or "")
