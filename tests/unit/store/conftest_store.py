"""A store to write to, and the small records that go into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Answer, Judgment, Match, Question
from zephyr_bench.store import RunStart, RunWriter, Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with open_store(path) as opened:
        yield opened


def open_store(path: Path, *, timeout: float = 30.0) -> Store:
    return Store(f"sqlite:///{path}", timeout=timeout)


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
