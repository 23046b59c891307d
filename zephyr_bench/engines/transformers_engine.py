"""The engine `transformers`: a directory of safetensors or a hub id, run in this process.

Making one loads nothing. The tokenizer comes with the first text, the weights with the first answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from zephyr_bench.engines import chat_tokens, loading
from zephyr_bench.engines.chat_tokens import encode_chat, put_before
from zephyr_bench.engines.prompt_check import check_template
from zephyr_bench.engines.protocol import CompletionRequest, EngineOptions, FollowUp, ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Generation, GenerationRequest, Message, ScoredTokens, ScoreRequest

if TYPE_CHECKING:
    from zephyr_bench.engines.data_parallel import SharedWork


class TransformersEngine:
    """Generates, completes and scores with one causal language model."""

    def __init__(self, model: ModelSource, options: EngineOptions, *, shared: SharedWork | None = None) -> None:
        """`shared`: other processes do a part of the work."""
        self.model = model
        self._options = options
        self._shared = shared
        self._loaded: loading.LoadedModel | None = None

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(
            {
                "model": self.model.fingerprint,
                "dtype": self._dtype,
                "backend": "transformers",
                "versions": [version("transformers"), version("torch")],
                "chat_tokens": chat_tokens.VERSION,
            }
        )

    @cached_property
    def max_length(self) -> int:
        config = loading.load_config(self.model.location, self._options)
        return loading.max_length(config, self._tokenizer)

    @property
    def start_token(self) -> int:
        bos = self._tokenizer.bos_token_id
        return self.end_token if bos is None else int(bos)

    @property
    def end_token(self) -> int:
        eos = self._tokenizer.eos_token_id
        if eos is None:
            raise UserError(f"model {self.model.name}: its tokenizer declares no EOS token.")
        return int(eos)

    @property
    def chat_template(self) -> str | None:
        return loading.default_template(self._tokenizer)

    @cached_property
    def _template_of_training(self) -> str | None:
        """The same, once it is known to be the one that the checkpoint learned with. Raises UserError."""
        check_template(self.model, self.chat_template)
        return self.chat_template

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens))

    def decode(self, tokens: Iterable[int]) -> str:
        """The text as it stands, special tokens included."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))

    def render(self, messages: Iterable[Message], *, add_generation_prompt: bool = True) -> str:
        from jinja2 import TemplateError

        if self._template_of_training is None:
            raise UserError(
                f"model {self.model.name} has no chat template, so it can't be asked as a chat; "
                f"put a chat_template.jinja beside its tokenizer ({self.model.location})."
            )
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
                )
            )
        except TemplateError as error:
            raise UserError(f"model {self.model.name}: its chat template refuses the chat: {error}.") from None

    def generate(self, requests: Iterable[GenerationRequest], *, then: FollowUp | None = None) -> Iterator[Generation]:
        first = self.checked(map(self.tokenized, requests))

        return self._complete(first, lambda result: map(self.tokenized, then(result) if then else ()))

    def tokenized(self, request: GenerationRequest) -> CompletionRequest:
        """As the model reads it."""
        prompt = encode_chat(self.encode, self.render(request.messages), before=self._put_before)
        return CompletionRequest(
            request.key, tuple(prompt), request.sampling, request.made, request.top_logprobs, request.or_nothing
        )

    def complete(self, requests: Iterable[CompletionRequest]) -> Iterator[Generation]:
        return self._complete(self.checked(requests), lambda _: [])

    def checked(self, requests: Iterable[CompletionRequest]) -> list[CompletionRequest]:
        """Raises UserError for a prompt that leaves no room for an answer, where that is an error."""
        checked = list(requests)
        for request in checked:
            if not request.or_nothing and not 0 < len(request.prompt) < self.max_length:
                raise UserError(
                    f"model {self.model.name}: a prompt of {len(request.prompt)} tokens leaves no room "
                    f"for an answer; expected 1 to {self.max_length - 1}."
                )
        return checked

    def _complete(
        self, requests: list[CompletionRequest], then: Callable[[Generation], Iterable[CompletionRequest]]
    ) -> Iterator[Generation]:
        if requests and self._shared is not None:
            yield from self._shared.complete(requests, then, lambda some: self._decode(some, lambda _: ()))
        elif requests:
            yield from self._decode(requests, then)

    def _decode(
        self, requests: list[CompletionRequest], then: Callable[[Generation], Iterable[CompletionRequest]]
    ) -> Iterator[Generation]:
        from zephyr_bench.engines.decoding import decode

        yield from decode(self._weights, requests, max_length=self.max_length, then=then)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoredTokens]:
        requests = list(requests)
        if requests and self._shared is not None:
            yield from self._shared.score(requests, self._score)
        elif requests:
            yield from self._score(requests)

    def _score(self, requests: list[ScoreRequest]) -> Iterator[ScoredTokens]:
        from zephyr_bench.engines.scoring import score

        yield from score(self._weights, requests, max_length=self.max_length)

    def close(self) -> None:
        if self._shared is not None:
            self._shared.close()
        if self._loaded is not None:
            loading.free(self._loaded)
            self._loaded = None

    @cached_property
    def _device(self) -> str:
        return loading.resolve_device(self._options.device)

    @cached_property
    def _dtype(self) -> str:
        return loading.resolve_dtype(self._options.dtype, self._device)

    @cached_property
    def _put_before(self) -> tuple[int, ...]:
        return put_before(self.encode)

    @cached_property
    def _tokenizer(self) -> Any:
        return loading.load_tokenizer(self.model.location, self._options)

    @property
    def _weights(self) -> loading.LoadedModel:
        if self._loaded is None:
            self._loaded = loading.load_model(
                self.model.location, self._tokenizer, self._options, device=self._device, dtype=self._dtype
            )
        return self._loaded
