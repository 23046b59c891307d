"""Judges by any server that speaks OpenAI's Chat Completions API, with MT-Bench's prompts.

Several calls at once in threads, one a match; the SDK retries what may pass (429, 5xx, a broken connection) and
waits as long as the server asks. Knows no store: verdicts are yielded as they finish.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from zephyr_bench.errors import JudgeUnavailable, UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.judges import parsers
from zephyr_bench.judges.prompts import JudgePrompt, prompt_name, read_prompts, render
from zephyr_bench.published_file import PublishedFile
from zephyr_bench.recipe import Entry
from zephyr_bench.records import Judgment, Match, Message

if TYPE_CHECKING:
    from openai import OpenAI

LOWEST, HIGHEST = 1.0, 10.0  # of a rating; FastChat would take any number
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class _RequestRefused(JudgeUnavailable):
    """The server won't take one request (too long, or filtered); the next may be taken."""


class Prices(Entry):
    input: float = Field(ge=0)
    output: float = Field(ge=0)


class OpenAiSpec(Entry):
    kind: Literal["openai"]
    description: str
    model: str  # the server's name for it
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str = "OPENAI_API_KEY"  # the variable that holds the key; servers on this machine need none
    temperature: float = Field(0.0, ge=0)
    max_tokens: int = Field(2048, gt=0)  # of a reply
    concurrency: int = Field(8, gt=0)  # calls at once
    max_retries: int = Field(6, ge=0)  # of one call; the waits between double, from half a second to eight
    timeout_seconds: float = Field(120.0, gt=0)  # of one try
    usd_per_million_tokens: Prices | None = None  # None: not known
    prompts: PublishedFile
    reference_categories: tuple[str, ...] = ("math", "reasoning", "coding")  # FastChat's NEED_REF_CATS

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("expected a URL such as http://127.0.0.1:8000/v1")
        if url.username or url.password:
            raise ValueError("holds a password; put the key into the variable of api_key_env")
        return value.rstrip("/")


class OpenAiJudge:
    Spec = OpenAiSpec

    def __init__(self, spec: OpenAiSpec, *, name: str, folder: Path, base_url: str | None = None) -> None:
        self.name = name
        self._spec = spec if base_url is None else _at(spec, base_url)
        self._folder = folder

    @cached_property
    def fingerprint(self) -> str:
        """Of all that a verdict hangs on; a server is known by its address."""
        spec = self._spec
        return fingerprint(
            {
                "kind": spec.kind,
                "server": spec.base_url,
                "model": spec.model,
                "temperature": spec.temperature,
                "max_tokens": spec.max_tokens,
                "prompts": spec.prompts.sha256 or fingerprint([p.model_dump() for p in self._prompts.values()]),
                "reference_categories": sorted(spec.reference_categories),
                "parser": parsers.VERSION,
            }
        )

    @cached_property
    def _prompts(self) -> Mapping[str, JudgePrompt]:
        return read_prompts(self._spec.prompts.locate(self._folder))

    def missing(self) -> list[str]:
        parts = []
        variable = self._spec.api_key_env
        if self._key() is None:
            parts.append(f"an API key for judge {self.name}: set {variable}, or choose another judge")
        elif not _sendable(self._key() or ""):
            parts.append(
                f"a well-formed API key for judge {self.name}: {variable} holds blanks or unprintable characters"
            )
        if absent := self._spec.prompts.missing(self._folder):
            parts.append(f"the prompts of judge {self.name}: {absent}")
        return parts

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float | None:
        prices = self._spec.usd_per_million_tokens
        if prices is None:
            return None
        return (input_tokens * prices.input + output_tokens * prices.output) / 1e6

    def grade(self, matches: Iterable[Match]) -> Iterator[Judgment]:
        client = self._client()
        waiting = iter(matches)
        tasks: SimpleQueue[Match | None] = SimpleQueue()
        results: SimpleQueue[Judgment | Exception] = SimpleQueue()
        stopped: Exception | None = None  # no new calls after this
        refused: _RequestRefused | None = None  # one request was; the others go on
        under_way = 0
        workers = [
            Thread(target=self._work, args=(client, tasks, results), daemon=True) for _ in range(self._spec.concurrency)
        ]
        for worker in workers:  # daemons: Ctrl-C doesn't wait for a server that is silent
            worker.start()
        try:
            while True:
                if stopped is None:
                    for match in islice(waiting, self._spec.concurrency - under_way):
                        tasks.put(match)
                        under_way += 1
                if under_way == 0:
                    break
                result = results.get()
                under_way -= 1
                if isinstance(result, Judgment):
                    yield result
                elif isinstance(result, _RequestRefused):
                    refused = result
                else:
                    stopped = stopped or result
        finally:
            for _ in workers:
                tasks.put(None)
        if failure := stopped or refused:
            raise failure

    def _work(
        self, client: OpenAI, tasks: SimpleQueue[Match | None], results: SimpleQueue[Judgment | Exception]
    ) -> None:
        """One thread: grades matches until it is given None. Whatever goes wrong is a result too."""
        while (match := tasks.get()) is not None:
            try:
                results.put(self._grade_one(client, match))
            except Exception as error:  # noqa: BLE001 - handed to the thread that asked
                results.put(error)

    def _grade_one(self, client: OpenAI, match: Match) -> Judgment:
        categories = self._spec.reference_categories
        chat = render(self._prompts, match, reference_categories=categories)
        reply, inputs, outputs = self._ask(client, chat)
        score, reason = _verdict(match, reply)
        return Judgment(
            key=match.key(self.fingerprint),
            judge=self.name,
            score=score,
            reason=reason,
            reply=reply,
            input_tokens=inputs,
            output_tokens=outputs,
            cost_usd=None if inputs is None or outputs is None else self.cost_usd(inputs, outputs),
            prompt=prompt_name(match, reference_categories=categories),
        )

    def _ask(self, client: OpenAI, chat: list[Message]) -> tuple[str, int | None, int | None]:
        """(reply, input tokens, output tokens), the tokens where the server tells them."""
        import openai

        spec = self._spec
        where = f"judge {self.name} at {spec.base_url}"
        try:
            reply = client.chat.completions.create(
                model=spec.model,
                messages=[_whole(message) for message in chat],  # type: ignore[misc]
                temperature=spec.temperature,
                max_tokens=spec.max_tokens,
            )
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise UserError(
                f"{where}: the key was refused ({error.status_code}); put a valid one into {spec.api_key_env}."
            ) from None
        except openai.NotFoundError:
            raise UserError(f"{where}: model '{spec.model}' or the address is not known there (404).") from None
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            told = self._without_key(_told(error))
            raise _RequestRefused(
                f"{where} refused a request ({error.status_code}){told}; the others were judged, this one can't be."
            ) from None
        except openai.APIStatusError as error:
            tried = (
                f" after {spec.max_retries + 1} tries"
                if error.status_code in (408, 409, 429) or error.status_code >= 500
                else ""
            )
            told = self._without_key(_told(error))
            raise JudgeUnavailable(f"{where} answered {error.status_code}{tried}{told}; run again to go on.") from None
        except openai.APITimeoutError:
            raise JudgeUnavailable(
                f"{where} did not answer within {spec.timeout_seconds:g} s, {spec.max_retries + 1} times; "
                f"run again to go on."
            ) from None
        except openai.APIConnectionError as error:
            reason = self._without_key(str(error.__cause__ or error))
            raise JudgeUnavailable(
                f"{where} can't be reached ({reason}), {spec.max_retries + 1} times tried; run again to go on."
            ) from None
        except (openai.APIError, ValueError) as error:  # a body that is no JSON, or no completion
            raise JudgeUnavailable(f"{where} sent no Chat Completions reply ({type(error).__name__}).") from None
        try:
            text = reply.choices[0].message.content or ""
        except (AttributeError, IndexError, TypeError):
            raise JudgeUnavailable(f"{where} sent no Chat Completions reply (it has no choices).") from None
        usage = getattr(reply, "usage", None)
        return str(text), getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)

    def _client(self) -> OpenAI:
        try:
            from openai import OpenAI
        except ImportError:
            raise UserError("the openai package is not installed: pip install openai.") from None
        spec = self._spec
        return OpenAI(
            api_key=self._key() or "none",
            base_url=spec.base_url,
            max_retries=spec.max_retries,
            timeout=spec.timeout_seconds,
        )

    def _key(self) -> str | None:
        """The key from the environment; a server on this machine does without."""
        key = os.environ.get(self._spec.api_key_env, "").strip()
        return key or ("none" if urlsplit(self._spec.base_url).hostname in _LOOPBACK else None)

    def _without_key(self, text: str) -> str:
        key = self._key()
        return text.replace(key, "***") if key and key != "none" else text


def _at(spec: OpenAiSpec, base_url: str) -> OpenAiSpec:
    try:
        return OpenAiSpec.model_validate({**spec.model_dump(), "base_url": base_url})
    except ValueError:  # the URL may hold a password: it is not shown
        raise UserError("--base-url: expected a URL without a password, such as http://127.0.0.1:8000/v1.") from None


def _verdict(match: Match, reply: str) -> tuple[float | None, str | None]:
    """(score, why there is none)."""
    if not reply.strip():
        return None, "the judge's reply is empty"
    if match.rival is not None:
        preference = parsers.preference(reply)
        return preference, None if preference is not None else "no [[A]], [[B]] or [[C]] in the judge's reply"
    rating = parsers.rating(reply)
    if rating is None:
        return None, "no [[rating]] in the judge's reply"
    if not LOWEST <= rating <= HIGHEST:
        return None, f"the rating in the judge's reply is not between {LOWEST:g} and {HIGHEST:g}"
    return rating, None


def _whole(message: Message) -> Message:
    """As UTF-8 can hold it: half a surrogate pair, which a model may leave, is shown as U+FFFD."""
    text = message["content"].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return {"role": message["role"], "content": text}


def _sendable(key: str) -> bool:
    """Whether it can stand in an HTTP header: visible ASCII."""
    return key.isascii() and key.isprintable() and " " not in key


def _told(error: Exception) -> str:
    """The server's own words, short."""
    body = getattr(error, "body", None)
    message = body.get("message") if isinstance(body, dict) else None
    return f" ({str(message)[:200]})" if message else ""
