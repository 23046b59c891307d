"""`fetch open-llm-2`: whole data sets from a hub on this machine, into a folder that `--data` takes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from lm_eval_data_2 import write_data_2

from zephyr_bench.benchmarks import open_benchmark

COMMIT = "0" * 40
GATED: list[str] = []  # data sets that need a login


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(address, the folder that it publishes), by the part of the hub's interface that a snapshot asks."""
    published = write_data_2(tmp_path / "published")

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._head()

        def do_GET(self) -> None:
            self.wfile.write(self._head())

        def _head(self) -> bytes:
            path = self.path.partition("?")[0]
            gated = any(path.startswith(f"/{kind}/{name}") for kind in ("datasets", "api/datasets") for name in GATED)
            content = None if gated else answer(published, path)
            self.send_response(403 if gated else 404 if content is None else 200)
            if gated:
                self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha1(content or b"").hexdigest()}"')
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            return content or b""

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", published
    server.shutdown()
    server.server_close()


def answer(published: Path, path: str) -> bytes | None:
    _, *words = path.split("/")
    if words[:2] == ["api", "datasets"]:
        folder = published / words[2] / words[3]
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        if words[4:5] == ["tree"]:
            return json.dumps([entry(file, folder) for file in files]).encode()
        return json.dumps({"id": "/".join(words[2:4]), "sha": COMMIT}).encode()
    file = published.joinpath(*words[1:3], *words[5:])  # datasets/OWNER/NAME/resolve/COMMIT/PLACE
    return file.read_bytes() if file.is_file() else None


def entry(file: Path, folder: Path) -> dict[str, Any]:
    content = file.read_bytes()
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": str(file.relative_to(folder)), "size": len(content), "oid": oid}


def fetch(*words: str, home: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: huggingface_hub reads its settings when it is imported."""
    left = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "ZEPHYR_"))}
    environment = {**left, **settings, "HF_HOME": str(home / "hf"), "XDG_DATA_HOME": str(home)}
    command = (str(Path(sys.executable).with_name("zephyr-bench")), "fetch", *words)
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=home, check=False)


def test_the_fetched_folder_is_all_that_version_2_needs_and_counts_as_the_same_data(
    hub: tuple[str, Path], tmp_path: Path
) -> None:
    endpoint, published = hub
    done = fetch("open-llm-2", "-o", "data", "--format", "json", home=tmp_path, HF_ENDPOINT=endpoint)
    assert done.returncode == 0, done.stderr
    files = {Path(record["file"]).relative_to("data") for record in json.loads(done.stdout)}
    assert files == {file.relative_to(published) for file in published.rglob("*") if file.is_file()}
    fetched, given = (open_benchmark("open-llm-2", data=folder) for folder in (tmp_path / "data", published))
    assert fetched.hub_data() == []
    assert fetched.protocol(None)["data"] == given.protocol(None)["data"]  # huggingface_hub's notes are no data


def test_a_gated_data_set_does_not_keep_the_others_from_coming(
    hub: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, published = hub
    monkeypatch.setattr(sys.modules[__name__], "GATED", ["Idavidrein/gpqa"])
    done = fetch("open-llm-2", "-o", "data", "--format", "json", home=tmp_path, HF_ENDPOINT=endpoint)
    assert done.returncode == 2
    assert "Idavidrein/gpqa is gated: accept its terms on its page of the hub, set HF_TOKEN" in done.stderr
    brought = {f"{place.parent.name}/{place.name}" for place in (tmp_path / "data").glob("*/*") if any(place.iterdir())}
    expected = {f"{place.parent.name}/{place.name}" for place in published.glob("*/*")}
    assert brought == expected - {"Idavidrein/gpqa"}
    assert {"/".join(Path(record["file"]).parts[1:3]) for record in json.loads(done.stdout)} == brought


def test_without_a_network_it_says_so_in_one_sentence(tmp_path: Path) -> None:
    done = fetch("open-llm", "-o", "data", home=tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "the hub does not answer from here; run `zephyr-bench fetch open-llm -o DIR`" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_a_suite_with_data_of_its_own_has_nothing_to_fetch(tmp_path: Path) -> None:
    done = fetch("open-llm-mini", "-o", "data", home=tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "open-llm-mini has nothing on the hub" in done.stderr
