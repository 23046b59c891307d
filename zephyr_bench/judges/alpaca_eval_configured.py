"""A judge by an evaluator config of alpaca_eval (0.6.6) that was read: whom it asks, and what it need not ask.

Its form is alpaca_eval_form.py's. Who comes first is for the benchmark to say. Two equal texts are a tie, and nobody
is asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Literal, cast

from pydantic import Field, field_validator

from zephyr_bench.engines import missing_for, open_engine
from zephyr_bench.engines.anthropic_chat import AnthropicChat
from zephyr_bench.engines.openai_batch import OpenAiBatchEngine
from zephyr_bench.engines.openai_chat import OpenAiChat
from zephyr_bench.engines.plain_text import OpenAiText, TextEngine
from zephyr_bench.engines.protocol import CompletingEngine, Engine
from zephyr_bench.engines.remote_engine import served_by
from zephyr_bench.engines.sdk_chat import SdkChat
from zephyr_bench.engines.server import Server, check_url, told_url
from zephyr_bench.errors import UserError, ZephyrBenchError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.judges.alpaca_eval_calls import ModelCall, call_of
from zephyr_bench.judges.alpaca_eval_config import read_annotator
from zephyr_bench.judges.alpaca_eval_form import AlpacaEvalForm
from zephyr_bench.judges.chat_judge import ChatJudge
from zephyr_bench.judges.prices import Prices
from zephyr_bench.judges.protocol import JudgeOptions
from zephyr_bench.judges.specs import local_model
from zephyr_bench.published_file import PublishedFile
from zephyr_bench.recipe import Entry
from zephyr_bench.records import Judgment, Match

_AT_ONCE = 512  # matches that an engine here orders by length; the rest is read when these are judged
_ADDRESSES = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}
_KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


class AlpacaEvalSpec(Entry):
    """What a YAML of ours adds to the config that it points to; how the model is asked, the config says."""

    kind: Literal["alpaca-eval"] = "alpaca-eval"
    description: str = ""
    config: PublishedFile
    prompt_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")  # of the prompt template that the config names
    base_url: str | None = None  # of the config's own API at another address
    api_key_env: str | None = None  # None: that of OpenAI or Anthropic; servers on this machine need no key
    concurrency: int | None = Field(None, gt=0)  # calls at once; None: the config's num_procs, else found out
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)
    max_retries: int = Field(6, ge=0)  # of one call
    timeout_seconds: float = Field(120.0, gt=0)  # of one try
    poll_seconds: float = Field(60.0, gt=0)  # between two looks at a pending batch
    usd_per_million_tokens: Prices | None = None  # None: the config's price_per_token

    _checked = field_validator("base_url")(lambda value: value if value is None else check_url(value))


class ConfiguredJudge(ChatJudge):
    """Raises UserError where the config can't be read or its model can't be asked. `local`: it runs here."""

    _price_key = "price_per_token (below completions_kwargs)"

    def __init__(self, spec: AlpacaEvalSpec, *, name: str, folder: Path, options: JudgeOptions) -> None:
        annotator = read_annotator(spec.config.locate(folder))
        template = annotator.template(spec.prompt_sha256)
        call = call_of(annotator, template, at_server=options.base_url is not None)
        self._fixed_order = not annotator.config.is_randomize_output_order
        self.local = call.backend in ("transformers", "vllm")
        self._model = local_model(call.model, annotator.path.parent) if self.local else call.model
        self._running = replace(options.engine, engine=call.backend, dtype=call.dtype, base_url=None)
        self._text = not call.chat
        self._client = None if self.local else _client(spec, call, name, options)
        self._poll_seconds = spec.poll_seconds if options.batch and call.backend == "openai" else None
        if self._text and self._poll_seconds:
            raise UserError(f"--batch: judge {name} asks with plain text, which the Batch API does not take here.")
        super().__init__(
            name,
            AlpacaEvalForm(template, annotator, call),
            call.sampling,
            {
                "kind": spec.kind,
                "backend": call.backend,
                "server": self._client.server.base_url if self._client else None,
                "model": None if self.local else call.model,
                "sampling": replace(call.sampling, seed=0).fingerprint,
                "parameters": call.parameters,
            },
            self._prices_of(spec, call),
            options,
            self._open,
        )

    @property
    def fixed_order(self) -> bool:
        """The benchmark puts the baseline first, for every instruction."""
        return self._fixed_order

    @cached_property
    def fingerprint(self) -> str:
        asked = super().fingerprint
        return fingerprint([asked, self._engine.fingerprint]) if self.local else asked

    def missing(self) -> list[str]:
        if self._client is None:
            return [*missing_for(self._model, self._running), *super().missing()]
        absent = self._client.server.missing(f"judge {self.name}", "choose another judge")
        return [*self._client.missing(), *absent, *super().missing()]

    def _prices_of(self, spec: AlpacaEvalSpec, call: ModelCall) -> Prices | None:
        if self.local:
            return Prices(input=0.0, output=0.0)
        prices = spec.usd_per_million_tokens
        if prices is None and call.usd_per_token is not None:
            prices = Prices(input=call.usd_per_token * 1e6, output=call.usd_per_token * 1e6)
        return prices.half() if prices and self._poll_seconds else prices

    def _open(self) -> Engine:
        if self._client is None:
            engine = open_engine(self._model, self._running)
            return TextEngine(cast(CompletingEngine, engine)) if self._text else engine
        if self._poll_seconds and isinstance(self._client, OpenAiChat):
            return OpenAiBatchEngine(self._client, poll_seconds=self._poll_seconds)
        return served_by(self._client, backend=self._client.sdk)

    def _grade(self, waiting: Iterator[Match]) -> Iterator[Judgment]:
        """Those that nobody needs be asked of are yielded among the others, as they are met."""
        known: deque[Judgment] = deque()
        for match in waiting:
            if (judgment := self._unasked(match)) is not None:
                yield judgment
                continue
            asked = chain([match], self._to_ask(waiting, known))
            try:
                for judgment in super()._grade(islice(asked, _AT_ONCE) if self.local else asked):
                    yield judgment
                    while known:
                        yield known.popleft()
            except ZephyrBenchError:
                yield from known
                raise
            while known:
                yield known.popleft()

    def _to_ask(self, waiting: Iterator[Match], known: deque[Judgment]) -> Iterator[Match]:
        for match in waiting:
            if (judgment := self._unasked(match)) is not None:
                known.append(judgment)
            else:
                yield match

    def _unasked(self, match: Match) -> Judgment | None:
        """Its judgment, where the judge need not or can't be asked. Raises UserError for what is no comparison."""
        if match.rival is None:
            raise UserError(f"judge {self.name} only compares two answers; name another judge to grade one by one.")
        if match.turn > 1:
            raise UserError(f"judge {self.name} is shown one instruction; name another judge for turn {match.turn}.")
        score, reason = None, None
        if (match.answers[0].text or "") == (match.rival[0].text or ""):
            score = 0.5
        else:
            try:
                self._form.chat(match)
            except ValueError as error:
                reason = f"an answer or the instruction makes the judge's prompt no chat: {error}"
        if score is None and reason is None:
            return None
        key = match.key(self.fingerprint)
        return Judgment(key, self.name, score, reason, input_tokens=0, output_tokens=0, cost_usd=0.0)


def _client(spec: AlpacaEvalSpec, call: ModelCall, name: str, options: JudgeOptions) -> SdkChat:
    told = told_url(options.base_url) if options.base_url is not None else None
    url = told or spec.base_url or call.base_url or _ADDRESSES[call.backend]
    server = Server(
        who=f"judge {name} at {url}",
        base_url=url,
        api_key_env=spec.api_key_env or _KEYS[call.backend],
        tries=spec.max_retries + 1,
        timeout_seconds=spec.timeout_seconds,
        concurrency=options.concurrency or spec.concurrency or call.concurrency,
        requests_per_minute=spec.requests_per_minute,
        tokens_per_minute=spec.tokens_per_minute,
    )
    if call.backend == "anthropic":
        return AnthropicChat(server, call.model)
    kind = OpenAiChat if call.chat else OpenAiText
    return kind(server, call.model, extra=call.parameters)
