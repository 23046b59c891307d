"""`fetch`: a data set's files from a hub on this machine into a folder, and what is said where there is none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from alpaca_files import DATA_SET, write_data
from fake_hub import command, fake_hub

Hub = dict[str, bytes]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, Hub]]:
    """(address, files by their place on it), with the headers that huggingface_hub looks for."""
    folder = write_data(tmp_path / "published") / DATA_SET
    files = {f"/datasets/{DATA_SET}/resolve/main/{file.name}": file.read_bytes() for file in folder.iterdir()}

    with fake_hub(files.get, commit=lambda: hashlib.sha1(b"".join(files.values())).hexdigest()) as address:
        yield address, files


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
