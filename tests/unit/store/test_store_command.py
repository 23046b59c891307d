from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest_store import answer as said
from conftest_store import begin, open_store, question, sql
from typer.testing import CliRunner, Result

from zephyr_bench.cli import app
from zephyr_bench.errors import UserError
from zephyr_bench.store.schema import REVISION, VERSION_TABLE


def run(*words: str, answer: str = "") -> Result:
    return CliRunner().invoke(app, ["store", *words], input=answer)


@pytest.fixture
def filled(url: str) -> str:
    with open_store(url) as store:
        begun = begin(store)
        begun.add_answers([(question(), said())])
        begun.finish("complete", [])
        store.start_training(fingerprint="sha256:s", name="smol", steps=1, done=0).add(1, {"loss": 0.5})
    return url


def test_dump_and_load_print_what_they_moved(filled: str, tmp_path: Path) -> None:
    file, copy = str(tmp_path / "backup.gz"), f"sqlite:///{tmp_path}/copy.db"
    dumped = run("dump", file, "--store", filled, "--format", "json")
    assert dumped.exit_code == 0, dumped.output
    counts = {row["table"]: row["rows"] for row in json.loads(dumped.stdout)}
    assert (counts["answers"], counts["runs"], counts["samples"]) == (1, 1, 0)
    assert f"{file}: 0.0 MB, sha256 of the content " in dumped.stderr
    for added, there in ((1, 0), (0, 1)):
        loaded = run("load", file, "--store", copy, "--format", "json")
        assert loaded.exit_code == 0, loaded.output
        (answers,) = (row for row in json.loads(loaded.stdout) if row["table"] == "answers")
        assert answers == {"table": "answers", "added": added, "there": there}
    table = run("load", file, "--store", copy)
    assert table.stdout.split("\n")[0].split() == ["table", "added", "there"]


def test_a_damaged_dump_makes_no_store(tmp_path: Path) -> None:
    file = tmp_path / "backup.gz"
    file.write_bytes(b"\x1f\x8b nothing")
    refused = run("load", str(file), "--store", f"sqlite:///{tmp_path}/new.db")
    assert isinstance(refused.exception, UserError)
    assert "is cut short or altered" in str(refused.exception)
    assert not (tmp_path / "new.db").exists()


def test_going_back_says_what_is_lost_and_asks(filled: str) -> None:
    refused = run("migrate", "--to", "0002", "--store", filled, answer="n\n")
    assert "back to revision 0002, which drops 1 trainings, 1 values seen in training? [y/N]" in refused.stderr
    assert isinstance(refused.exception, UserError)
    version = f"select version_num from {VERSION_TABLE}"
    assert sql(filled, version) == [(REVISION,)]
    for words, answer in (((), "y\n"), (("--yes",), "")):
        done = run("migrate", "--to", "0002", "--store", filled, *words, answer=answer)
        assert done.exit_code == 0, done.output
        assert done.stdout.strip() == answer.strip(), "the answer is echoed, as a terminal does"
        assert "is of revision 0002 now" in done.stderr
        assert sql(filled, version) == [("0002",)]
    with open_store(filled) as store:
        (found,) = store.runs()
        assert store.answers_of(found.id) == [said()]
        assert store.training("sha256:s") is None


def test_going_back_tells_of_trainings_and_asks_nobody_where_nobody_answers(filled: str) -> None:
    refused = run("migrate", "--to", "0002", "--store", filled)
    assert "a training that is being written goes on, and what it sees is kept here no more" in refused.stderr
    assert isinstance(refused.exception, UserError)
    assert str(refused.exception).endswith("was not changed: nobody answers; --yes asks nobody.")
    done = run("migrate", "--to", "0003", "--store", filled, answer="y\n")
    assert "which drops nothing that can't be made again? [y/N]" in done.stderr
    assert "is of revision 0003 now; whatever" in done.stderr
    assert "a training" not in done.stderr


def test_a_running_run_of_another_host_goes_back_by_force(filled: str) -> None:
    with open_store(filled) as store:
        begin(store)
    sql(filled, "update runs set writer_host = 'another host'")
    words = ("migrate", "--to", "0003", "--store", filled, "--yes")
    assert isinstance(run(*words).exception, UserError)
    assert run(*words, "--force").exit_code == 0


def test_a_dump_onto_the_store_or_another_file_is_refused(tmp_path: Path) -> None:
    place, notes = tmp_path / "results.db", tmp_path / "notes"
    with open_store(place) as store:
        begin(store)
    notes.write_text("mine")
    for file in (place, notes):
        before = file.read_bytes()
        assert isinstance(run("dump", str(file), "--store", f"sqlite:///{place}").exception, UserError)
        assert file.read_bytes() == before
    assert run("dump", str(notes), "--store", f"sqlite:///{place}", "--force").exit_code == 0


@pytest.mark.parametrize("end", ["+pysqlite:///{}", ":///{}?timeout=5", ":///file:{}?uri=true"])
def test_a_mistyped_store_makes_no_file_for_who_only_reads(tmp_path: Path, end: str) -> None:
    url = f"sqlite{end.format(tmp_path / 'typo.db')}"
    refused = run("dump", str(tmp_path / "dump.gz"), "--store", url)
    assert "there is none yet" in str(refused.exception)
    assert list(tmp_path.iterdir()) == []
    with open_store(url) as store:
        begin(store)
    assert run("dump", str(tmp_path / "dump.gz"), "--store", url).exit_code == 0


def test_a_password_is_never_shown(filled: str) -> None:
    done = run("migrate", "--to", "0002", "--store", filled, "--yes")
    assert "secret" not in done.output
