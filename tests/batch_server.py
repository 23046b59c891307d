"""A local server that plays OpenAI's Batch API: files, and batches that are done after some looks at them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from servers import completion

Reply = str | int  # the text of a reply, or an HTTP error's status


@dataclass
class FakeBatches:
    """`looks` at a batch find it pending; `end` is its status then. `reply` is given each request's body."""

    reply: Callable[[dict[str, Any]], Reply]
    looks: int = 1
    end: str = "completed"
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def asked(self) -> list[str]:
        """The keys of every request that came."""
        files = [self.files[batch["input_file_id"]] for batch in self.batches.values()]
        return [json.loads(line)["custom_id"] for lines in files for line in lines.splitlines()]

    def look(self, id: str) -> dict[str, Any]:
        batch = self.batches[id]
        batch["looks"] += 1
        if batch["status"] == "in_progress" and batch["looks"] > self.looks:
            batch["status"] = self.end
            if self.end == "completed":
                rows = [self._row(json.loads(line)) for line in self.files[batch["input_file_id"]].splitlines()]
                batch["output_file_id"] = self.keep("".join(f"{json.dumps(row)}\n" for row in rows).encode())
        return batch

    def keep(self, content: bytes) -> str:
        id = f"file-{len(self.files)}"
        self.files[id] = content
        return id

    def _row(self, request: dict[str, Any]) -> dict[str, Any]:
        told = self.reply(request["body"])
        body = {"error": {"message": "fault"}} if isinstance(told, int) else completion("gpt-4", told)
        status = told if isinstance(told, int) else 200
        return {"custom_id": request["custom_id"], "response": {"status_code": status, "body": body}, "error": None}


@contextmanager
def fake_batches(reply: Callable[[dict[str, Any]], Reply] | Reply, **settings: Any) -> Iterator[FakeBatches]:
    fake = FakeBatches(reply if callable(reply) else lambda _: reply, **settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/files":
                lines = [line for line in body.splitlines() if line.startswith(b'{"custom_id"')]
                self._send({"id": fake.keep(b"\n".join(lines)), "object": "file"})
                return
            asked = json.loads(body)
            id = f"batch-{len(fake.batches)}"
            fake.batches[id] = {**asked, "id": id, "object": "batch", "status": "in_progress", "looks": 0}
            self._send(fake.batches[id])

        def do_GET(self) -> None:
            parts = self.path.partition("?")[0].strip("/").split("/")
            if parts[1:] == ["batches"]:
                self._send({"object": "list", "data": list(fake.batches.values()), "has_more": False})
            elif parts[1] == "batches":
                self._send(fake.look(parts[2]))
            else:
                self._send(fake.files[parts[2]])

        def _send(self, value: Any) -> None:
            raw = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
