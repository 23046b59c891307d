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
from zephyr_bench.engines.protocol import EngineOptions, FollowUp, ModelSource, most_tokens
from zephyr_bench.engines.sdk_chat import SdkChat
from zephyr_bench.engines.server import Server, told_url
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Generation, GenerationRequest


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
            tokens_of=lambda request: sum(most_tokens(request)),
        )

    def missing(self) -> list[str]:
        """What it lacks, a sentence each with what to do; no network."""
        absent = self._chat.server.missing(f"model {self.model.name}", "name another server by --base-url")
        return [*self._chat.missing(), *absent]

    @cached_property
    def fingerprint(self) -> str:
        return served_fingerprint(self.model, self._backend)

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


def openai_engine(name: str, options: EngineOptions) -> RemoteEngine:
    """Of the model that the server calls so. Raises UserError for a server that isn't told, or a URL that is none."""
    if options.base_url is None:
        raise UserError(f"--engine openai: say where model {name} is served, by --base-url http://HOST:PORT/v1.")
    url = told_url(options.base_url)
    server = Server(f"model {name} at {url}", url, options.api_key_env, concurrency=options.concurrency)
    return served_by(OpenAiChat(server, name, extra={}), backend="openai")


def served_by(chat: SdkChat, *, backend: str) -> RemoteEngine:
    return RemoteEngine(served_model(chat), chat, backend=backend)


def served_model(chat: SdkChat) -> ModelSource:
    """A model that is known by its server and its name there: nobody can hash its weights."""
    url = chat.server.base_url
    return ModelSource(name=chat.model, location=url, fingerprint=fingerprint({"server": url, "model": chat.model}))


def served_fingerprint(model: ModelSource, backend: str) -> str:
    return fingerprint({"model": model.fingerprint, "backend": backend})
