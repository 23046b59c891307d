"""A local server that plays OpenAI's Chat Completions API: for replies and faults that cost nothing."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Raw:
    """A reply byte by byte: `body` in place of a completion, `promised` bytes in the header, `pause` between bytes."""

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    promised: int | None = None  # None: as many as there are
    pause: float = 0.0


# the text of a reply, its whole choice, an HTTP error's status, or None: the connection is cut
Reply = str | dict[str, Any] | int | Raw | None


@dataclass
class FakeOpenAi:
    """`reply` is given each request's body; every body that came is kept in `requests`."""

    reply: Callable[[dict[str, Any]], Reply]
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


@contextmanager
def fake_openai(reply: Callable[[dict[str, Any]], Reply] | Reply, *, port: int = 0) -> Iterator[FakeOpenAi]:
    fake = FakeOpenAi(reply if callable(reply) else lambda _: reply)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                fake.requests.append(body)
                fake.keys.append(self.headers.get("Authorization", ""))
            answer = fake.reply(body)
            if answer is None:
                self.close_connection = True
                return
            if isinstance(answer, Raw):
                self._send_raw(answer)
                return
            if isinstance(answer, int):
                self._send(answer, {"error": {"message": f"fault {answer}", "type": "fault"}})
                return
            if self.path == "/v1/messages" and isinstance(answer, str):
                self._send(200, message(body["model"], answer))
                return
            if self.path != "/v1/chat/completions":
                self._send(404, {"error": {"message": self.path}})
                return
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the other side gave up
                self._send(200, completion(body["model"], answer))

        def _send(self, status: int, value: dict[str, Any]) -> None:
            raw = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def _send_raw(self, raw: Raw) -> None:
            self.send_response(raw.status)
            for name, value in raw.headers:
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw.body) if raw.promised is None else raw.promised))
            self.end_headers()
            if not raw.pause:
                self.wfile.write(raw.body)
            for at in range(len(raw.body) if raw.pause else 0):
                self.wfile.write(raw.body[at : at + 1])
                time.sleep(raw.pause)
            self.close_connection = raw.promised is not None

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # the other side gave up
    fake.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()


def message(model: str, text: str) -> dict[str, Any]:
    """Of Anthropic's Messages API."""
    return {
        "id": "x",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 100, "output_tokens": 10},
    }


def completion(model: str, said: str | dict[str, Any]) -> dict[str, Any]:
    """`said` is the text, or the whole choice."""
    text = {"message": {"role": "assistant", "content": said}} if isinstance(said, str) else said
    choice = {"index": 0, "finish_reason": "stop", **text}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [choice],
        "usage": usage,
    }
