"""Judges whose model runs here, by one of our engines: transformers or vllm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

from zephyr_bench.engines import missing_for, open_engine
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.engines.server import sendable
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.judges.chat_judge import ChatJudge
from zephyr_bench.judges.protocol import JudgeOptions, refuse_server
from zephyr_bench.judges.specs import ChatSpec, local_model
from zephyr_bench.records import GenerationRequest, Judgment, Match

_AT_ONCE = 512  # matches that the engine orders by length; the rest is read when these are judged


class LocalSpec(ChatSpec):
    kind: Literal["transformers", "vllm"]
    dtype: str = "auto"


class LocalJudge(ChatJudge):
    """`local`: its weights need this machine's memory."""

    Spec = LocalSpec
    local = True

    def __init__(self, spec: LocalSpec, *, name: str, folder: Path, options: JudgeOptions) -> None:
        refuse_server(name, options)
        self._model = local_model(spec.model, folder)
        self._running: EngineOptions = replace(options.engine, engine=spec.kind, dtype=spec.dtype, base_url=None)
        identity = {"kind": spec.kind, "temperature": spec.temperature, "max_tokens": spec.max_tokens}
        engine = lambda: open_engine(self._model, self._running)  # noqa: E731
        super().__init__(name, spec.form(folder), spec.sampling, identity, None, options, engine)

    def missing(self) -> list[str]:
        return [*missing_for(self._model, self._running), *super().missing()]

    def _request(self, match: Match) -> GenerationRequest:
        """Tokenizers take no half of a surrogate pair, which an answer may hold."""
        asked = super()._request(match)
        return replace(asked, messages=tuple({**one, "content": sendable(one["content"])} for one in asked.messages))

    def _grade(self, waiting: Iterator[Match]) -> Iterator[Judgment]:
        while some := list(islice(waiting, _AT_ONCE)):
            yield from super()._grade(iter(some))

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float | None:
        return 0.0

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint([super().fingerprint, self._engine.fingerprint])
