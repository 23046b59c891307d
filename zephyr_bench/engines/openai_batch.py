"""OpenAI's Batch API: half the price, an answer within a day, and a restart in between loses nothing.

A batch is known to the server alone: what is asked again after a restart is looked for in the batches that are there,
pending or done, by the keys in their input files. Nothing is kept on this machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from zephyr_bench.engines.openai_chat import OpenAiChat
from zephyr_bench.engines.protocol import FollowUp
from zephyr_bench.engines.remote_engine import served_fingerprint, served_model
from zephyr_bench.engines.server import Server
from zephyr_bench.errors import ServiceError, UserError
from zephyr_bench.records import Generation, GenerationRequest

_MARK = "zephyr-bench"  # in the metadata of our batches
_MOST_REQUESTS = 50_000  # of one batch, and
_MOST_BYTES = 190_000_000  # of its file; the API takes 200 MB
_WAITS = {"validating", "in_progress", "finalizing"}
_FAILED = {"failed", "expired", "cancelling", "cancelled"}


class OpenAiBatchEngine:
    """Continues chats by batches. `poll_seconds` lie between two looks at a batch that is pending."""

    def __init__(self, chat: OpenAiChat, *, poll_seconds: float) -> None:
        self.model = served_model(chat)
        self.fingerprint = served_fingerprint(self.model, "openai")  # the answers are those of single calls
        self._chat = chat
        self._poll = poll_seconds

    def generate(self, requests: Iterable[GenerationRequest], *, then: FollowUp | None = None) -> Iterator[Generation]:
        """All first turns, then what follows from them, a batch (or several) each."""
        asked = list(requests)
        while asked:
            results: list[Generation] = [request.made for request in asked if request.made is not None]
            waiting = {request.key: request for request in asked if request.made is None}
            for result in self._answered(waiting) if waiting else ():
                yield result
                results.append(result)
            asked = [request for result in results for request in (then(result) if then else ())]

    def _answered(self, waiting: dict[str, GenerationRequest]) -> Iterator[Generation]:
        client, server = self._open(), self._chat.server
        try:
            known = [(batch, keys) for batch, keys in self._known(client) if keys & waiting.keys()]
            found = {key for _, keys in known for key in keys}
            batches = [batch for batch, _ in known]
            batches += [self._begin(client, part) for part in _parts(self._chat, waiting, found)]
            refused: str | None = None
            while batches:
                batch = client.batches.retrieve(batches[0].id)
                if batch.status in _WAITS:
                    time.sleep(self._poll)
                    continue
                batches.pop(0)
                for key, reply, error in self._results(client, batch):
                    if key in waiting and reply is not None:
                        yield self._chat.read(waiting.pop(key), reply)
                    elif key in waiting:
                        refused = refused or error
                if batch.status in _FAILED and refused is None:
                    told = _why(batch)
                    raise ServiceError(f"{server.who}: batch {batch.id} is {batch.status}{told}; run again to go on.")
            if waiting:
                told = f" ({server.without_key(refused)})" if refused else ""
                raise ServiceError(f"{server.who}: {len(waiting)} requests of a batch have no reply{told}; run again.")
        finally:
            client.close()

    def _known(self, client: Any) -> Iterator[tuple[Any, set[str]]]:
        """Our batches that may hold replies, with the keys that they ask."""
        for batch in client.batches.list(limit=100):
            ours = (batch.metadata or {}).get(_MARK) == self.fingerprint
            if ours and (batch.status in _WAITS or batch.output_file_id):
                yield batch, {row["custom_id"] for row in _rows(client, batch.input_file_id)}

    def _begin(self, client: Any, lines: bytes) -> Any:
        file = client.files.create(file=("requests.jsonl", lines), purpose="batch")
        return client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={_MARK: self.fingerprint},
        )

    def _results(self, client: Any, batch: Any) -> Iterator[tuple[str, Mapping[str, Any] | None, str]]:
        """(key, the reply's body, or what went wrong) of each request."""
        for file in (batch.output_file_id, batch.error_file_id):
            for row in _rows(client, file) if file else ():
                response, error = row.get("response") or {}, row.get("error")
                body = response.get("body") or {}
                if response.get("status_code") == 200:
                    yield row["custom_id"], body, ""
                else:
                    yield row["custom_id"], None, str(error or body.get("error") or "no reply")[:200]

    def _open(self) -> Any:
        server = self._chat.server
        client = self._chat.package().OpenAI(
            api_key=server.key() or "none", base_url=server.base_url, max_retries=server.tries
        )
        return _Telling(client, server)

    def close(self) -> None:
        """Nothing is held."""


class _Telling:
    """The SDK's client, whose errors are told as ours."""

    def __init__(self, part: Any, server: Server) -> None:
        self._part = part
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return _Telling(getattr(self._part, name), self._server)

    def __call__(self, *positional: Any, **named: Any) -> Any:
        import openai

        server = self._server
        try:
            return self._part(*positional, **named)
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise server.key_refused(error.status_code) from None
        except openai.NotFoundError:
            raise UserError(f"{server.who} has no Batch API (404); leave out --batch.") from None
        except openai.APIError as error:
            told = server.without_key(str(error))[:200]
            raise ServiceError(f"{server.who}: its Batch API failed ({told}); run again to go on.") from None


def _rows(client: Any, file: str) -> Iterator[dict[str, Any]]:
    for line in client.files.content(file).content.decode().splitlines():
        if line.strip():
            yield json.loads(line)


def _parts(chat: OpenAiChat, waiting: Mapping[str, GenerationRequest], found: set[str]) -> Iterator[bytes]:
    """Files of requests that no batch asks yet, each no larger than the API takes."""
    lines: list[bytes] = []
    size = 0
    for key, request in waiting.items():
        if key in found:
            continue
        row = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": chat.body(request)}
        line = json.dumps(row).encode() + b"\n"
        if lines and (len(lines) == _MOST_REQUESTS or size + len(line) > _MOST_BYTES):
            yield b"".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield b"".join(lines)


def _why(batch: Any) -> str:
    errors = getattr(getattr(batch, "errors", None), "data", None) or []
    return f" ({errors[0].message})" if errors else ""
