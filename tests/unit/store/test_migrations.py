from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from conftest_store import answer, begin, judgment, open_store, question
from sqlalchemy import Column, Table, Text, create_engine

from zephyr_bench.errors import StoreError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import SampleScore
from zephyr_bench.store import Store
from zephyr_bench.store.migrate import migration_config
from zephyr_bench.store.schema import REVISION, VERSION_TABLE, metadata


@pytest.fixture
def differences(store: Store, path: Path) -> Callable[[], list[object]]:
    def find() -> list[object]:
        options = {"compare_type": True, "version_table": VERSION_TABLE}
        with create_engine(f"sqlite:///{path}").connect() as connection:
            return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    return find


def test_a_fresh_store_has_the_tables_that_the_schema_describes(
    differences: Callable[[], list[object]],
) -> None:
    assert differences() == []


def test_a_schema_change_without_a_migration_is_found(differences: Callable[[], list[object]]) -> None:
    forgotten = Table("forgotten", metadata, Column("key", Text, primary_key=True))
    try:
        assert len(differences()) == 1
    finally:
        metadata.remove(forgotten)


def test_without_rowid_and_cascades_are_as_the_schema_describes(store: Store, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        made = dict(connection.execute("select name, sql from sqlite_master where type = 'table'"))
        for table in metadata.tables.values():
            without = table.dialect_options["sqlite"]["with_rowid"] is False
            assert ("WITHOUT ROWID" in made[table.name]) == without, table.name
            keys = connection.execute(f"pragma foreign_key_list({table.name})").fetchall()
            expected = {key.parent.name: key.ondelete or "NO ACTION" for key in table.foreign_keys}
            assert {key[3]: key[6] for key in keys} == expected, table.name


def test_the_revision_of_the_schema_is_the_newest_migration(path: Path) -> None:
    with create_engine("sqlite://").connect() as connection:
        assert ScriptDirectory.from_config(migration_config(connection)).get_current_head() == REVISION


def test_a_store_of_the_first_revision_opens_with_its_rows(path: Path) -> None:
    with create_engine(f"sqlite:///{path}").connect() as connection:
        command.upgrade(migration_config(connection), "0001")
        connection.commit()
    model = f"insert into models values ('{fingerprint('tiny')}', 'tiny', 'somewhere', '', '{{}}', '2026')"
    run = (
        "insert into runs values (1, '20260101-000000-abcdef', 'mt-bench-mini', 'tiny', "
        f"'{fingerprint('tiny')}', 'e', 'rubric', 'j', '{{}}', 'complete', '2026', '2026', 0, '0', '{{}}', 'h', 1, "
        "null)"
    )
    said, (match, verdict) = answer(), judgment()
    with sqlite3.connect(path) as old:
        old.execute("pragma foreign_keys = on")
        for statement in (model, run):
            old.execute(statement)
        old.execute(
            "insert into questions values (?, 'q1', 'writing', ?)",
            (question().fingerprint, '{"turns": ["q1: Why?"], "reference": [], "checks": []}'),
        )
        values = (said.key, said.model, said.question, question().fingerprint, 1, said.text, "stop", 7, 2, "2026")
        old.execute("insert into answers values (?,?,?,?,?,?,?,?,?,?)", values)
        graded = (verdict.key, "rubric", 7.0, None, "[[7]]", 20, 3, 0.001, "q1", question().fingerprint, 1, said.key)
        old.execute("insert into judgments values (?,?,?,?,?,?,?,?,?,?,?,?,null,0,'2026')", graded)
        old.execute("insert into run_answers values (1, ?)", (said.key,))
        old.execute("insert into run_judgments values (1, ?)", (verdict.key,))
        old.execute("insert into samples values (1, 'score', 'q1', 1, 0, 'writing', 7.0, null)")
    with open_store(path) as store:
        (info,) = store.runs()
        assert store.answers_of(info.id) == [said]
        assert store.judgments_of(info.id) == [verdict]
        assert store.samples_of(info.id) == [SampleScore("q1", "writing", "score", 7.0, 1)]
        (found,) = store.verdicts_of(info.id)
        assert (found.judgment, found.question, found.answer, found.rival) == (verdict, "q1", said.key, None)
        assert [asked.turns for asked in store.questions_of(info.id)] == [match.question.turns]


def test_opening_twice_changes_nothing(path: Path) -> None:
    with open_store(path) as store:
        run = begin(store)
        run.add_answers([(question(), answer())])
    before = _dump(path)
    for _ in range(2):
        with open_store(path) as store:
            assert store.answers_of(run.id) == [answer()]
    assert _dump(path) == before


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    with open_store(path) as store:
        assert store.runs() == []


def test_a_store_of_a_newer_version_is_refused_in_one_sentence(path: Path) -> None:
    open_store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"update {VERSION_TABLE} set version_num = '9999'")
    before = _dump(path)
    with pytest.raises(StoreError) as caught:
        open_store(path)
    message = str(caught.value)
    assert message.startswith(f"store {path}: written by a newer zephyr-bench (revision 9999")
    assert "\n" not in message
    assert _dump(path) == before


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


def _dump(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        return list(connection.iterdump())
