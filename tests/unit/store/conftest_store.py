"""A store to write to, in either database, and the small records that go into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from postgresql_server import Server, postgresql
from sqlalchemy import create_engine, text

from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Answer, Judgment, Match, Question
from zephyr_bench.store import RunStart, RunWriter, Store

FOLDERS = os.pathsep.join(str(Path(__file__).parents[up]) for up in (0, 2))  # where another process finds this file
DATABASES = ("sqlite", "postgresql")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a SQLite store, for what is SQLite's own."""
    return tmp_path / "results.db"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """With a database named `made`: a store without rows."""
    with postgresql() as running:
        running.run("CREATE DATABASE made")
        Store(running.url("made")).close()
        yield running


@pytest.fixture(scope="session")
def made_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without rows."""
    file = tmp_path_factory.mktemp("made") / "made.db"
    open_store(file).close()
    return file


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    """A test that uses it, by way of `url` or `store`, runs on both."""
    return str(request.param)


@pytest.fixture
def new_url(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """Of a place for a store: an absent file, or an empty database, as `template1` is; `made` has the tables."""
    if database == "sqlite":
        files = (tmp_path / f"results{number}.db" for number in count(1))

        def make_file(template: str = "template1") -> str:
            file = next(files)
            if template == "made":
                shutil.copyfile(request.getfixturevalue("made_file"), file)
            return f"sqlite:///{file}"

        yield make_file
        return
    server: Server = request.getfixturevalue("server")
    names: list[str] = []

    def make(template: str = "template1") -> str:
        names.append(f"test_{next(_NUMBERS)}")
        server.run(f"CREATE DATABASE {names[-1]} TEMPLATE {template} STRATEGY file_copy")  # a fifth of the time
        return server.url(names[-1])

    yield make
    server.run(*(f"DROP DATABASE {name} WITH (FORCE)" for name in names))


_NUMBERS = count(1)


@pytest.fixture
def url(new_url: Callable[..., str]) -> str:
    return new_url("made")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


def open_store(place: Path | str, *, timeout: float = 30.0) -> Store:
    return Store(place if isinstance(place, str) else f"sqlite:///{place}", timeout=timeout)


def sql(url: str, *statements: str, **values: Any) -> list[tuple[Any, ...]]:
    """Done past the store, in one transaction; the last one's rows."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            for statement in statements:
                found = connection.execute(text(statement), values)
            return [tuple(row) for row in found] if found.returns_rows else []
    finally:
        engine.dispose()


def begin(store: Store, model: str = "tiny", *, benchmark: str = "mt-bench-mini") -> RunWriter:
    """A new run of a model that the store may or may not know."""
    store.put_model(fingerprint=fingerprint(model), name=model, location="somewhere")
    return store.start_run(run_start(model, benchmark=benchmark))


def run_start(model: str = "tiny", *, benchmark: str = "mt-bench-mini") -> RunStart:
    return RunStart(
        benchmark=benchmark,
        model=model,
        model_fingerprint=fingerprint(model),
        engine_fingerprint=fingerprint([model, "engine"]),
        judge="rubric",
        judge_fingerprint=fingerprint("rubric"),
        protocol={"limit": None},
        seed=1,
        environment={"python": "3"},
    )


def question(name: str = "q1", text: str = "Why?") -> Question:
    return Question(name, "writing", (f"{name}: {text}",), reference=("because",), checks=(({"words": 3},),))


def answer(name: str = "q1", text: str | None = "So.", *, model: str = "tiny") -> Answer:
    return Answer(fingerprint([model, name]), model, name, 1, text, "stop", 7, 2)


def judgment(name: str = "q1", score: float | None = 7.0, *, model: str = "tiny") -> tuple[Match, Judgment]:
    match = Match(question(name), 1, (answer(name, model=model),))
    key = match.key(fingerprint("rubric"))
    return match, Judgment(key, "rubric", score, None if score else "no verdict", "[[7]]", 20, 3, 0.001)
