"""AlpacaEval 1 and 2 on made-up data: what is judged, length control, baselines, what is flagged, what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alpaca_files import DATA_SET, instructions, write_data
from gamed_file import write_gamed_file
from servers import FakeOpenAi, fake_openai
from typer.testing import CliRunner

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.evaluate import Outcome, evaluate
from zephyr_bench.benchmarks.one_order import model_stands_first
from zephyr_bench.benchmarks.own_sampling import own_sampling
from zephyr_bench.benchmarks.rejudge import judge_run
from zephyr_bench.cli import app
from zephyr_bench.engines import open_engine
from zephyr_bench.engines.protocol import EngineOptions, ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.judges import JudgeOptions, open_judge
from zephyr_bench.progress import Progress
from zephyr_bench.records import Score
from zephyr_bench.reports.leaderboard import render_leaderboard
from zephyr_bench.reports.scores import render_run
from zephyr_bench.stats.gamed_rows import read_gamed_rows
from zephyr_bench.stats.length_control import length_controlled
from zephyr_bench.store import Store

COUNT = 12
JUDGE = "weighted_alpaca_eval_gpt4_turbo"


def number_of(body: Mapping[str, Any]) -> int:
    text = body["messages"][-1]["content"]
    return next(number for number, told in enumerate(instructions(COUNT)) if told in text)


def reply(body: Mapping[str, Any]) -> Any:
    """A model's answer, of a length of its own; or the judge's, which likes what stands first the better the later the
    instruction."""
    number = number_of(body)
    if body["model"] == "null":
        return "Blue."
    if body["model"] != "gpt-4-1106-preview":
        return f"{body['model']} says it is red. " * (1 + (7 * number) % 5)
    likes = (number + 1) / (COUNT + 1)
    top = [{"token": token, "logprob": math.log(p)} for token, p in (("m", likes), ("M", 1 - likes))]
    told = [{"token": "m", "logprob": top[0]["logprob"], "top_logprobs": top}]
    return {"message": {"role": "assistant", "content": "m"}, "logprobs": {"content": told}}


@pytest.fixture
def server() -> Iterator[FakeOpenAi]:
    with fake_openai(reply) as serving:
        yield serving


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data", COUNT)


def run(
    store: Store,
    server: FakeOpenAi,
    data: Path,
    *,
    model: str = "one",
    version: int = 2,
    judge: str = JUDGE,
    **more: Any,
) -> Outcome:
    return evaluate(
        open_benchmark(f"alpaca-eval-{version}", data=data, **more),
        open_engine(model, EngineOptions(engine="openai", base_url=server.url)),
        judge=open_judge(judge, options=JudgeOptions(base_url=server.url if judge == JUDGE else None)),
        store=store,
        progress=Progress(quiet=True),
    )


def by_metric(outcome: Outcome) -> Mapping[str, Score]:
    return {score.metric: score for score in outcome.scores}


def judged(server: FakeOpenAi) -> int:
    return sum(body["model"] == "gpt-4-1106-preview" for body in server.requests)


def test_version_2_weighs_two_tokens_in_the_order_drawn(store: Store, server: FakeOpenAi, data: Path) -> None:
    outcome = run(store, server, data)
    assert judged(server) == COUNT, "each pair is judged once"
    run(store, server, data)
    assert len(server.requests) == 2 * COUNT, "what is answered and judged is not asked again"
    first = [(number + 1) / (COUNT + 1) for number in range(COUNT)]
    expected = [p if model_stands_first(text) else 1 - p for p, text in zip(first, instructions(COUNT), strict=True)]
    scores = by_metric(outcome)
    assert scores["win-rate"].value == pytest.approx(100 * np.mean(expected), abs=1e-9)
    assert scores["wins"].value == sum(p > 0.5 for p in expected)
    assert (scores["win-rate"].n, scores["win-rate"].missing) == (COUNT, 0)


def test_length_control_takes_the_published_difficulties(store: Store, server: FakeOpenAi, data: Path) -> None:
    outcome = run(store, server, data)
    facts = {
        metric: {s.question: s.value for s in store.samples_of(outcome.run, metric)}
        for metric in ("preference", "length", "baseline-length")
    }
    questions = {question.turns[0]: question.id for question in store.questions_of(outcome.run)}
    asked = [questions[text] for text in instructions(COUNT)]
    lines = (data / DATA_SET / "df_gamed.csv").read_text().splitlines(keepends=True)
    gamed = read_gamed_rows(lines, name="gamed")
    found = length_controlled(
        [facts["preference"][id] for id in asked],
        [(facts["baseline-length"][id] or 0) - (facts["length"][id] or 0) for id in asked],
        difficulties=gamed.difficulties,
        gamed=gamed,
    )
    assert found.win_rate_percent is not None
    score = by_metric(outcome)["lc-win-rate"]
    assert (score.value, score.stderr) == (found.win_rate_percent, found.stderr_percent)


def test_another_judge_gets_no_published_difficulties_and_is_told_why(
    store: Store, server: FakeOpenAi, data: Path
) -> None:
    outcome = run(store, server, data, judge="rubric")
    assert by_metric(outcome)["lc-win-rate"].value is None
    why = f"no lc-win-rate: it is defined for verdicts of {JUDGE}, not of rubric"
    assert why in render_run(store, outcome.run, "markdown")


def test_a_pair_of_stored_models_is_length_controlled_within_the_store(
    store: Store, server: FakeOpenAi, data: Path
) -> None:
    run(store, server, data, model="base")
    for model in ("one", "another"):
        run(store, server, data, model=model, baselines=["base"])
    rows = json.loads(render_leaderboard(store, {}, format="json"))
    controlled = {row["model"]: row for row in rows if row["metric"] == "store-lc-win-rate"}
    assert set(controlled) == {"one", "another"}, "and not the run that has published difficulties"
    assert all(row["n"] == COUNT and 0 < row["value"] < 100 for row in controlled.values())
    table = render_leaderboard(store, {"alpaca-eval-2": "win-rate"}, format="markdown", benchmark="alpaca-eval-2")
    assert "difficulties estimated from this table's models" in table


def test_without_the_difficulties_the_plain_rate_is_told_and_why(
    store: Store, server: FakeOpenAi, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / DATA_SET / "df_gamed.csv").unlink()
    outcome = run(store, server, data)
    assert by_metric(outcome)["win-rate"].value is not None
    assert "fetch alpaca-eval -o DIR" in render_run(store, outcome.run, "markdown")


def test_changed_difficulties_are_refused_before_anything_is_judged(
    store: Store, server: FakeOpenAi, data: Path
) -> None:
    run(store, server, data)
    file = data / DATA_SET / "df_gamed.csv"
    file.write_text(file.read_text().replace("0.", "1.", 1))
    with pytest.raises(UserError, match=r"df_gamed.csv: SHA-256 is .*when it was first used"):
        run(store, server, data, model="another")
    assert judged(server) == COUNT


def test_a_stored_model_as_the_baseline(store: Store, server: FakeOpenAi, data: Path) -> None:
    run(store, server, data, model="base")
    outcome = run(store, server, data, baselines=["base"])
    info = store.run(outcome.run)
    assert (info.rivals, info.protocol["baseline"]["name"]) == (("base",), "base")
    assert "alpaca-eval-2 win-rate against base" in render_leaderboard(store, {}, format="markdown")
    back = run(store, server, data, model="base", baselines=["one"])
    both = by_metric(outcome)["win-rate"].value, by_metric(back)["win-rate"].value
    shown = [
        p if model_stands_first(t) else 1 - p for p, t in zip(np.arange(1, 13) / 13, instructions(12), strict=True)
    ]
    assert both == (pytest.approx(100 * np.mean(shown)),) * 2, "the places are the same for every model"


@pytest.mark.parametrize(
    ("baselines", "told"),
    [
        (["one"], "--baseline one is the model itself"),
        (["nobody"], "import alpaca-eval FILE"),
        (["one", "two"], "compares with one model"),
        (["all"], "compares with one model"),
    ],
)
def test_baselines_that_are_none(store: Store, server: FakeOpenAi, data: Path, baselines: list[str], told: str) -> None:
    run(store, server, data)
    with pytest.raises(UserError, match=told):
        run(store, server, data, baselines=baselines)


def test_a_model_of_the_baselines_name_is_refused(store: Store, server: FakeOpenAi, data: Path) -> None:
    with pytest.raises(UserError, match="text_davinci_003, the model itself"):
        run(store, server, data, model="text_davinci_003", version=1)
    assert not server.requests


def test_a_model_that_gives_one_answer_is_flagged(store: Store, server: FakeOpenAi, data: Path) -> None:
    run(store, server, data, model="null")
    run(store, server, data)
    shown = render_leaderboard(store, {"alpaca-eval-2": "win-rate"}, format="markdown")
    assert f"null model: {COUNT} of {COUNT} answers are one and the same text" in shown
    rows = json.loads(render_leaderboard(store, {}, format="json"))
    alike = {row["model"]: row["value"] for row in rows if row["metric"] == "most-alike-answers"}
    assert alike["null"] == COUNT
    assert alike["one"] < COUNT / 2


def test_answers_empty_cut_and_repeated_are_counted(store: Store, data: Path) -> None:
    def odd(body: Mapping[str, Any]) -> Any:
        number = number_of(body)
        if number == 0:
            return ""
        text = "Blue." if number in (1, 2) else f"It is colour {number}."
        reason = "length" if number == 3 else "stop"
        return {"message": {"role": "assistant", "content": text}, "finish_reason": reason}

    with fake_openai(odd) as server:
        outcome = run(store, server, data, judge="rubric")
    scores = by_metric(outcome)
    found = {
        name: (scores[f"{name}-answers"].value, scores[f"{name}-answers"].n) for name in ("empty", "cut", "repeated")
    }
    assert found == {"empty": (1, COUNT), "cut": (1, COUNT), "repeated": (2, COUNT)}
    shown = render_leaderboard(store, {"alpaca-eval-2": "win-rate"}, format="markdown", benchmark="alpaca-eval-2")
    for told in (
        "2 of 12 answers have the text of another one",
        "1 of 12 answers are empty",
        "1 of 12 answers were cut",
    ):
        assert told in shown


def test_a_models_own_sampling(tmp_path: Path) -> None:
    model = ModelSource("m", str(tmp_path), "f")
    file = tmp_path / "generation_config.json"
    with pytest.raises(UserError, match=r"has no generation_config\.json"):
        own_sampling(model, max_new_tokens=2048)
    file.write_text(json.dumps({"do_sample": True, "temperature": 0.6, "top_p": 0.9}))
    found = own_sampling(model, max_new_tokens=2048)
    assert (found.temperature, found.top_p, found.max_new_tokens) == (0.6, 0.9, 2048)
    file.write_text(json.dumps({"temperature": 0.6}))
    assert own_sampling(model, max_new_tokens=8).temperature == 0.0
    file.write_text(json.dumps({"do_sample": True, "top_k": 20}))
    with pytest.raises(UserError, match="asks for top_k 20"):
        own_sampling(model, max_new_tokens=8)


def test_greedy_on_demand(store: Store, server: FakeOpenAi, data: Path) -> None:
    run(store, server, data, sampling="greedy", judge="rubric")
    assert {body["temperature"] for body in server.requests} == {0.0}


def test_instructions_that_are_nowhere_are_told_before_any_work(
    tmp_path: Path, server: FakeOpenAi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = ["alpaca-eval", "--model", "one", "--engine", "openai", "--base-url", server.url, "--judge", "rubric"]
    done = CliRunner().invoke(app, [*words, "--store", f"sqlite:///{tmp_path}/s.db"])
    assert "tatsu-lab/alpaca_eval must come from it" in str(done.exception)
    assert not (tmp_path / "s.db").exists()


def again(store: Store, server: FakeOpenAi, data: Path, run_id: str) -> Outcome:
    judge = open_judge(JUDGE, options=JudgeOptions(base_url=server.url))
    return judge_run(store, run_id, open_benchmark("alpaca-eval-2", data=data), judge, Progress(quiet=True))


def test_judged_again_by_the_same_judge_nothing_changes_ties_included(store: Store, data: Path) -> None:
    baseline = json.loads((data / DATA_SET / "alpaca_eval_gpt4_baseline.json").read_text())

    def tying(body: Mapping[str, Any]) -> Any:
        number = number_of(body)
        tie = body["model"] == "tying" and number % 3 == 0
        return baseline[number]["output"] if tie else reply({**body, "model": body["model"].replace("tying", "one")})

    with fake_openai(tying) as server:
        first = run(store, server, data, model="tying")
        asked = len(server.requests)
        assert by_metric(first)["draws"].value == COUNT / 3
        second = again(store, server, data, first.run)
        assert len(server.requests) == asked
    assert second.scores == first.scores


def test_a_run_that_was_broken_off_is_not_judged_again(store: Store, data: Path) -> None:
    def failing(body: Mapping[str, Any]) -> Any:
        return 401 if body["model"] == "gpt-4-1106-preview" else reply(body)

    with fake_openai(failing) as server:
        with pytest.raises(UserError):
            run(store, server, data)
        (broken,) = store.runs()
        with pytest.raises(UserError, match=f"run {broken.id} is failed: not all of it is answered or judged"):
            again(store, server, data, broken.id)


def test_without_the_instructions_nobody_knows_which_difficulty_is_whose(
    store: Store, server: FakeOpenAi, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    first = run(store, server, data)
    only = tmp_path / "only"
    (only / DATA_SET).mkdir(parents=True)
    (only / DATA_SET / "df_gamed.csv").write_bytes((data / DATA_SET / "df_gamed.csv").read_bytes())
    second = again(store, server, only, first.run)
    assert by_metric(second)["lc-win-rate"].value is None
    assert by_metric(second)["win-rate"] == by_metric(first)["win-rate"]


def test_difficulties_of_fewer_instructions_are_refused_before_any_work(
    store: Store, server: FakeOpenAi, data: Path
) -> None:
    write_gamed_file(data / DATA_SET / "df_gamed.csv", instructions=COUNT - 1)
    with pytest.raises(UserError, match=f"tells the difficulty of {COUNT - 1} instructions, and .* has {COUNT}"):
        run(store, server, data)
    assert not server.requests


def test_runs_with_other_difficulties_are_told_apart(
    store: Store, server: FakeOpenAi, data: Path, tmp_path: Path
) -> None:
    run(store, server, data)
    other = write_data(tmp_path / "other", COUNT)
    write_gamed_file(other / DATA_SET / "df_gamed.csv", instructions=COUNT, seed=1)
    run(store, server, other, model="another")
    shown = render_leaderboard(store, {"alpaca-eval-2": "win-rate"}, format="markdown", benchmark="alpaca-eval-2")
    assert "asked otherwise than" in shown
    assert "length" in shown


def test_an_answered_run_of_the_other_version_is_a_baseline(store: Store, server: FakeOpenAi, data: Path) -> None:
    run(store, server, data, model="base", version=1, judge="rubric")
    outcome = run(store, server, data, baselines=["base"])
    assert store.run(outcome.run).rivals == ("base",)


def test_a_short_run_takes_nothing_from_the_others(store: Store, server: FakeOpenAi, data: Path) -> None:
    run(store, server, data, model="base")
    for model in ("one", "another"):
        run(store, server, data, model=model, baselines=["base"])

    def controlled() -> dict[str, tuple[float, int]]:
        rows = json.loads(render_leaderboard(store, {}, format="json"))
        found = [row for row in rows if row["metric"] == "store-lc-win-rate"]
        return {row["model"]: (row["value"], row["n"]) for row in found}

    before = controlled()
    short = open_benchmark("alpaca-eval-2", data=data, baselines=["base"])
    engine = open_engine("short", EngineOptions(engine="openai", base_url=server.url))
    judge = open_judge(JUDGE, options=JudgeOptions(base_url=server.url))
    evaluate(short, engine, judge=judge, store=store, progress=Progress(quiet=True), limit=3)
    after = controlled()
    assert after["short"][1] == 3
    for model, (value, n) in before.items():
        assert after[model][1] == n == COUNT
        assert after[model][0] == pytest.approx(value, abs=5)
