"""One chat to a server through a vendor's official SDK: OpenAI's and Anthropic's have the same names for their errors.

What an error means for the call is said by the exceptions of calls.py; tries and waits are that module's, so the SDK
tries once. Requests and replies are plain JSON: the SDK's own objects cost a third of a call.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import ssl
from abc import ABC, abstractmethod
from functools import cache
from types import ModuleType
from typing import Any

from zephyr_bench.engines.calls import Refused, TryAgain
from zephyr_bench.engines.server import Server, retry_after
from zephyr_bench.errors import ServiceError, UserError
from zephyr_bench.records import Generation, GenerationRequest

_CALLS_A_CLIENT = 8  # at once; with 64 a tenth of a call's time went into its pool's looking at every connection
_OVERLOADED = {408, 429, 503, 529}
_REFUSED = {400, 413, 422}


class SdkChat(ABC):
    """Subclasses say which SDK, how a request is sent, and how a reply is read.

    `read` may raise what a reply of another shape leads to: the call is tried again.
    """

    sdk: str  # the package
    install: str  # what to type where it is missing
    speaks: str  # what the server must speak

    def __init__(self, server: Server, model: str) -> None:
        self.server = server
        self.model = model
        self._clients: list[Any] = []  # of one event loop
        self._room: list[Any] = []  # a client for each further call it takes, last the one whose connection is warm

    @abstractmethod
    def open(self, sdk: ModuleType, http: Any) -> Any:
        """An asynchronous client over such an HTTP client, that tries once."""

    @abstractmethod
    async def send(self, client: Any, request: GenerationRequest) -> str:
        """The reply's body as it came."""

    @abstractmethod
    def read(self, request: GenerationRequest, reply: Any) -> Generation: ...

    async def ask(self, request: GenerationRequest) -> Generation:
        sdk, server = self.package(), self.server
        client = self._room.pop() if self._room else self._another(sdk)
        try:
            async with asyncio.timeout(server.timeout_seconds):
                content = await self.send(client, request)
        except (TimeoutError, sdk.APITimeoutError):
            told = f"{server.who} did not answer within {server.timeout_seconds:g} s, {server.tries} times"
            raise TryAgain(ServiceError(f"{told}; run again to go on."), overloaded=True) from None
        except sdk.APIStatusError as error:
            raise self._meaning(int(error.status_code), error) from None
        except sdk.APIConnectionError as error:
            reason = server.without_key(str(error.__cause__ or error))
            told = f"{server.who} can't be reached ({reason}), {server.tries} times tried"
            raise TryAgain(ServiceError(f"{told}; run again to go on.")) from None
        finally:
            self._room.append(client)
        try:
            return self.read(request, json.loads(content))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:  # half a body, or another one
            told = f"{server.who} sent no {self.speaks} reply ({type(error).__name__})."
            raise TryAgain(ServiceError(told)) from None

    def _meaning(self, status: int, error: Any) -> Exception:
        server = self.server
        if status in (401, 403):
            return server.key_refused(status)
        if status == 404:
            return UserError(f"{server.who}: model '{self.model}' or the address is not known there (404).")
        told = server.without_key(_told(error))
        if status in _REFUSED:
            refusal = f"{server.who} refused a request ({status}){told}; the others were answered, this one can't be."
            return Refused(ServiceError(refusal))
        if status in _OVERLOADED or status == 409 or status >= 500:
            failure = ServiceError(
                f"{server.who} answered {status} after {server.tries} tries{told}; run again to go on."
            )
            return TryAgain(failure, overloaded=status in _OVERLOADED, after=retry_after(error.response.headers))
        return ServiceError(f"{server.who} answered {status}{told}; run again to go on.")

    def package(self) -> ModuleType:
        """Raises UserError where it is missing."""
        try:
            return importlib.import_module(self.sdk)
        except ImportError:
            raise UserError(f"the {self.sdk} package is not installed: {self.install}.") from None

    def missing(self) -> list[str]:
        found = importlib.util.find_spec(self.sdk)
        return [] if found else [f"the {self.sdk} package: {self.install}"]

    def _another(self, sdk: ModuleType) -> Any:
        client = self.open(sdk, sdk.DefaultAsyncHttpxClient(verify=_ssl_context(sdk.DefaultAsyncHttpxClient)))
        self._clients.append(client)
        self._room += [client] * (_CALLS_A_CLIENT - 1)
        return client

    async def close(self) -> None:
        clients, self._clients, self._room = self._clients, [], []
        for client in clients:
            await client.close()


@cache
def _ssl_context(client: type) -> ssl.SSLContext:
    """As its package makes one for each client, httpx or httpx2; that takes 20 ms, so here all share it."""
    assert client.__base__ is not None
    package = importlib.import_module(client.__base__.__module__.partition(".")[0])
    context: ssl.SSLContext = package.create_ssl_context()
    return context


def _told(error: Any) -> str:
    """The server's own words, short."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else None
    return f" ({str(message)[:200]})" if message else ""
