from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.pipeline.plan import make_plan
from zephyr_bench.recipe import Recipe


def test_a_plan_shows_no_password_of_a_store(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    plan = make_plan(make_recipe(), EngineOptions(), out=tmp_path, store="postgresql+psycopg://me:secret@host/db")
    assert plan.store == "postgresql://me@host/db"
