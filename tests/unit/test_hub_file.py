"""Files of hub data sets: where they are looked for, and that a change is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from zephyr_bench import hub_file
from zephyr_bench.errors import UserError

REPO, NAME = "owner/data", "rows.csv"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    file = tmp_path / REPO / NAME
    file.parent.mkdir(parents=True)
    file.write_text("one\n")
    return tmp_path


def test_the_first_folder_that_has_it_is_taken(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    assert hub_file.locate(REPO, NAME, [empty, folder]) == folder / REPO / NAME
    assert hub_file.at_hand(REPO, NAME, [empty, folder])


def test_a_change_is_refused_until_it_is_accepted(folder: Path) -> None:
    file = hub_file.locate(REPO, NAME, [folder])
    hub_file.locate(REPO, NAME, [folder])
    file.write_text("two\n")
    with pytest.raises(UserError, match="when it was first used; bring the old file back, or accept the new one"):
        hub_file.locate(REPO, NAME, [folder])
    record = hub_file.record_file()
    record.write_text(record.read_text().replace(str(file.resolve()), "another place"))
    assert hub_file.locate(REPO, NAME, [folder]) == file


def test_a_broken_record_is_named_and_kept(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    record = hub_file.record_file()
    record.parent.mkdir(parents=True)
    record.write_text("[]")
    with pytest.raises(UserError, match=r"first-seen\.json: expected an object"):
        hub_file.locate(REPO, NAME, [folder])
    assert record.read_text() == "[]"


def test_where_records_cannot_be_kept_their_place_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/proc/nowhere")
    with pytest.raises(UserError, match=r"first-seen\.json can't be written: .*; such records .* XDG_DATA_HOME; set"):
        hub_file.locate(REPO, NAME, [folder])
