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
def test_what_does_not_fit_is_named_and_nothing_stored(
    judged: Callable[..., Result], tmp_path: Path, content: Rows, told: str
) -> None:
    done = judged(content)
    assert told in str(done.exception)
    with Store(f"sqlite:///{tmp_path}/s.db") as store:
        assert store.runs() == []


def test_a_baseline_that_is_nowhere_is_named_and_nothing_stored(judged: Callable[..., Result], tmp_path: Path) -> None:
    assert "--baseline nobody" in str(judged(rows(), "--baseline", "nobody").exception)
    with Store(f"sqlite:///{tmp_path}/s.db") as store:
        assert store.runs() == []


def test_a_judge_that_compares_nothing_is_named_and_nothing_stored(
    judged: Callable[..., Result], tmp_path: Path
) -> None:
    judge = tmp_path / "single.yaml"
    judge.write_text(
        "kind: openai\ndescription: x\nmodel: m\nbase_url: http://localhost:1/v1\napi_key_env: OPENAI_API_KEY\n"
        "templates:\n  single: {template: '{answer}', pattern: '(\\d)', lowest: 1, highest: 9}\n"
    )
    done = judged(rows(), "--judge", str(judge))
    assert "a judge that can compare answers" in str(done.exception)
    assert not (tmp_path / "s.db").exists()


def test_a_file_is_judged_as_it_is_though_the_store_holds_more_of_it(
    judged: Callable[..., Result], tmp_path: Path
) -> None:
    """As of a file that was imported before it was mended, or before outputs were lost."""
    twice = tmp_path / "twice.json"
    twice.write_text(json.dumps([*rows(), {**rows()[0], "output": "Another."}]))
    CliRunner().invoke(app, ["import", "alpaca-eval", str(twice), "--store", f"sqlite:///{tmp_path}/s.db"])
    assert json.loads(judged(rows()).stdout)[0]["n"] == COUNT
    assert f"2 of {COUNT} instructions" in str(judged(rows(count=COUNT - 2)).exception)
    assert json.loads(judged(rows(count=COUNT - 2), "--allow-missing").stdout)[0]["n"] == COUNT - 2


def test_a_file_whose_outputs_an_import_compared_with_others_meets_the_benchmarks_baseline(
    judged: Callable[..., Result], tmp_path: Path
) -> None:
    annotations = [
        {**row, "output_2": row["output"], "output_1": "x", "generator_1": "odd", "generator_2": "mine"}
        | {"annotator": "someone", "preference": 2}
        for row in rows()
    ]
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps(annotations))
    words = ["import", "alpaca-eval", str(file), "--benchmark", "alpaca-eval-2", "--data", str(tmp_path / "data")]
    CliRunner().invoke(app, [*words, "--store", f"sqlite:///{tmp_path}/s.db"], catch_exceptions=False)
    assert judged(rows()).exit_code == 0
    with Store(f"sqlite:///{tmp_path}/s.db") as store:
        (run,) = (run for run in store.runs() if run.judge not in (None, "someone"))
        assert run.protocol["baseline"]["name"] == "gpt4_1106_preview"
        assert {a.model for a in store.answers_of(run.id)} == {"mine", "gpt4_1106_preview"}


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
