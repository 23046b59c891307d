"""Judges by Anthropic's Messages API, through its official SDK (extra `anthropic`)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from zephyr_bench.engines.anthropic_chat import AnthropicChat
from zephyr_bench.engines.remote_engine import served_by
from zephyr_bench.judges.chat_judge import ChatJudge
from zephyr_bench.judges.protocol import JudgeOptions
from zephyr_bench.judges.specs import ServedSpec


class AnthropicSpec(ServedSpec):
    kind: Literal["anthropic"]
    base_url: str = "https://api.anthropic.com"
    api_key_env: str = "ANTHROPIC_API_KEY"
    temperature: float = Field(0.0, ge=0, le=1)


class AnthropicJudge(ChatJudge):
    Spec = AnthropicSpec

    def __init__(self, spec: AnthropicSpec, *, name: str, folder: Path, options: JudgeOptions) -> None:
        told = spec.at(options)
        self._chat = AnthropicChat(told.server(name), spec.model)
        super().__init__(
            name,
            spec.form(folder),
            spec.sampling,
            told.identity(),
            spec.usd_per_million_tokens,
            options,
            lambda: served_by(self._chat, backend="anthropic"),
        )

    def missing(self) -> list[str]:
        absent = self._chat.server.missing(f"judge {self.name}", "choose another judge")
        blind = f"probabilities of tokens for judge {self.name}: this API tells none; leave out expected"
        return [*self._chat.missing(), *absent, *([blind] if self._form.top_logprobs else []), *super().missing()]
