"""`fetch open-llm-2`: whole data sets from a hub on this machine, into a folder that `--data` takes."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hub import GATED, command, fake_hub
from lm_eval_data_2 import write_data_2

from zephyr_bench.benchmarks import open_benchmark

COMMIT = "0" * 40
BEHIND_A_LOGIN: list[str] = []  # data sets


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(address, the folder that it publishes), by the part of the hub's interface that a snapshot asks."""
    published = write_data_2(tmp_path / "published")

    with fake_hub(lambda path: GATED if is_gated(path) else answer(published, path), commit=lambda: COMMIT) as address:
        yield address, published


def is_gated(path: str) -> bool:
    return any(path.startswith(f"/{kind}/{name}") for kind in ("datasets", "api/datasets") for name in BEHIND_A_LOGIN)


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


def test_the_fetched_folder_is_all_that_version_2_needs_and_counts_as_the_same_data(
    hub: tuple[str, Path], tmp_path: Path
) -> None:
    endpoint, published = hub
    done = command("fetch", "open-llm-2", "-o", "data", "--format", "json", home=tmp_path, endpoint=endpoint)
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
    monkeypatch.setattr(sys.modules[__name__], "BEHIND_A_LOGIN", ["Idavidrein/gpqa"])
    done = command("fetch", "open-llm-2", "-o", "data", "--format", "json", home=tmp_path, endpoint=endpoint)
    assert done.returncode == 2
    assert "Idavidrein/gpqa is gated: accept its terms on its page of the hub, set HF_TOKEN" in done.stderr
    brought = {f"{place.parent.name}/{place.name}" for place in (tmp_path / "data").glob("*/*") if any(place.iterdir())}
    expected = {f"{place.parent.name}/{place.name}" for place in published.glob("*/*")}
    assert brought == expected - {"Idavidrein/gpqa"}
    assert {"/".join(Path(record["file"]).parts[1:3]) for record in json.loads(done.stdout)} == brought


def test_without_a_network_it_says_so_in_one_sentence(tmp_path: Path) -> None:
    done = command("fetch", "open-llm", "-o", "data", home=tmp_path)
    assert done.returncode == 2
    assert "the hub does not answer from here; run `zephyr-bench fetch open-llm -o DIR`" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_a_suite_with_data_of_its_own_has_nothing_to_fetch(tmp_path: Path) -> None:
    done = command("fetch", "open-llm-mini", "-o", "data", home=tmp_path)
    assert done.returncode == 2
    assert "open-llm-mini has nothing on the hub" in done.stderr
