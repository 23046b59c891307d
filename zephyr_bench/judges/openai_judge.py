"""Judges by any server that speaks OpenAI's Chat Completions API."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from zephyr_bench.engines.openai_chat import OpenAiChat
from zephyr_bench.engines.remote_engine import served_by
from zephyr_bench.judges.chat_judge import ChatJudge
from zephyr_bench.judges.protocol import JudgeOptions
from zephyr_bench.judges.specs import ServedSpec


class OpenAiSpec(ServedSpec):
    kind: Literal["openai"]
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str = "OPENAI_API_KEY"
    parameters: dict[str, Any] = Field(default_factory=dict)  # into each request as they stand; null takes one out


class OpenAiJudge(ChatJudge):
    Spec = OpenAiSpec

    def __init__(self, spec: OpenAiSpec, *, name: str, folder: Path, options: JudgeOptions) -> None:
        told = spec.at(options)
        self._chat = OpenAiChat(told.server(name), spec.model, extra=spec.parameters)
        super().__init__(
            name,
            spec.form(folder),
            spec.sampling,
            {**told.identity(), **({"parameters": spec.parameters} if spec.parameters else {})},
            spec.usd_per_million_tokens,
            options,
            lambda: served_by(self._chat, backend="openai"),
        )

    def missing(self) -> list[str]:
        absent = self._chat.server.missing(f"judge {self.name}", "choose another judge")
        return [*self._chat.missing(), *absent, *super().missing()]
