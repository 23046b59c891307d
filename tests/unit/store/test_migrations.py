from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from conftest_store import answer, begin, judgment, open_store, question, sql
from sqlalchemy import Column, MetaData, Table, Text, create_engine, inspect, select

from zephyr_bench.errors import StoreError, UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.store import Store
from zephyr_bench.store.migrate import migration_config, revisions
from zephyr_bench.store.schema import REVISION, VERSION_TABLE, metadata

ASKED, SAID, JUDGED = question(), answer(), judgment()[1]
# What a store of each revision held, beside what those before it held: as its own zephyr-bench wrote it.
ROWS = {
    "0001": [
        f"insert into models values ('{fingerprint('tiny')}', 'tiny', 'somewhere', '', '{{}}', 'AT')",
        f"insert into runs values (7, '20260101-000000-abcdef', 'mt-bench-mini', 'tiny', '{fingerprint('tiny')}', "
        "'e', 'rubric', 'j', '{}', 'complete', 'AT', 'AT', 0, '0', '{}', 'h', 1, null)",
        f"""insert into questions values ('{ASKED.fingerprint}', 'q1', 'writing',
            '{{"turns": ["q1: Why?"], "reference": [], "checks": []}}')""",
        "insert into answers (key, model, question, question_fingerprint, turn, text, finish_reason, prompt_tokens, "
        f"completion_tokens, created) values ('{SAID.key}', '{SAID.model}', 'q1', '{ASKED.fingerprint}', 1, 'So.', "
        "'stop', 7, 2, 'AT')",
        "insert into judgments (key, judge, score, reason, reply, input_tokens, output_tokens, cost_usd, question, "
        "question_fingerprint, turn, answer_key, rival_key, replicate, created) values "
        f"('{JUDGED.key}', 'rubric', 7.0, null, '[[7]]', 20, 3, 0.001, 'q1', '{ASKED.fingerprint}', 1, '{SAID.key}', "
        "null, 0, 'AT')",
        f"insert into run_answers values (7, '{SAID.key}')",
        f"insert into run_judgments values (7, '{JUDGED.key}')",
        "insert into samples (run, metric, question, turn, position, category, value) "
        "values (7, 'score', 'q1', 1, 0, 'writing', 7.25)",
        "insert into scores values (7, 'score', 0, 7.25, 0.1, 1, 0)",
        "insert into tags values (7, 'nightly')",
        "insert into token_scores values ('sha256:t', -1.5, true, 3)",
    ],
    "0002": [
        "insert into samples values (7, 'score', 'q2', 1, 'other', 0, 1, 'math', 0.5, null)",
        "insert into samples values (7, 'score', 'q2', 1, 'other', 1, 2, 'math', null, 'no verdict')",
        """update answers set origin = '{"file": "a"}'""",
        """update judgments set prompt = 'math', origin = '{"file": "j"}'""",
    ],
    "0003": [
        "insert into trainings values (3, 'sha256:s', 'smol', 2, 'AT')",
        "insert into training_values values (3, 1, 'loss', 0.5)",
        "insert into training_values values (3, 2, 'loss', null)",
    ],
    "0004": ["insert into kept values (7, 'derived', BYTES)"],
}


def make_older(url: str, revision: str) -> None:
    """A store of that revision, with rows."""
    engine = create_engine(url)
    with engine.begin() as connection:
        command.upgrade(migration_config(connection), revision)
    engine.dispose()
    for number, statements in ROWS.items():
        if number <= revision:
            said = "\n;".join(statements).replace("'AT'", "'2026-01-01T00:00:00.000000Z'")
            said = said.replace("BYTES", "x'00ff'" if "sqlite" in url else "'\\x00ff'::bytea")
            sql(url, *(said if revision == "0001" else _with_rival(said)).split("\n;"))


def _with_rival(statement: str) -> str:
    """A sample of the first revision, for the tables after it: where nothing was told, it was compared with nobody."""
    before, after = (
        "turn, position, category, value) values (7, 'score', 'q1', 1, 0,",
        "turn, rival, replicate, position",
    )
    return statement.replace(before, f"{after}, category, value) values (7, 'score', 'q1', 1, '', 0, 0,")


def everything(url: str) -> dict[str, Any]:
    """Tables with their columns, keys and rows, whatever revision they are of."""
    engine = create_engine(url)
    found: dict[str, Any] = {}
    with engine.connect() as connection:
        reflected = MetaData()
        reflected.reflect(connection)
        look = inspect(connection)
        for table in reflected.sorted_tables:
            columns = [
                (column["name"], str(column["type"]), column["nullable"]) for column in look.get_columns(table.name)
            ]
            keys = [look.get_pk_constraint(table.name), sorted(look.get_foreign_keys(table.name), key=str)]
            indexes = sorted((str(index["name"]), index["column_names"]) for index in look.get_indexes(table.name))
            rows = sorted(map(str, connection.execute(select(table))))
            found[table.name] = {"columns": columns, "keys": str(keys), "indexes": indexes, "rows": rows}
    engine.dispose()
    return found


@pytest.fixture
def differences(store: Store, url: str) -> Callable[[], list[object]]:
    def find() -> list[object]:
        options = {"compare_type": True, "version_table": VERSION_TABLE}
        with create_engine(url).connect() as connection:
            return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    return find


def test_a_fresh_store_has_the_tables_that_the_schema_describes(
    differences: Callable[[], list[object]],
) -> None:
    assert differences() == []


def test_a_store_that_went_back_and_forth_has_them_too(
    store: Store, differences: Callable[[], list[object]], url: str
) -> None:
    before = everything(url)
    for revision in revisions():
        store.downgrade(revision)
        open_store(url).close()
        assert differences() == []
    assert everything(url) == before


def test_a_schema_change_without_a_migration_is_found(differences: Callable[[], list[object]]) -> None:
    forgotten = Table("forgotten", metadata, Column("key", Text, primary_key=True))
    try:
        assert len(differences()) == 1
    finally:
        metadata.remove(forgotten)


def test_without_rowid_and_cascades_are_as_the_schema_describes(path: Path) -> None:
    def check() -> None:
        with sqlite3.connect(path) as connection:
            made = dict(connection.execute("select name, sql from sqlite_master where type = 'table'"))
            for table in metadata.tables.values():
                without = table.dialect_options["sqlite"]["with_rowid"] is False
                assert ("WITHOUT ROWID" in made[table.name]) == without, table.name
                keys = connection.execute(f"pragma foreign_key_list({table.name})").fetchall()
                expected = {key.parent.name: key.ondelete or "NO ACTION" for key in table.foreign_keys}
                assert {key[3]: key[6] for key in keys} == expected, table.name

    with open_store(path) as store:
        check()
        store.downgrade("0001")
    open_store(path).close()
    check()


def test_the_revision_of_the_schema_is_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(migration_config(None)).get_current_head() == REVISION
    assert [*revisions()] == [*ROWS], "a new migration needs rows here"


@pytest.mark.parametrize("revision", ROWS)
def test_a_store_of_each_revision_opens_with_its_rows(new_url: Callable[..., str], revision: str) -> None:
    url = new_url()
    make_older(url, revision)
    with open_store(url) as store:
        (info,) = store.runs()
        (said,), (judged,) = store.answers_of(info.id), store.judgments_of(info.id)
        assert (said.key, said.text, said.prompt_tokens) == (SAID.key, "So.", 7)
        assert (judged.key, judged.score, judged.cost_usd) == (JUDGED.key, 7.0, 0.001)
        first, *repeats = store.samples_of(info.id)
        assert first == SampleScore("q1", "writing", "score", 7.25, 1)
        assert store.scores_of([info.id]) == {info.id: [Score("score", 7.25, 0.1, 1)]}
        (found,) = store.verdicts_of(info.id)
        assert (found.judgment, found.question, found.answer, found.rival) == (judged, "q1", said.key, None)
        assert [asked.turns for asked in store.questions_of(info.id)] == [("q1: Why?",)]
        assert info.tags == ("nightly",)
        if revision >= "0002":
            assert (said.origin, judged.origin, judged.prompt) == ({"file": "a"}, {"file": "j"}, "math")
            assert [(other.rival, other.replicate, other.value) for other in repeats] == [
                ("other", 0, 0.5),
                ("other", 1, None),
            ]
        training = store.training("sha256:s")
        assert (training is not None) == (revision >= "0003")
        assert training is None or training.values == {"loss": [(1, 0.5), (2, None)]}
        begin(store)
        assert len(store.runs()) == 2


@pytest.mark.parametrize("revision", ROWS)
def test_up_and_down_again_leaves_each_revision_as_it_was(new_url: Callable[..., str], revision: str) -> None:
    url = new_url()
    make_older(url, revision)
    before = everything(url)
    with open_store(url) as store:
        assert store.lost_by_downgrade(revision) == {}
        store.downgrade(revision)
    assert everything(url) == before
    with open_store(url) as store:
        assert [run.id for run in store.runs()] == ["20260101-000000-abcdef"]


@pytest.mark.parametrize("revision", ROWS)
def test_down_leaves_what_the_older_tables_can_hold(new_url: Callable[..., str], revision: str) -> None:
    older, newest = new_url(), new_url()
    make_older(older, revision)
    make_older(newest, REVISION)
    with open_store(newest) as store:
        store.downgrade(revision)
    found, expected = everything(newest), everything(older)
    if revision == "0001":  # which had no repeats, of which the first stays
        assert [row for row in found["samples"]["rows"] if row not in expected["samples"]["rows"]] == [
            "(7, 'score', 'q2', 1, 1, 'math', 0.5, None)"
        ]
        for tables in (found, expected):
            tables["samples"]["rows"] = []
    assert found == expected


def test_what_going_back_drops_is_counted(new_url: Callable[..., str]) -> None:
    url = new_url()
    make_older(url, REVISION)
    trained = {"trainings": 1, "values seen in training": 2}
    with open_store(url) as store:
        assert store.lost_by_downgrade(REVISION) == store.lost_by_downgrade("0003") == {}
        assert store.lost_by_downgrade("0002") == trained
        assert store.lost_by_downgrade("0001") == {
            **trained,
            "samples of repeats and of further rivals": 1,
            "origins of imported answers": 1,
            "origins of imported judgments": 1,
            "names of judges' prompts": 1,
        }


def test_an_unknown_revision_is_one_sentence(store: Store) -> None:
    with pytest.raises(UserError) as caught:
        store.lost_by_downgrade("0")
    assert str(caught.value).startswith(
        "--to 0: no such revision of the store's tables; known: 0001 (The first tables), "
    )


def test_a_store_in_use_is_not_taken_back(store: Store, url: str) -> None:
    run, before = begin(store), everything(url)
    with pytest.raises(UserError, match=f"run {run.id} is being written by process"):
        store.downgrade("0001")
    assert everything(url) == before


def test_opening_twice_changes_nothing(url: str) -> None:
    with open_store(url) as store:
        run = begin(store)
        run.add_answers([(question(), answer())])
    before = everything(url)
    for _ in range(2):
        with open_store(url) as store:
            assert store.answers_of(run.id) == [answer()]
    assert everything(url) == before


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    with open_store(path) as store:
        assert store.runs() == []


def test_a_store_of_a_newer_version_is_refused_in_one_sentence(url: str) -> None:
    with open_store(url) as store:
        place = store.place
    sql(url, f"update {VERSION_TABLE} set version_num = '9999'")
    before = everything(url)
    with pytest.raises(StoreError) as caught:
        open_store(url)
    message = str(caught.value)
    assert message.startswith(f"store {place}: written by a newer zephyr-bench (revision 9999")
    assert "\n" not in message
    assert everything(url) == before


@pytest.mark.parametrize("tables", [["bookmarks"], ["alembic_version"], ["runs", "models"]])
def test_another_programs_database_is_refused_and_left_unchanged(path: Path, tables: list[str]) -> None:
    connection = sqlite3.connect(path)
    for table in tables:
        connection.execute(f"create table {table} (version_num text)")
        connection.execute(f"insert into {table} values ('0001')")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError) as caught:
        open_store(path)
    assert str(caught.value).startswith(f"store {path}: a database of another program")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
