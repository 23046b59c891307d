from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest_store import answer, begin, judgment, open_store, question, run_start, sql
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete
from test_migrations import ROWS, make_older

from zephyr_bench.errors import StoreError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Answer, SampleScore, Score, ScoredTokens
from zephyr_bench.store import Dump, Loaded, Store, check_dump, check_revision
from zephyr_bench.store.contents import Layout
from zephyr_bench.store.dump_file import batches, write_dump
from zephyr_bench.store.schema import REVISION, metadata

TABLES = {name for name in metadata.tables if name != "kept"}
HOSTILE = "\x00 \ud800 \x10 🧵 \\u0000 \u2028"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dump.jsonl.gz"


def fill(store: Store, model: str = "tiny", *, names: tuple[str, ...] = ("q1", "q2")) -> str:
    """A run that has something in every table."""
    lineage = {"stage_fingerprint": f"sha256:{model}", HOSTILE: [HOSTILE, 0.1]}
    store.put_model(fingerprint=fingerprint(model), name=f"{model} {HOSTILE}", location="x", lineage=lineage)
    run = store.start_run(run_start(model))
    run.add_answers([(question(name), answer(name, f"{name} {HOSTILE}", model=model)) for name in names])
    imported = Answer(fingerprint([model, "imported"]), model, "q1", 2, None, origin={"file": HOSTILE})
    run.add_answers([(question("q1"), imported)])
    run.add_judgments([judgment(name, 0.1 + 0.2, model=model) for name in names])
    run.add_token_scores([ScoredTokens(f"sha256:{model}", float("-inf"), False, 1), ScoredTokens("s", -1 / 3, True, 2)])
    run.add_samples([SampleScore(name, "writing", "score", 1e-320, 1) for name in names])
    run.add_samples([SampleScore("q3", "writing", "score", None, 1, HOSTILE, rival=HOSTILE, replicate=2)])
    run.finish("complete", [Score("score", 2 / 3, None, 2), Score(HOSTILE, None, None, 0, 2)])
    store.tag(run.id, f"nightly {HOSTILE}")
    store.start_training(fingerprint=f"sha256:{model}", name=model, steps=2, done=0).add(1, {"loss": 0.7, "kl": 1e300})
    return run.id


def told(store: Store, id: str) -> list[Any]:
    """All that the store says of a run."""
    run = store.run(id)
    return [
        *(run, store.model(run.model_fingerprint), store.training(f"sha256:{run.model}")),
        *(store.answers_of(id), store.verdicts_of(id), store.questions_of(id), store.samples_of(id)),
        store.scores_of([id]),
    ]


@pytest.mark.parametrize("other", ["sqlite", "postgresql"])
def test_a_dump_loads_into_either_database_and_gives_the_same_bytes_again(
    store: Store, file: Path, other: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    begin(store, "gone").finish("complete", [])
    ids = [fill(store, model) for model in ("tiny", "big")]
    store.delete(store.runs(model="gone")[0].id)  # numbers have a gap
    dump = store.dump(file)
    assert set(dump.rows) == TABLES
    assert all(dump.rows.values())
    assert dump == check_dump(file)
    place = f"sqlite:///{tmp_path}/other.db"
    if other == "postgresql":
        server = request.getfixturevalue("server")
        server.run("create database other_of_dump")
        place = server.url("other_of_dump")
    try:
        with open_store(place) as copy:
            assert copy.load(dump) == {table: Loaded(count, 0) for table, count in dump.rows.items()}
            for id in ids:
                assert told(copy, id) == told(store, id)
            copy.dump(file.with_name("again"))
            begin(copy, "next")  # numbers go on after those loaded
        assert file.with_name("again").read_bytes() == file.read_bytes()
    finally:
        if other == "postgresql":
            server.run("drop database other_of_dump with (force)")


def test_merging_keeps_what_is_there_and_counts_it(new_url: Callable[..., str], file: Path) -> None:
    with open_store(new_url()) as ours, open_store(new_url()) as theirs:
        own = fill(ours, "ours", names=("q1", "q2"))
        begin(theirs, "other").finish("complete", [])  # so that numbers clash
        their = fill(theirs, "theirs", names=("q2", "q3"))
        before, expected = told(ours, own), told(theirs, their)
        loaded = ours.load(theirs.dump(file))
        assert (loaded["runs"], loaded["trainings"]) == (Loaded(2, 0), Loaded(1, 0))
        assert loaded["questions"] == Loaded(1, 2), "q2 is known, and q1 by its imported answer"
        assert loaded["token_scores"] == Loaded(1, 1)
        assert told(ours, own) == before
        assert told(ours, their) == expected
        again = ours.load(check_dump(file))
        assert {table: of.added for table, of in again.items()} == dict.fromkeys(TABLES, 0)
        assert again["samples"] == Loaded(0, 3)


def test_the_first_write_of_a_key_wins(new_url: Callable[..., str], file: Path) -> None:
    with open_store(new_url()) as ours, open_store(new_url()) as theirs:
        runs = []
        for store, text in ((ours, "ours"), (theirs, "theirs")):
            run = begin(store)
            run.add_answers([(question(), answer(text=text))])
            run.finish("complete", [])
            runs.append(run.id)
        ours.load(theirs.dump(file))
        for id in runs:
            assert [found.text for found in ours.answers_of(id)] == ["ours"]


def test_what_a_store_knows_less_of_is_completed(new_url: Callable[..., str], file: Path) -> None:
    key = fingerprint("tiny")
    with open_store(new_url()) as ours, open_store(new_url()) as theirs:
        run = begin(theirs)
        unread = Answer(answer().key, "tiny", "q1", 1, None, origin={"file": "judgments"})
        run.add_answers([(question(), unread)])
        ours.load(theirs.dump(file))
        assert (ours.run(run.id).status, ours.model(key).lineage) == ("interrupted", {})
        assert ours.answers_of(run.id) == [unread]

        read = Answer(answer().key, "tiny", "q1", 1, "So.", "stop", 7, 2, origin={"file": "answers"})
        run.add_answers([(question(), read)])
        theirs.put_model(fingerprint=key, name="renamed", location="y", lineage={"stage": "dpo"})
        run.finish("complete", [Score("score", 7.0, None, 1)])
        ours.load(theirs.dump(file))
        found = ours.run(run.id)
        assert (found.status, found.finished) == ("complete", theirs.run(run.id).finished)
        assert ours.scores_of([run.id]) == {run.id: [Score("score", 7.0, None, 1)]}
        assert ours.model(key).lineage == {"stage": "dpo"}
        assert ours.model(key).name == "tiny"
        (answered,) = ours.answers_of(run.id)
        assert (answered.text, answered.origin) == ("So.", {"file": "answers"})
        assert [answered] == theirs.answers_of(run.id)


def test_a_dumped_run_that_was_being_written_can_be_deleted_where_it_is_loaded(
    store: Store, new_url: Callable[..., str], file: Path
) -> None:
    run = begin(store)
    with open_store(new_url()) as copy:
        copy.load(store.dump(file))
        copy.delete(run.id)
        assert copy.runs() == []
    assert store.run(run.id).status == "running"


def test_what_reports_keep_of_a_run_is_made_again_after_a_load_that_changed_it(
    store: Store, new_url: Callable[..., str], file: Path
) -> None:
    id = fill(store)
    with open_store(new_url()) as copy:
        copy.load(store.dump(file))
        copy.keep([(copy.run(id), {"derived": b"\x00\xff"})])
        copy.load(check_dump(file))
        assert copy.kept([id], "derived") == {id: b"\x00\xff"}  # the load brought nothing new
        with copy._database.write() as connection:
            connection.execute(delete(metadata.tables["samples"]))
        copy.load(check_dump(file))
        assert copy.kept([id], "derived") == {}


def test_a_dump_is_of_one_moment(store: Store, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zephyr_bench.store import store as module

    run = begin(store)
    real = module.contents

    def meanwhile(connection: Any) -> Any:
        for layout, batch in real(connection):
            run.add_samples([SampleScore(layout.table, "writing", f"m{len(batch)}", 1.0)])
            yield layout, batch

    monkeypatch.setattr(module, "contents", meanwhile)
    assert store.dump(file).rows["samples"] == 0
    assert len(store.samples_of(run.id)) > len(TABLES)


def test_a_dump_takes_the_place_of_an_older_one_only_when_it_is_whole(store: Store, file: Path) -> None:
    def broken() -> Iterator[tuple[Layout, list[Any]]]:
        yield Layout("runs", ("id",), (), ()), [("x",)]
        raise StoreError("store x: the server's disk is full.")

    file.write_text("the older one")
    before = sorted(file.parent.iterdir())
    with pytest.raises(StoreError, match="disk is full"):
        write_dump(file, REVISION, broken())
    assert file.read_text() == "the older one"
    assert sorted(file.parent.iterdir()) == before
    store.dump(file, force=True)
    store.dump(file)
    assert check_dump(file).rows["runs"] == 0


def test_a_dump_takes_no_other_files_place_unless_forced(store: Store, file: Path, tmp_path: Path) -> None:
    for content in (b"", b"notes", gzip.compress(b"notes\n")):
        file.write_bytes(content)
        with pytest.raises(StoreError) as caught:
            store.dump(file)
        check_sentence(caught.value, file, "is there, and no dump")
        assert file.read_bytes() == content
    store.dump(file, force=True)
    assert check_dump(store.dump(file).path).rows["runs"] == 0
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place in (pipe, Path("/dev/null")):
        for force in (False, True):
            with pytest.raises(StoreError) as caught:
                store.dump(place, force=force)
            check_sentence(caught.value, place, "is no plain file")


def test_a_dump_never_takes_the_stores_own_place(tmp_path: Path) -> None:
    path, link, hard = tmp_path / "results.db", tmp_path / "link", tmp_path / "hard"
    with open_store(path) as store:
        fill(store)
        link.symlink_to(path)
        hard.hardlink_to(path)
        for place in (path, link, hard, Path(f"{path}-wal"), Path(f"{path}-shm"), Path(f"{path}-journal")):
            for force in (False, True):
                with pytest.raises(StoreError) as caught:
                    store.dump(place, force=force)
                check_sentence(caught.value, place, "is a file of the store itself")
    with open_store(path) as again:
        assert len(again.runs()) == 1


def test_others_write_while_a_dump_is_read_into_the_store(
    store: Store, url: str, new_url: Callable[..., str], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zephyr_bench.store import load as module

    with open_store(new_url()) as theirs:
        fill(theirs, "theirs")
        dump = theirs.dump(file)
    real = module.batches

    def meanwhile(dump: Dump) -> Iterator[Any]:
        with open_store(url, timeout=0.2) as other:
            for layout, batch in real(dump):
                begin(other, layout.table).finish("complete", [])
                yield layout, batch

    monkeypatch.setattr(module, "batches", meanwhile)
    assert store.load(dump)["runs"] == Loaded(1, 0)
    assert {run.model for run in store.runs()} == {"theirs", *TABLES}
    monkeypatch.undo()
    assert store.load(dump)["samples"] == Loaded(0, 3), "on the same connection"


@pytest.fixture
def dumped(file: Path, tmp_path: Path) -> Path:
    with open_store(tmp_path / "dumped.db") as store:
        fill(store)
        store.dump(file)
    return file


def check_refused(path: Path, words: str) -> None:
    with pytest.raises(StoreError) as caught:
        check_dump(path)
    check_sentence(caught.value, path, words)


def check_sentence(error: BaseException, path: Path, words: str = "") -> None:
    message = str(error)
    assert message.startswith(f"dump {path}: ")
    assert message.endswith(".")
    assert "\n" not in message
    assert words in message


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_cut_dump_is_refused(dumped: Path, part: float) -> None:
    os.truncate(dumped, int(dumped.stat().st_size * part))
    check_refused(dumped, "is no dump" if part == 0.0 else "is cut short or altered")


def test_every_altered_byte_is_found(dumped: Path) -> None:
    whole = dumped.read_bytes()
    for at in range(10, len(whole), 97):  # after gzip's own header, of which not every byte means something
        dumped.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(StoreError) as caught:
            check_dump(dumped)
        check_sentence(caught.value, dumped)


def test_altered_content_that_gzip_accepts_is_found(dumped: Path) -> None:
    lines = gzip.decompress(dumped.read_bytes()).splitlines(keepends=True)
    for changed in (lines[:-1], [*lines[:5], *lines[6:]], [lines[0], *lines[2:]], [*lines, lines[-1]]):
        dumped.write_bytes(gzip.compress(b"".join(changed)))
        check_refused(dumped, "is cut short or altered")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x1f\x8b", b"SQLite format 3\x00", gzip.compress(b'{"a": 1}\n[]\n')],
    ids=["empty", "cut", "store", "other-gzip"],
)
def test_what_is_no_dump_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        check_dump(file)
    check_sentence(caught.value, file)


@pytest.mark.parametrize("kind", ["absent", "folder"])
def test_a_file_that_cant_be_read_or_written_is_one_sentence(store: Store, tmp_path: Path, kind: str) -> None:
    path = tmp_path if kind == "folder" else tmp_path / "absent" / "dump.gz"
    check_refused(path, "can't be read")
    with pytest.raises(StoreError) as caught:
        store.dump(path)
    check_sentence(caught.value, path, "can't be written")


def forge(file: Path, *lines: Any, revision: str = REVISION, endless: str = "-") -> Dump:
    """A file that is whole, but that no store wrote; the text `endless` becomes a number too large for a float."""
    content = "".join(
        json.dumps(line) + "\n" for line in [{"format": "zephyr-bench store", "revision": revision}, *lines]
    )
    content = content.replace(f'"{endless}"', "1e999")
    end = json.dumps({"rows": {}, "sha256": hashlib.sha256(content.encode()).hexdigest()})
    file.write_bytes(gzip.compress(f"{content}{end}\n".encode()))
    return check_dump(file)


def table(name: str, *columns: str) -> dict[str, Any]:
    return {"table": name, "columns": columns, "floats": [], "binaries": []}


SCORE = table("token_scores", "key", "log_prob", "is_greedy", "tokens")


@pytest.mark.parametrize(
    "lines",
    [
        [table("nonsense; drop table runs", "x"), [1]],
        [table("token_scores", "key"), ["x"]],
        [SCORE, ["x", "high", True, 1]],
        [SCORE, ["x", 1.0, 1, 1]],
        [SCORE, ["x", 1.0, True, 1.5]],
        [SCORE, ["x", 1.0, True, 2**70]],
        [SCORE, ["x", None, True, 1]],
        [SCORE, [None, 1.0, True, 1]],
        [SCORE, [["x"], 1.0, True, 1]],
        [SCORE, ["\ud800", 1.0, True, 1]],
        [SCORE, ["x", math.inf, True, 1]],
        [SCORE, ["x", math.nan, True, 1]],
        [SCORE, ["x", 1.0, True, 1], ["x", 1.0, True, 1]],
        [SCORE, ["x", 1.0, True]],
        [[1]],
        [{"table": "token_scores", "columns": ["key"], "floats": [7], "binaries": []}],
        [table("tags", "run", "tag"), [1, "x"]],
        [table("run_answers", "run", "answer"), [1, "x"]],
    ],
    ids=lambda lines: json.dumps(lines)[:60],
)
def test_a_forged_dump_is_one_sentence_and_nothing_is_loaded(store: Store, file: Path, lines: list[Any]) -> None:
    good = ["sha256:good", -1.0, True, 1]
    dump = forge(file, SCORE, good, *lines)
    with pytest.raises(StoreError) as caught:
        store.load(dump)
    check_sentence(caught.value, file, "nothing was loaded")
    assert begin(store).token_scores(["sha256:good"]) == {}


MODEL = {"fingerprint": "f", "name": "m", "location": "", "note": "", "lineage": {}, "created": "2026-01-01T00:00:00Z"}
RUN = {
    "number": 1,
    "id": "r",
    "benchmark": "b",
    "model": "m",
    "model_fingerprint": "f",
    "engine_fingerprint": "e",
    "judge": None,
    "judge_fingerprint": None,
    "protocol": {},
    "status": "complete",
    "seed": 0,
    "version": "1",
    "created": "2026-01-01T00:00:00.5Z",
    "finished": None,
    "environment": {},
    "writer_host": "h",
    "writer_pid": 1,
    "writer_started": None,
}
CONTENT = {"turns": ["Why?"], "reference": [], "checks": [[{"words": 3}]]}
QUESTION = {"fingerprint": "q", "id": "q1", "category": "c", "content": CONTENT}
TIED = {"run": 1, "metric": "score"}
FITTING = {
    "models": MODEL,
    "runs": RUN,
    "questions": QUESTION,
    "scores": {**TIED, "position": 0, "value": 1.0, "stderr": None, "n": 1, "missing": 0},
    "samples": {
        **TIED,
        "question": "q1",
        "turn": 1,
        "rival": "",
        "replicate": 0,
        "position": 0,
        "category": "c",
        "value": 1.0,
        "reason": None,
    },
    "answers": {
        "key": "a",
        "model": "m",
        "question": "q1",
        "question_fingerprint": "q",
        "turn": 1,
        "text": None,
        "finish_reason": None,
        "prompt_tokens": None,
        "completion_tokens": None,
        "created": "2026-01-01T00:00:00Z",
        "replicate": 0,
        "origin": {},
    },
}


def lines_of(rows: dict[str, dict[str, Any]]) -> Iterator[Any]:
    for name, row in rows.items():
        floats = [at for at, column in enumerate(row) if column in ("value", "stderr")]
        yield {**table(name, *row), "floats": floats}
        yield list(row.values())


@pytest.mark.parametrize(
    ("where", "column", "value"),
    [
        ("models", "lineage", None),
        ("models", "lineage", []),
        ("models", "lineage", {"steps": "INFINITE"}),
        ("models", "created", "2026"),
        ("models", "created", "2026-13-01T00:00:00Z"),
        ("models", "created", "2026-01-01T00:00:00+02:00"),
        ("runs", "protocol", "x"),
        ("runs", "protocol", None),
        ("runs", "environment", [1]),
        ("runs", "status", "done"),
        ("runs", "finished", "yesterday"),
        ("questions", "content", {"turns": []}),
        ("questions", "content", {**CONTENT, "turns": "Why?"}),
        ("questions", "content", {**CONTENT, "reference": [1]}),
        ("questions", "content", {**CONTENT, "checks": [{}]}),
        ("questions", "content", {**CONTENT, "more": 1}),
        ("answers", "origin", "a file"),
        ("scores", "value", "inf"),
        ("scores", "stderr", "nan"),
        ("samples", "value", "-inf"),
    ],
)
def test_what_no_store_has_in_a_column_is_refused_with_its_line(
    store: Store, file: Path, where: str, column: str, value: Any
) -> None:
    rows = {**FITTING, where: {**FITTING[where], column: value}}
    dump = forge(file, *lines_of(rows), endless="INFINITE")
    with pytest.raises(StoreError) as caught:
        store.load(dump)
    line = 3 + 2 * list(rows).index(where)
    check_sentence(caught.value, file, f"line {line}: {where}.{column} holds a value that no store has there")
    assert store.runs() == []


def test_rows_that_fit_are_loaded(store: Store, file: Path) -> None:
    loaded = store.load(forge(file, *lines_of(FITTING)))
    assert {name: loaded[name] for name in FITTING} == dict.fromkeys(FITTING, Loaded(1, 0))
    assert [score.value for score in store.scores_of(["r"])["r"]] == [1.0]


def test_a_row_that_refers_to_nothing_is_refused(store: Store, file: Path) -> None:
    (judgments,) = (told for told in metadata.sorted_tables if told.name == "judgments")
    columns = [column.name for column in judgments.columns]
    row = {"key": "k", "judge": "j", "reply": "r", "question": "q", "question_fingerprint": "absent", "turn": 1}
    row |= {"answer_key": "a", "replicate": 0, "created": "2026-01-01T00:00:00Z"}
    dump = forge(file, table("judgments", *columns), [row.get(column) for column in columns])
    with pytest.raises(StoreError) as caught:
        store.load(dump)
    check_sentence(caught.value, file, "a row refers to one that it lacks; nothing was loaded")


def test_a_file_that_changes_between_check_and_load_is_refused(store: Store, dumped: Path, tmp_path: Path) -> None:
    dump = check_dump(dumped)
    with open_store(tmp_path / "dumped.db") as source:
        source.tag(source.runs()[0].id, "later")
        source.dump(dumped)
    with pytest.raises(StoreError) as caught:
        store.load(dump)
    check_sentence(caught.value, dumped, "it changed while it was read")
    assert store.runs() == []


def test_a_newer_versions_dump_is_refused(file: Path) -> None:
    dump = forge(file, revision="9999")
    with pytest.raises(StoreError) as caught:
        check_revision(dump)
    check_sentence(caught.value, file, "written by a newer zephyr-bench")


@pytest.mark.parametrize("revision", ROWS)
def test_a_dump_of_an_older_revision_is_brought_up(store: Store, tmp_path: Path, file: Path, revision: str) -> None:
    older = f"sqlite:///{tmp_path}/older.db"
    make_older(older, revision)
    lines: list[Any] = []
    for name in (made.name for made in metadata.sorted_tables if made.name in TABLES):
        columns = {row[1]: row[2] for row in sql(older, f"pragma table_info({name})")}
        if columns:
            lines.append(table(name, *columns))
            lines += [
                [_plain(kind, value) for kind, value in zip(columns.values(), row, strict=True)]
                for row in sql(older, f"select * from {name}")
            ]
    store.load(forge(file, *lines, revision=revision))
    (run,) = store.runs()
    assert run.tags == ("nightly",)
    with open_store(older) as same:
        (expected,) = same.runs()
        assert told(store, run.id) == told(same, expected.id)
        assert (store.training("sha256:s") is None) == (revision < "0003")


def _plain(kind: str, value: Any) -> Any:
    if value is None:
        return None
    return json.loads(value) if kind == "JSON" else bool(value) if kind == "BOOLEAN" else value


values = st.one_of(st.none(), st.floats(allow_nan=False))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.text(), values, st.one_of(st.none(), st.binary()), st.integers()), max_size=5))
def test_rows_come_back_as_they_were_written(tmp_path: Path, rows: list[tuple[Any, ...]]) -> None:
    layout = Layout("t", ("text", "float", "bytes", "int"), (1,), (2,))
    dump = write_dump(tmp_path / "rows.gz", REVISION, [(layout, rows)])
    found = [row for told, batch in batches(check_dump(dump.path)) for row in batch if told == layout]
    assert found == rows


LIMITED = """
import resource, sys
from pathlib import Path
from zephyr_bench.store import Store, check_dump

with Store(sys.argv[1]) as store:
    if sys.argv[2] == "dump":
        store.dump(Path(sys.argv[3]))
    else:
        store.load(check_dump(Path(sys.argv[3])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_store(tmp_path: Path, file: Path) -> None:
    with open_store(tmp_path / "large.db") as store:
        run = begin(store)
        for start in range(0, 3000, 1000):
            names = [f"q{number}" for number in range(start, start + 1000)]
            run.add_answers([(question(name), answer(name, "word " * 5_000)) for name in names])
        run.finish("complete", [])
    assert (tmp_path / "large.db").stat().st_size > 75e6

    def megabytes(what: str, place: Path) -> int:
        words = [sys.executable, "-c", LIMITED, f"sqlite:///{place}", what, str(file)]
        return int(subprocess.run(words, check=True, capture_output=True, text=True, timeout=120).stdout)

    few = megabytes("dump", tmp_path / "none.db")
    assert megabytes("dump", tmp_path / "large.db") < few + 50
    assert megabytes("load", tmp_path / "copy.db") < few + 50
