"""What lm-eval's tasks need beyond lm-eval is told before any work, all at once."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from lm_eval_data import write_data
from typer.testing import CliRunner

from zephyr_bench.benchmarks import lm_eval_needs, open_benchmark, punkt
from zephyr_bench.cli import app


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Any:
    find = importlib.util.find_spec

    def hide(*modules: str) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in modules else find(name))

    return hide


def test_packages_are_told_with_the_extra_that_brings_them(without: Any) -> None:
    without("langdetect", "immutabledict", "math_verify")
    names = ["leaderboard_ifeval", "leaderboard_math_hard"]
    ifeval, maths = open_benchmark("open-llm-2", tasks=names).missing()
    assert ifeval == 'leaderboard_ifeval needs langdetect, immutabledict: run `pip install "zephyr-bench[ifeval]"`'
    assert maths == 'leaderboard_math_hard needs math_verify: run `pip install "zephyr-bench[math]"`'


def test_punkt_is_told_where_neither_nltk_nor_the_package_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nltk")
    monkeypatch.setattr(punkt, "_nltk_has_it", lambda: False)
    monkeypatch.setattr(punkt, "_packaged", lambda: None)
    told = open_benchmark("open-llm-1", tasks=["ifeval"]).missing()
    assert [sentence for sentence in told if "punkt_tab" in sentence and "nltk.downloader" in sentence]


def test_another_antlr_than_sympys_is_told_since_it_would_count_answers_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("antlr4")
    pytest.importorskip("math_verify")
    monkeypatch.setattr(lm_eval_needs, "version", lambda _: "4.13.2")
    (told,) = open_benchmark("open-llm-2", tasks=["leaderboard_math_hard"]).missing()
    assert "4.13.2 is installed" in told


def test_tasks_without_code_need_nothing(without: Any) -> None:
    without("langdetect", "sympy")
    assert open_benchmark("open-llm-1").missing() == []


def test_all_that_is_missing_is_told_at_once_and_no_store_is_made(without: Any, tmp_path: Path) -> None:
    without("langdetect")
    words = ["open-llm", "--model", str(tmp_path / "no-model"), "--tasks", "ifeval"]
    words += ["--data", str(write_data(tmp_path / "data")), "--store", f"sqlite:///{tmp_path}/s.db"]
    done = CliRunner().invoke(app, words)
    told = str(done.exception) if done.exception else done.output
    assert "no-model" in told
    assert "langdetect" in told
    assert not (tmp_path / "s.db").exists()
