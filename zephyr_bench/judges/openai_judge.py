"""Judges by any server that speaks OpenAI's Chat Completions API."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from zephyr_bench.engines.openai_batch import OpenAiBatchEngine
from zephyr_bench.engines.openai_chat import OpenAiChat
from zephyr_bench.engines.protocol import Engine
from zephyr_bench.engines.remote_engine import served_by
from zephyr_bench.judges.chat_judge import ChatJudge
from zephyr_bench.judges.protocol import JudgeOptions
from zephyr_bench.judges.specs import ServedSpec


class OpenAiSpec(ServedSpec):
    kind: Literal["openai"]
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str = "OPENAI_API_KEY"
    batch: bool = False  # by the Batch API: half the price, an answer within a day
    poll_seconds: float = Field(60.0, gt=0)  # between two looks at a pending batch
    parameters: dict[str, Any] = Field(default_factory=dict)  # into each request as they stand; null takes one out


class OpenAiJudge(ChatJudge):
    Spec = OpenAiSpec

    def __init__(self, spec: OpenAiSpec, *, name: str, folder: Path, options: JudgeOptions) -> None:
        told = spec.at(options)
        self._batched = spec.batch or options.batch
        self._poll_seconds = spec.poll_seconds
        self._chat = OpenAiChat(told.server(name), spec.model, extra=spec.parameters)
        identity = {**told.identity(), **({"parameters": spec.parameters} if spec.parameters else {})}
        prices = spec.usd_per_million_tokens
        if prices and self._batched:
            prices = prices.half()
        super().__init__(name, spec.form(folder), spec.sampling, identity, prices, options, self._open)

    def _open(self) -> Engine:
        if self._batched:
            return OpenAiBatchEngine(self._chat, poll_seconds=self._poll_seconds)
        return served_by(self._chat, backend="openai")

    def missing(self) -> list[str]:
        absent = self._chat.server.missing(f"judge {self.name}", "choose another judge")
        return [*self._chat.missing(), *absent, *super().missing()]
