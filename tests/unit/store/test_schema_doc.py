from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest_store import DATABASES, answer, begin, judgment, open_store, question, run_start
from postgresql_server import Server
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError

from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Answer, Match, SampleScore, Score
from zephyr_bench.store import Store
from zephyr_bench.store.schema import metadata

DOCUMENT = (Path(__file__).parents[3] / "docs" / "schema.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"^([^\n]+):\n\n```sql\n(.*?)```$", DOCUMENT, flags=re.DOTALL | re.MULTILINE)

EXPECTED = {
    "The mean of each category": [
        ("smol-dpo", "math", 3.0, 1),
        ("smol-sft", "math", 2.0, 1),
        ("smol-sft", "writing", 8.0, 1),
        ("smol-dpo", "writing", 6.0, 1),
    ],
    "What each judge has cost": [("rubric", 4, 0, 80, 12, 0.004)],
    "Answers cut at the token limit": [("smol-dpo", 2, 1)],
    "Two models' newest runs": [("q1", 1, 8.0, 6.0, -2.0), ("q2", 1, 2.0, 3.0, 1.0)],
    "The worst answers of a tagged run": [
        (3.0, "q2: Why?", "So.", "[[7]]"),
        (6.0, "q1: Why?", "So.", "[[7]]"),
    ],
    "Every headline": [
        ("mt-bench-mini", "smol-dpo", "", "score", 4.5, 0.5),
        ("mt-bench-mini", "smol-sft", "", "score", 5.0, 0.5),
        ("mt-bench-mini", "smol-sft", "", "score", 5.0, 0.5),
    ],
    "The loss of a training": [(10, 0.5, None), (20, 0.4, 0.6)],
    "Every checkpoint of a recipe": [("smol-dpo", "ddpo", 42, "smol-sft", 1)],
    "How many judgments were made": [("rubric", 4)],
    "The newest complete run of each model": [("smol-dpo", "mt-bench-mini"), ("smol-sft", "mt-bench-mini")],
}
_OF_THE_MOMENT = {"id", "day"}


@pytest.fixture(scope="module", params=DATABASES)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A client of a store with two runs of one model and one of another, whose second answer was cut."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('store') / 'results.db'}"
    else:
        server: Server = request.getfixturevalue("server")
        server.run("CREATE DATABASE documented")
        url = server.url("documented")
    with open_store(url) as store:
        fill(store)
    engine = create_engine(url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def fill(store: Store) -> None:
    for model, grades in (("smol-sft", (8.0, 2.0)), ("smol-sft", (8.0, 2.0)), ("smol-dpo", (6.0, 3.0))):
        run = begin(store, model)
        for name, category, grade in zip(("q1", "q2"), ("writing", "math"), grades, strict=True):
            said: Answer = answer(name, model=model)
            if (model, name) == ("smol-dpo", "q2"):
                said = replace(said, finish_reason="length")
            _, verdict = judgment(name, grade, model=model)
            run.add_answers([(question(name), said)])
            run.add_judgments([(Match(question(name), 1, (said,)), verdict)])
            run.add_samples([SampleScore(name, category, "score", grade, 1)])
        run.finish("complete", [Score("score", sum(grades) / 2, 0.5, 2), Score("turn-1", 1.0, None, 2)])
    store.tag(run.id, "nightly")
    for protocol in (
        {"limit": None, "drift": {"sitting": 0}},
        {"limit": 1},
        {"limit": None, "sequential": {"seed": 0}},
    ):
        part = store.start_run(replace(run_start("smol-sft"), protocol=protocol))
        part.add_samples([SampleScore("q1", "writing", "score", 1.0, 1)])
        if "drift" in protocol:
            part.finish("complete", [Score("score", 1.0, None, 1)])
        else:
            part.finish("complete", [])
    lineage = {"recipe": "smol", "stage": "ddpo", "seed": 42, "parent": {"name": "smol-sft", "lineage": {}}}
    store.put_model(fingerprint=fingerprint("smol-dpo"), name="smol-dpo", location="", lineage=lineage)
    training = store.start_training(fingerprint="sha256:s", name="smol-ddpo", steps=20, done=0)
    for step, values in ((9, {"loss": 1.0}), (10, {"loss": 0.5}), (20, {"loss": 0.4, "held_out/loss": 0.6})):
        training.add(step, values)


def plain(value: Any) -> Any:
    """PostgreSQL's numeric as SQLite has it, and its JSON text."""
    return float(value) if isinstance(value, Decimal) else value


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[title[:30] for title, _ in QUERIES])
def test_an_example_finds_what_it_says(filled: Connection, title: str, query: str) -> None:
    if "PostgreSQL only" in title and filled.dialect.name == "sqlite":
        with pytest.raises(OperationalError):
            filled.execute(text(query))
        return
    found = filled.execute(text(query.replace(":", r"\:")))
    shown = [number for number, column in enumerate(found.keys()) if column not in _OF_THE_MOMENT]
    rows = [tuple(plain(row[number]) for number in shown) for row in found]
    (expected,) = (rows for start, rows in EXPECTED.items() if title.startswith(start))
    assert rows == expected


def test_the_lines_of_python_print_a_table(filled: Connection, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)```$", DOCUMENT, flags=re.DOTALL | re.MULTILINE)
    url = filled.engine.url.render_as_string(hide_password=False)
    exec(code.replace("sqlite:///zephyr-bench.db", url), {})
    assert re.search(r"^ddpo +4.5 +1.0$", capsys.readouterr().out, flags=re.MULTILINE)


def test_every_sql_block_is_an_example_with_a_title() -> None:
    assert len(QUERIES) == DOCUMENT.count("```sql") == len(EXPECTED)


@pytest.mark.parametrize("table", metadata.tables.values(), ids=lambda table: table.name)
def test_every_table_is_told_with_its_columns_in_order(table) -> None:  # type: ignore[no-untyped-def]
    (line,) = re.findall(rf"^\| `{table.name}` \|[^|]*\|(.*)\|$", DOCUMENT, flags=re.MULTILINE)
    told = re.sub(r"\([^)]*\)", "", line)
    assert re.findall(r"`(\w+)`", told) == [column.name for column in table.columns]
    keys = re.findall(r"\*\*`(\w+)`\*\*", line)
    assert keys == [column.name for column in table.primary_key]
