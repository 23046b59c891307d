"""Judges whose model runs here, by one of our engines: transformers or vllm."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from zephyr_bench.engines import missing_for, open_engine
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.judges.chat_judge import ChatJudge
from zephyr_bench.judges.protocol import JudgeOptions, refuse_server
from zephyr_bench.judges.specs import ChatSpec


class LocalSpec(ChatSpec):
    kind: Literal["transformers", "vllm"]
    dtype: str = "auto"


class LocalJudge(ChatJudge):
    """`local`: its weights need this machine's memory."""

    Spec = LocalSpec
    local = True

    def __init__(self, spec: LocalSpec, *, name: str, folder: Path, options: JudgeOptions) -> None:
        refuse_server(name, options)
        own = (folder / spec.model).resolve()  # a directory beside the YAML
        self._model = str(own) if spec.model.startswith(".") else spec.model
        self._running: EngineOptions = replace(options.engine, engine=spec.kind, dtype=spec.dtype, base_url=None)
        identity = {"kind": spec.kind, "temperature": spec.temperature, "max_tokens": spec.max_tokens}
        engine = lambda: open_engine(self._model, self._running)  # noqa: E731
        super().__init__(name, spec.form(folder), spec.sampling, identity, None, options, engine)

    def missing(self) -> list[str]:
        return [*missing_for(self._model, self._running), *super().missing()]

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float | None:
        return 0.0

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint([super().fingerprint, self._engine.fingerprint])
