"""A file of answers judged as alpaca_eval's users do it, and what is said of a file that doesn't fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alpaca_files import instructions, write_data
from click.testing import Result
from servers import fake_openai
from test_alpaca_eval import COUNT, reply
from typer.testing import CliRunner

from zephyr_bench.cli import app
from zephyr_bench.store import Store

Rows = list[dict[str, Any]]


def rows(model: str = "mine", count: int = COUNT) -> Rows:
    return [
        {"instruction": text, "output": f"It is colour {n}.", "generator": model, "dataset": "d"}
        for n, text in enumerate(instructions(count))
    ]


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., Result]:
    """The command, on a file of these rows."""
    write_data(tmp_path / "data", COUNT)
    file = tmp_path / "model_outputs.json"

    def judge(content: Rows, *more: str) -> Result:
        file.write_text(json.dumps(content))
        words = ["alpaca-eval", "--version", "2", "--outputs", str(file), "--data", str(tmp_path / "data")]
        with fake_openai(reply) as server:
            words += ["--judge-url", server.url, "--store", f"sqlite:///{tmp_path}/s.db", "--format", "json", *more]
            return CliRunner().invoke(app, words)

    return judge


def test_a_file_of_answers_is_judged(judged: Callable[..., Result], tmp_path: Path) -> None:
    done = judged(rows())
    found = {row["metric"]: row for row in json.loads(done.stdout)}
    assert (found["win-rate"]["model"], found["win-rate"]["n"]) == ("mine", COUNT)
    assert found["lc-win-rate"]["value"] is not None
    assert json.loads(judged(rows()).stdout)[0]["value"] == found["win-rate"]["value"]
    with Store(f"sqlite:///{tmp_path}/s.db") as store:
        protocols = [run.protocol for run in store.runs() if run.judge]
        assert [protocol["baseline"]["name"] for protocol in protocols] == ["gpt4_1106_preview"] * 2
        assert [run.judge for run in store.runs()].count(None) == 1, "the file is one run, however often it is judged"


def test_one_model_of_the_store_is_the_baseline(judged: Callable[..., Result]) -> None:
    judged(rows("base"))
    done = judged([{**row, "output": "Another."} for row in rows()], "--baseline", "base")
    assert json.loads(done.stdout)[0]["n"] == COUNT


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (rows(count=COUNT - 2), f"2 of {COUNT} instructions of alpaca-eval-2 have no output: 'Say in a word what"),
        ([*rows(), rows()[0]], "instructions with several outputs: 'Say in a word what colour thing 0 has.'"),
        ([*rows(), {**rows()[0], "instruction": "Sing."}], "instructions that alpaca-eval-2 doesn't ask: 'Sing.'"),
        (rows("gpt4_1106_preview"), "compares with gpt4_1106_preview, the model itself"),
        ([*rows("one"), *rows("two")], "expected one model's outputs, found outputs of one, two"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_judged(
    judged: Callable[..., Result], tmp_path: Path, content: Rows, told: str
) -> None:
    done = judged(content)
    assert told in str(done.exception)
    with Store(f"sqlite:///{tmp_path}/s.db") as store:
        assert all(run.judge is None for run in store.runs())


def test_missing_answers_are_let_pass_on_demand(judged: Callable[..., Result]) -> None:
    done = judged(rows(count=COUNT - 2), "--allow-missing")
    assert json.loads(done.stdout)[0]["n"] == COUNT - 2


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--model", "x"], "by --model, or a file of its answers by --outputs"),
        (["--limit", "3"], "--limit: the answers of --outputs are there already"),
        (["--sampling", "greedy"], "--sampling: the answers of --outputs are there already"),
    ],
)
def test_options_that_contradict_a_file(judged: Callable[..., Result], more: list[str], told: str) -> None:
    assert told in str(judged(rows(), *more).exception)
