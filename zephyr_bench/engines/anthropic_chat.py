"""Chats to Anthropic's Messages API."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from zephyr_bench.engines.sdk_chat import SdkChat
from zephyr_bench.engines.server import sendable
from zephyr_bench.records import Generation, GenerationRequest


class AnthropicChat(SdkChat):
    """Its API has neither a seed nor log-probabilities."""

    sdk = "anthropic"
    install = 'pip install "zephyr-bench[anthropic]"'
    speaks = "Messages"

    def open(self, sdk: ModuleType, http: Any) -> Any:
        server = self.server
        key, timeout = server.key() or "none", server.timeout_seconds
        return sdk.AsyncAnthropic(
            api_key=key, base_url=server.base_url, max_retries=0, timeout=timeout, http_client=http
        )

    async def send(self, client: Any, request: GenerationRequest) -> str:
        sampling = request.sampling
        chat = [{"role": message["role"], "content": sendable(message["content"])} for message in request.messages]
        system = "\n\n".join(message["content"] for message in chat if message["role"] == "system")
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [message for message in chat if message["role"] != "system"],
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
        }
        if system:
            body["system"] = system
        if sampling.stop:
            body["stop_sequences"] = list(sampling.stop)
        return str(await client.post("/v1/messages", cast_to=str, body=body))

    def read(self, request: GenerationRequest, reply: Any) -> Generation:
        text = "".join(part["text"] for part in reply["content"] if part["type"] == "text")
        reason = "length" if reply["stop_reason"] == "max_tokens" else "stop"
        usage = reply.get("usage") or {}
        return Generation(request.key, text, reason, usage.get("input_tokens"), usage.get("output_tokens"))
