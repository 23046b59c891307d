"""Engines whose model runs behind a server: `openai` is any server that speaks OpenAI's Chat Completions API.

Making one asks nothing. Calls run many at once (calls.py); each answer is given the moment it came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import cached_property

from zephyr_bench.engines.calls import Calls
from zephyr_bench.engines.concurrency import Concurrency, Pace
from zephyr_bench.engines.openai_chat import OpenAiChat
from zephyr_bench.engines.protocol import EngineOptions, FollowUp, ModelSource
from zephyr_bench.engines.sdk_chat import SdkChat
from zephyr_bench.engines.server import Server, check_url
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Generation, GenerationRequest

_CHARACTERS_PER_TOKEN = 3  # about, and rather too many tokens than too few; for the pace only


class RemoteEngine:
    """Continues chats by a client's calls. The results that are made already are passed over."""

    def __init__(self, model: ModelSource, chat: SdkChat, *, backend: str) -> None:
        self.model = model
        self._backend = backend
        self._chat = chat
        server = chat.server
        self._calls: Calls[GenerationRequest, Generation] = Calls(
            chat.ask,
            concurrency=Concurrency(server.concurrency),
            pace=Pace(server.requests_per_minute, server.tokens_per_minute),
            tries=server.tries,
            tokens_of=most_tokens,
        )

    def missing(self) -> list[str]:
        """What it lacks, a sentence each with what to do; no network."""
        absent = self._chat.server.missing(f"model {self.model.name}", "name another server by --base-url")
        return [*self._chat.missing(), *absent]

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint({"model": self.model.fingerprint, "backend": self._backend})

    def generate(self, requests: Iterable[GenerationRequest], *, then: FollowUp | None = None) -> Iterator[Generation]:
        """As they come. `requests` is read as calls may begin; raises what `calls.py` says."""
        following: deque[GenerationRequest] = deque()
        first = iter(requests)

        def pull() -> GenerationRequest | None:
            while (request := following.popleft() if following else next(first, None)) is not None:
                if request.made is None:
                    return request
                follow(request.made)
            return None

        def follow(result: Generation) -> None:
            following.extend(then(result) if then else ())

        for _, result in self._calls.run(pull, closing=self._chat.close):
            yield result
            follow(result)

    def close(self) -> None:
        """Nothing is held between two calls of `generate`."""


def most_tokens(request: GenerationRequest) -> int:
    """Tokens of a call at most, about."""
    characters = sum(len(message["content"]) for message in request.messages)
    return characters // _CHARACTERS_PER_TOKEN + request.sampling.max_new_tokens


def openai_engine(name: str, options: EngineOptions) -> RemoteEngine:
    """Of the model that the server calls so. Raises UserError for a server that isn't told, or a URL that is none."""
    if options.base_url is None:
        raise UserError(f"--engine openai: say where model {name} is served, by --base-url http://HOST:PORT/v1.")
    try:
        url = check_url(options.base_url)
    except ValueError:  # the URL may hold a password: it is not shown
        raise UserError("--base-url: expected a URL without a password, such as http://127.0.0.1:8000/v1.") from None
    server = Server(f"model {name} at {url}", url, options.api_key_env, concurrency=options.concurrency)
    return served_by(OpenAiChat(server, name, extra={}), backend="openai")


def served_by(chat: SdkChat, *, backend: str) -> RemoteEngine:
    """The engine of a model that is known by its server and its name there: nobody can hash its weights."""
    url = chat.server.base_url
    source = ModelSource(name=chat.model, location=url, fingerprint=fingerprint({"server": url, "model": chat.model}))
    return RemoteEngine(source, chat, backend=backend)
