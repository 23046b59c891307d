"""`fetch`: a data set's files from a hub on this machine into a folder, and what is said where there is none."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from alpaca_files import DATA_SET, write_data

Hub = dict[str, bytes]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, Hub]]:
    """(address, files by their place on it), with the headers that huggingface_hub looks for."""
    folder = write_data(tmp_path / "published") / DATA_SET
    files = {f"/datasets/{DATA_SET}/resolve/main/{file.name}": file.read_bytes() for file in folder.iterdir()}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._head()

        def do_GET(self) -> None:
            content = self._head()
            self.wfile.write(content)

        def _head(self) -> bytes:
            content = files.get(self.path.partition("?")[0])
            self.send_response(404 if content is None else 200)
            self.send_header("X-Repo-Commit", hashlib.sha1(b"".join(files.values())).hexdigest())
            self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            return content or b""

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", files
    server.shutdown()
    server.server_close()


def command(*words: str, home: Path, endpoint: str = "") -> subprocess.CompletedProcess[str]:
    """In a process of its own: huggingface_hub reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": endpoint} if endpoint else {"HF_HUB_OFFLINE": "1"}
    left = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "ZEPHYR_"))}
    environment = {**left, **settings, "HF_HOME": str(home / "hf"), "XDG_DATA_HOME": str(home)}
    words = (str(Path(sys.executable).with_name("zephyr-bench")), *words)
    return subprocess.run(words, capture_output=True, text=True, env=environment, cwd=home, check=False)


def test_a_family_comes_in_the_hubs_layout_and_a_change_is_refused(hub: tuple[str, Hub], tmp_path: Path) -> None:
    endpoint, files = hub
    done = command("fetch", "alpaca-eval", "-o", "data", home=tmp_path, endpoint=endpoint)
    assert done.returncode == 0, done.stderr
    fetched = {file.name: file.read_bytes() for file in (tmp_path / "data" / DATA_SET).iterdir()}
    assert fetched == {place.rpartition("/")[2]: content for place, content in files.items()}
    assert all(name in done.stdout for name in fetched)

    gamed = f"/datasets/{DATA_SET}/resolve/main/df_gamed.csv"
    files[gamed] += b"\n"
    again = command("fetch", "alpaca-eval", "-o", "other", home=tmp_path, endpoint=endpoint)
    assert again.returncode == 2
    assert "df_gamed.csv: SHA-256 is" in again.stderr
    assert "when it was first used" in again.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["alpaca-eval-2"], "the hub does not answer from here; run `zephyr-bench fetch alpaca-eval-2 -o DIR`"),
        (["alpaca-evil"], "unknown benchmark 'alpaca-evil'. Did you mean alpaca-eval or"),
        (["mt-bench-mini"], "mt-bench-mini has nothing on the hub"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_sentence(words: list[str], told: str, tmp_path: Path) -> None:
    done = command("fetch", *words, "-o", "data", home=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()
