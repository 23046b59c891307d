"""The judge of judging.py: a server in a process of its own that spends next to nothing on a reply.

It reads no JSON: an answer's grade stands in its text, after `MARK`, and of what the prompt shows the last one counts.
So each match has a verdict of its own, whoever asks. Knows HTTP/1.1 as far as OpenAI's SDK speaks it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection

MARK = "(draft "  # in an answer, before its grade
_REASONS = "The answer is relevant and mostly accurate; it could say more, and say it in fewer words. " * 6


@dataclass(frozen=True)
class Served:
    """The server as its starter sees it."""

    url: str
    _line: Connection = field(repr=False)

    def count(self) -> int:
        """Requests that came."""
        self._line.send("count")
        return int(self._line.recv())

    def bodies(self) -> list[bytes]:
        """What they said, where that is kept."""
        self._line.send("bodies")
        return list(self._line.recv())


@contextmanager
def serving(*, latency: float, keep: bool = False) -> Iterator[Served]:
    """A server whose every reply takes `latency` seconds. It ends with its starter, however that ends."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, latency, keep), daemon=True)
    process.start()
    there.close()
    try:
        yield Served(f"http://127.0.0.1:{here.recv()}/v1", here)
    finally:
        here.close()
        process.join()


def _serve(line: Connection, latency: float, keep: bool) -> None:
    asyncio.run(_Server(line, latency, keep).run())


class _Server:
    def __init__(self, line: Connection, latency: float, keep: bool) -> None:
        self.latency = latency
        self.keep = keep
        self.count = 0
        self.bodies: list[bytes] = []
        self.replies = {str(grade).encode(): _reply(grade) for grade in range(1, 11)}
        self._line = line
        self._ended = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Asker(self, loop), "127.0.0.1", 0, backlog=1024)
        loop.add_reader(self._line.fileno(), self._obey)
        self._line.send(server.sockets[0].getsockname()[1])
        await self._ended.wait()
        server.close()

    def _obey(self) -> None:
        try:
            self._line.send(self.count if self._line.recv() == "count" else self.bodies)
        except (EOFError, ConnectionResetError):
            asyncio.get_running_loop().remove_reader(self._line.fileno())
            self._ended.set()


class _Asker(asyncio.Protocol):
    """One connection; it may ask many times, one after the other."""

    def __init__(self, server: _Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        came = self._came = self._came + data if self._came else data
        head = came.find(b"\r\n\r\n") + 4
        if head < 4:
            return
        headers = came[:head].lower()
        at = headers.index(b"content-length:") + 15
        if len(came) < head + int(headers[at : headers.index(b"\r", at)]):
            return
        self._came = b""
        server = self._server
        server.count += 1
        if server.keep:
            server.bodies.append(came[head:])
        at = came.rindex(MARK.encode()) + len(MARK)
        reply = server.replies[came[at : came.index(b")", at)]]
        if server.latency:
            self._loop.call_later(server.latency, self._transport.write, reply)
        else:
            self._transport.write(reply)


def _reply(grade: int) -> bytes:
    value = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "gpt-4",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": f"{_REASONS}\n\nRating: [[{grade}]]"},
            }
        ],
        "usage": {"prompt_tokens": 500, "completion_tokens": 120, "total_tokens": 620},
    }
    body = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
