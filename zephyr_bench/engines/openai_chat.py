"""One chat to a server that speaks OpenAI's Chat Completions API, by the official SDK.

What its errors mean for the call is said by the exceptions of calls.py; tries and waits are that module's, so the SDK
tries once. Replies are read as plain JSON: the SDK's own objects cost a third of a call.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zephyr_bench.engines.calls import Refused, TryAgain
from zephyr_bench.engines.server import Server, retry_after, sendable
from zephyr_bench.errors import ServiceError, UserError
from zephyr_bench.records import GeneratedToken, Generation, GenerationRequest

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_OVERLOADED = {408, 429, 503, 529}


class OpenAiChat:
    """`extra` parameters go into each request as they stand; null takes one out."""

    def __init__(self, server: Server, model: str, *, extra: Mapping[str, Any]) -> None:
        self._server = server
        self._model = model
        self._extra = dict(extra)
        self._client: AsyncOpenAI | None = None  # of one event loop

    async def ask(self, request: GenerationRequest) -> Generation:
        import openai

        server = self._server
        try:
            async with asyncio.timeout(server.timeout_seconds):
                raw = await self._open().chat.completions.with_raw_response.create(**self._body(request))
            reply = json.loads(raw.http_response.content)
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise UserError(
                f"{server.who}: the key was refused ({error.status_code}); put a valid one into {server.api_key_env}."
            ) from None
        except openai.NotFoundError:
            raise UserError(f"{server.who}: model '{self._model}' or the address is not known there (404).") from None
        except openai.APIStatusError as error:
            raise self._meaning(error) from None
        except (TimeoutError, openai.APITimeoutError):
            told = f"{server.who} did not answer within {server.timeout_seconds:g} s, {server.tries} times"
            raise TryAgain(ServiceError(f"{told}; run again to go on."), overloaded=True) from None
        except openai.APIConnectionError as error:
            reason = server.without_key(str(error.__cause__ or error))
            told = f"{server.who} can't be reached ({reason}), {server.tries} times tried"
            raise TryAgain(ServiceError(f"{told}; run again to go on.")) from None
        except (openai.APIError, ValueError) as error:  # a body that is no JSON: half of one, perhaps
            told = f"{server.who} sent no Chat Completions reply ({type(error).__name__})."
            raise TryAgain(ServiceError(told)) from None
        return self._generation(request, reply)

    def _meaning(self, error: Any) -> Exception:
        """Of a status that isn't the key's or the model's."""
        server, status = self._server, int(error.status_code)
        told = server.without_key(_told(error))
        if status in _OVERLOADED or status == 409 or status >= 500:
            failure = f"{server.who} answered {status} after {server.tries} tries{told}; run again to go on."
            return TryAgain(
                ServiceError(failure), overloaded=status in _OVERLOADED, after=retry_after(error.response.headers)
            )
        if status in (400, 413, 422):
            return Refused(
                ServiceError(
                    f"{server.who} refused a request ({status}){told}; the others were answered, this one can't be."
                )
            )
        return ServiceError(f"{server.who} answered {status}{told}; run again to go on.")

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{**message, "content": sendable(message["content"])} for message in request.messages],
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_new_tokens,
        }
        if sampling.temperature > 0:
            body |= {"top_p": sampling.top_p, "seed": sampling.seed}
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if request.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        body |= self._extra
        known = {name: value for name, value in body.items() if value is not None}
        more = {name: known.pop(name) for name in list(known) if name not in _SDK_NAMES}
        return {**known, "extra_body": more} if more else known

    def _generation(self, request: GenerationRequest, reply: Any) -> Generation:
        try:
            choice = reply["choices"][0]
            text = choice["message"].get("content") or ""
            reason = "length" if choice.get("finish_reason") == "length" else "stop"
            logprobs = ((choice.get("logprobs") or {}).get("content") or []) if request.top_logprobs else []
            tokens = tuple(
                GeneratedToken(here["token"], {at["token"]: float(at["logprob"]) for at in here["top_logprobs"]})
                for here in logprobs
            )
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            told = f"{self._server.who} sent no Chat Completions reply (it has no choices)."
            raise TryAgain(ServiceError(told)) from None
        usage = reply.get("usage") or {}
        return Generation(
            request.key,
            str(text),
            reason,
            usage.get("prompt_tokens"),
            usage.get("completion_tokens"),
            tokens,
        )

    def _open(self) -> AsyncOpenAI:
        if self._client is None:
            try:
                from openai import AsyncOpenAI
            except ImportError:
                raise UserError("the openai package is not installed: pip install openai.") from None
            self._client = AsyncOpenAI(
                api_key=self._server.key() or "none",
                base_url=self._server.base_url,
                max_retries=0,
                timeout=self._server.timeout_seconds,
            )
        return self._client

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()


# of the parameters that are sent; what else the user adds goes beside them
_SDK_NAMES = {
    *("model", "messages", "temperature", "max_tokens", "max_completion_tokens", "top_p", "seed", "stop"),
    *("logprobs", "top_logprobs", "response_format", "reasoning_effort", "frequency_penalty", "presence_penalty"),
}


def _told(error: Any) -> str:
    """The server's own words, short."""
    body = getattr(error, "body", None)
    message = body.get("message") if isinstance(body, dict) else None
    return f" ({str(message)[:200]})" if message else ""
