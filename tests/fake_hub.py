"""A local server that plays the part of the hub that huggingface_hub asks, and the command run against it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

GATED = "gated"  # a reply for what needs a login


@contextmanager
def fake_hub(reply: Callable[[str], bytes | str | None], *, commit: Callable[[], str]) -> Iterator[str]:
    """Its address. `reply` is given a request's path: the content, GATED, or None for what isn't there."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._head()

        def do_GET(self) -> None:
            self.wfile.write(self._head())

        def _head(self) -> bytes:
            found = reply(self.path.partition("?")[0])
            content = found if isinstance(found, bytes) else b""
            self.send_response(403 if found == GATED else 404 if found is None else 200)
            if found == GATED:
                self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("X-Repo-Commit", commit())
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return content

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def command(*words: str, home: Path, endpoint: str = "") -> subprocess.CompletedProcess[str]:
    """`zephyr-bench` in a process of its own: huggingface_hub reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": endpoint} if endpoint else {"HF_HUB_OFFLINE": "1"}
    left = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "ZEPHYR_"))}
    environment = {**left, **settings, "HF_HOME": str(home / "hf"), "XDG_DATA_HOME": str(home)}
    words = (str(Path(sys.executable).with_name("zephyr-bench")), *words)
    return subprocess.run(words, capture_output=True, text=True, env=environment, cwd=home, check=False)
