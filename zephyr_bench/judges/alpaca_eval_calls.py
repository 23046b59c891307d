"""How the model of an evaluator config is asked: what `fn_completions` and `completions_kwargs` of alpaca_eval mean.

In: a config's annotator. Out: a ModelCall, with the parameters that alpaca_eval 0.6.6 sends (decoders/): top_p 1 and
temperature 0.7 where the config says none, no seed. Data only; alpaca_eval_judge.py opens the engine.

What differs on purpose: plain prompts are sent one a request, where alpaca_eval sends ten in a list; a prompt that
overflows the model is told as refused, where it tries shorter replies; a local Llama reads BOS once, where its
vllm_local_completions puts it before the template's own. `trust_remote_code` of a config gives no trust.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from zephyr_bench.engines.server import check_url
from zephyr_bench.errors import UserError
from zephyr_bench.judges.alpaca_eval_config import Annotator
from zephyr_bench.judges.alpaca_eval_prompt import END, START, chat_of
from zephyr_bench.recipe import Entry
from zephyr_bench.records import Sampling
from zephyr_bench.yaml_file import check_mapping, lines_below

_ELSEWHERE = "--judge-url URL runs the same config at a server that speaks OpenAI's API"
_UNLIMITED = 2048  # tokens that a reply may cost where the config sets no limit
# of transformers and vLLM: where and how fast it runs
_PLACEMENT = {
    "attn_implementation",
    "device_map",
    "distributed_executor_backend",
    "enable_chunked_prefill",
    "enforce_eager",
    "gpu_memory_utilization",
    "low_cpu_mem_usage",
    "max_model_len",
    "max_num_seqs",
    "pipeline_parallel_size",
    "swap_space",
    "tensor_parallel_size",
    "tokenizer_mode",
    "trust_remote_code",
}


@dataclass(frozen=True)
class ModelCall:
    """`chat`: the prompt is ChatML; else plain text, continued as it stands. `strip`: without blanks at its ends."""

    backend: Literal["openai", "anthropic", "transformers", "vllm"]
    model: str
    sampling: Sampling
    chat: bool
    strip: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)  # into each request as they stand; None takes one out
    base_url: str | None = None
    concurrency: int | None = None
    usd_per_token: float | None = None
    dtype: str = "auto"


class _Kwargs(Entry):
    price_per_token: float | None = Field(None, ge=0)
    num_procs: int | None = Field(None, gt=0)
    batch_size: int | None = Field(None, gt=0)  # prompts decoded together
    n_retries: int | None = None  # the judge's own are used
    sleep_time: float | None = None


class _ClientKwargs(Entry):
    """Of openai.OpenAI(…). The key is not among them: it belongs into the environment."""

    base_url: str | None = None

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        return value if value is None else check_url(value)


class _OpenAi(_Kwargs):
    """What is named here alpaca_eval uses itself (decoders/openai.py); the rest goes into the request."""

    model_config = ConfigDict(extra="allow")

    model_name: str
    max_tokens: int | None = Field(_UNLIMITED, gt=0)
    temperature: int | float | None = Field(0.7, ge=0)  # 0 is sent as it stands, and not as 0.0
    top_p: int | float | None = Field(1.0, gt=0, le=1)
    is_strip: bool = True
    requires_chatml: bool | None = None
    client_kwargs: _ClientKwargs | None = None
    openai_api_base: str | None = None  # alpaca_eval's older way to say a URL

    _checked = field_validator("openai_api_base")(lambda value: value if value is None else check_url(value))

    @model_validator(mode="after")
    def _known(self) -> _OpenAi:
        for key in sorted(self.parameters.keys() & _UNSUPPORTED.keys()):
            raise ValueError(f"{key}: {_UNSUPPORTED[key]}")
        return self

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @property
    def chat(self) -> bool:
        """As `_requires_chatml` tells chat models by their name."""
        if self.requires_chatml is not None:
            return self.requires_chatml
        name = self.model_name
        return not ("instruct" in name or ("gpt-3" in name and "turbo" not in name) or name.startswith("text-"))

    def call(self) -> ModelCall:
        own = {"max_tokens": self.max_tokens, "temperature": self.temperature, "top_p": self.top_p, "seed": None}
        most = self.max_tokens or self.parameters.get("max_completion_tokens") or _UNLIMITED
        client = self.client_kwargs or _ClientKwargs()
        return ModelCall(
            "openai",
            self.model_name,
            Sampling(self.temperature or 0.0, self.top_p or 1.0, most),
            self.chat,
            self.is_strip,
            {**own, **self.parameters},
            client.base_url or self.openai_api_base,
            self.num_procs,
            self.price_per_token,
        )


_IN_ENVIRONMENT = "is not read from here; put the key into the variable OPENAI_API_KEY"
_NEEDS_TOKENIZER = "needs the tokenizer of OpenAI's model; say logit_bias by token ids instead"
_UNSUPPORTED = {
    "client_config_path": "is not read; say the server by client_kwargs.base_url or --judge-url",
    "is_chat": "is not read; say requires_chatml",
    "n": "only one reply a request is read; leave it out",
    "openai_api_keys": _IN_ENVIRONMENT,
    "openai_organization_ids": _IN_ENVIRONMENT,
    "stream": "replies are read whole; leave it out",
    "tokens_to_avoid": _NEEDS_TOKENIZER,
    "tokens_to_favor": _NEEDS_TOKENIZER,
}


class _Anthropic(_Kwargs):
    model_name: str = "claude-v1"
    max_tokens_to_sample: int = Field(2048, gt=0)
    temperature: float = Field(0.7, ge=0, le=1)
    stop_sequences: tuple[str, ...] = ()
    client_function_name: Literal["messages", "completions"] = "messages"
    requires_chatml: bool = True

    def call(self) -> ModelCall:
        sampling = Sampling(self.temperature, max_new_tokens=self.max_tokens_to_sample, stop=self.stop_sequences)
        chat = self.requires_chatml and self.client_function_name == "messages"
        price = self.price_per_token
        return ModelCall("anthropic", self.model_name, sampling, chat, concurrency=self.num_procs, usd_per_token=price)


class _ModelKwargs(Entry):
    """Of vllm.LLM(…) and from_pretrained(…)."""

    model_config = ConfigDict(extra="allow")

    dtype: str | None = None
    torch_dtype: str | None = None

    @model_validator(mode="after")
    def _placement_alone(self) -> _ModelKwargs:
        for key in sorted((self.model_extra or {}).keys() - _PLACEMENT):
            raise ValueError(f"model_kwargs.{key}: no key that is known here; known: dtype, and where the model runs")
        return self

    @property
    def told_dtype(self) -> str:
        told = (self.dtype or self.torch_dtype or "auto").removeprefix("torch.")
        return {"half": "float16", "float": "float32"}.get(told, told)


class _Local(_Kwargs):
    model_name: str
    max_new_tokens: int = Field(gt=0)
    model_kwargs: _ModelKwargs = _ModelKwargs()


class _Vllm(_Local):
    temperature: float = Field(1.0, ge=0)  # as SamplingParams
    top_p: float = Field(1.0, gt=0, le=1)
    stop: str | tuple[str, ...] = ()
    is_chatml_prompt: bool = False

    def call(self) -> ModelCall:
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop
        sampling = Sampling(self.temperature, self.top_p, self.max_new_tokens, stop=stop)
        dtype = self.model_kwargs.told_dtype
        return ModelCall("vllm", self.model_name, sampling, self.is_chatml_prompt, dtype=dtype)


class _HuggingFace(_Local):
    do_sample: bool = False
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    is_fast_tokenizer: bool = True

    def call(self) -> ModelCall:
        sampling = Sampling(self.temperature if self.do_sample else 0.0, self.top_p, self.max_new_tokens)
        dtype = self.model_kwargs.told_dtype
        return ModelCall("transformers", self.model_name, sampling, chat=False, dtype=dtype)


class _Elsewhere(_Kwargs):
    """Of an API that has no client here, asked of another server: what all of them say."""

    model_name: str
    max_tokens: int = Field(_UNLIMITED, gt=0)
    temperature: float = Field(0.7, ge=0)
    do_sample: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {_LIMITS.get(key, key): value for key, value in given.items()}

    def call(self) -> ModelCall:
        temperature = 0.0 if self.do_sample is False else self.temperature
        return ModelCall("openai", self.model_name, Sampling(temperature, max_new_tokens=self.max_tokens), chat=False)


_LIMITS = dict.fromkeys(("max_new_tokens", "max_output_tokens", "max_tokens_to_sample"), "max_tokens")
_WITH_CLIENT: dict[str, type[Any]] = {
    "anthropic_completions": _Anthropic,
    "huggingface_local_completions": _HuggingFace,
    "openai_completions": _OpenAi,
    "vllm_local_completions": _Vllm,
}


def call_of(annotator: Annotator, template: str, *, at_server: bool) -> ModelCall:
    """`at_server`: the user names an OpenAI-compatible server, that runs whatever the config asks. Raises UserError."""
    function, kwargs = annotator.config.fn_completions, annotator.config.completions_kwargs
    lines = lines_below(annotator.lines, "completions_kwargs")
    if function not in _WITH_CLIENT and not at_server:
        raise UserError(f"{annotator.place('fn_completions')}: {function} has no client here; {_ELSEWHERE}.")
    call: ModelCall = check_mapping(_WITH_CLIENT.get(function, _Elsewhere), kwargs, lines, str(annotator.path)).call()
    if at_server and function != "openai_completions":
        chat = call.chat and template.strip().startswith(START)
        call = replace(call, backend="openai", chat=chat, parameters={"top_p": call.sampling.top_p, "seed": None})
    _check(annotator, template, call)
    return call


def _check(annotator: Annotator, template: str, call: ModelCall) -> None:
    """Raises UserError where alpaca_eval would break off, or read no verdict from any reply."""
    if call.backend == "anthropic" and not call.chat:
        raise UserError(
            f"{annotator.place('completions_kwargs')}: Anthropic's Text Completions API has no client here; "
            f"{_ELSEWHERE}."
        )
    if call.chat:
        try:
            chat_of(template)
        except ValueError as error:
            raise UserError(
                f"{annotator.place('prompt_template')}: the prompt template is no chat: {error}; write each message as "
                f"{START}user, a line break, its text and {END}."
            ) from None
    if annotator.parser.reads_tokens:
        asked = call.parameters.get("logprobs") is True and call.parameters.get("top_logprobs")
        if not (call.chat and asked):
            raise UserError(
                f"{annotator.place('fn_completion_parser')}: logprob_parser needs a chat model with logprobs: true and "
                f"top_logprobs in completions_kwargs of openai_completions."
            )
