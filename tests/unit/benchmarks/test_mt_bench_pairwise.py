"""Two models against each other over the store: who is the rival, what is asked, what is shared."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import FakeOpenAi, fake_openai
from tiny_data import DSFT
from tiny_model import make_tiny_model

from zephyr_bench import catalogue
from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.evaluate import Outcome, evaluate
from zephyr_bench.engines import open_engine
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import UserError
from zephyr_bench.judges import JudgeOptions, open_judge
from zephyr_bench.pipeline.train_and_eval import prepare, train_and_eval
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe
from zephyr_bench.reports.leaderboard import render_leaderboard
from zephyr_bench.store import Store

LIMIT = 2  # questions, of two turns each


def run(store: Store, model: Path, benchmark: str, judge: Any = None, **options: Any) -> Outcome:
    asked = open_benchmark(benchmark, **options)
    return evaluate(
        asked,
        open_engine(str(model), EngineOptions(device="cpu")),
        judge=judge or open_judge("rubric"),
        store=store,
        progress=Progress(quiet=True),
        limit=LIMIT,
    )


def local_judge(server: FakeOpenAi, folder: Path) -> Any:
    path = folder / "local.yaml"
    shutil.copy(catalogue.find("judge", "gpt-4"), path)
    return open_judge(str(path), options=JudgeOptions(base_url=server.url))


def test_each_turn_is_judged_in_both_orders_and_always_a_is_always_a_tie(
    store: Store, models: dict[str, Path], tmp_path: Path
) -> None:
    run(store, models["two"], "mt-bench-mini")
    with fake_openai("[[A]]") as server:
        judge = local_judge(server, tmp_path)
        outcome = run(store, models["one"], "mt-bench-mini-pairwise", judge, baselines=["two"])
        assert len(server.requests) == 2 * 2 * LIMIT
        back = run(store, models["two"], "mt-bench-mini-pairwise", judge, baselines=["one"])
        assert len(server.requests) == 2 * 2 * LIMIT, "the other way round the verdicts are known"
    scores = {score.metric: score for score in outcome.scores}
    assert (scores["win-rate-adjusted"].value, scores["tie-rate"].value, scores["consistency"].value) == (50, 100, 0)
    assert scores["win-rate-adjusted"].n == 2 * LIMIT
    assert {score.metric: score.value for score in back.scores}["win-rate-adjusted"] == 50
    assert store.run(outcome.run).rivals == ("two",)


def test_answers_are_those_of_the_graded_benchmark(store: Store, models: dict[str, Path]) -> None:
    graded = [store.answers_of(run(store, models[name], "mt-bench-mini").run) for name in ("one", "two")]
    outcome = run(store, models["one"], "mt-bench-mini-pairwise", baselines=["two"])
    used = {answer.key for answer in store.answers_of(outcome.run)}
    assert used == {answer.key for side in graded for answer in side}


def test_one_models_loss_is_the_others_win(store: Store, models: dict[str, Path]) -> None:
    for name in ("one", "two"):
        run(store, models[name], "mt-bench-mini")
    outcomes = [run(store, models[name], "mt-bench-mini-pairwise", baselines=["all"]) for name in ("one", "two")]
    scores = [{score.metric: score.value for score in outcome.scores} for outcome in outcomes]
    assert [store.run(outcome.run).rivals for outcome in outcomes] == [("all",), ("all",)], "one table ranks both"
    assert "asked otherwise" not in render_leaderboard(store, {}, format="table"), "each meets others, by design"
    assert scores[0]["win-rate"] == scores[1]["loss-rate"]
    assert scores[0]["win-rate-adjusted"] + scores[1]["win-rate-adjusted"] == 100  # type: ignore[operator]


@pytest.mark.parametrize(
    ("baselines", "told"),
    [
        ([], "--baseline smollm2-135m-instruct: the store has no answers of it to mt-bench-mini's questions"),
        (["twoo"], "Did you mean two?"),
        (["one"], "--baseline one is the model itself"),
    ],
)
def test_a_rival_without_answers_is_told_before_any_work(
    store: Store, models: dict[str, Path], baselines: list[str], told: str
) -> None:
    for name in ("one", "two"):
        run(store, models[name], "mt-bench-mini")
    runs = len(store.runs())
    with pytest.raises(UserError) as caught:
        run(store, models["one"], "mt-bench-mini-pairwise", baselines=baselines)
    assert told in str(caught.value)
    assert len(store.runs()) == runs


def test_two_checkpoints_of_one_name_are_told_apart(store: Store, models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    old = shutil.copytree(models["one"], tmp_path / "two" / "two")  # another checkpoint that is called two
    for model in (models["two"], old):
        run(store, model, "mt-bench-mini")
    outcome = run(store, models["two"], "mt-bench-mini-pairwise", baselines=["two"])
    (rival,) = store.run(outcome.run).rivals
    assert rival.startswith("two@")
    third = make_tiny_model(tmp_path / "three", seed=3, max_length=2048)
    with pytest.raises(UserError, match=r"--baseline two names several checkpoints; name one: two@.*, two@"):
        run(store, third, "mt-bench-mini-pairwise", baselines=["two"])
    outcome = run(store, third, "mt-bench-mini-pairwise", baselines=[rival])
    assert store.run(outcome.run).rivals == ("two",)


def test_all_without_others_is_told(store: Store, models: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="no other model of the store has answered mt-bench-mini"):
        run(store, models["one"], "mt-bench-mini-pairwise", baselines=["all"])


@pytest.mark.parametrize("start", [True, False])
def test_a_recipe_without_its_rivals_answers_is_refused_before_it_trains(
    store: Store, make_recipe: Callable[..., Recipe], tmp_path: Path, start: bool
) -> None:
    models = ["start", "dsft"] if start else ["dsft"]
    recipe = make_recipe(
        dsft=DSFT, evaluate=[{"benchmark": "mt-bench-mini-pairwise", "limit": LIMIT}], evaluate_models=models
    )
    options = EngineOptions(device="cpu")
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"recipe tiny, mt-bench-mini-pairwise of .*: --baseline .*: the store has no"):
        train_and_eval(recipe, prepare(recipe, options), options, store=store, out=out, progress=Progress(quiet=True))
    assert not out.exists()


def test_repeated_judgments_are_samples_of_their_own(store: Store, models: dict[str, Path], tmp_path: Path) -> None:
    grades = iter(range(2, 10))
    with fake_openai(lambda _: f"[[{next(grades)}]]") as server:
        outcome = run(store, models["one"], "mt-bench-mini", local_judge(server, tmp_path), judgments=2)
    samples = store.samples_of(outcome.run)
    assert sorted((s.question, s.turn, s.replicate) for s in samples) == sorted(
        (question, turn, replicate)
        for question in {s.question for s in samples}
        for turn in (1, 2)
        for replicate in (0, 1)
    )
    assert outcome.scores[0].value == pytest.approx(sum(range(2, 10)) / 8)
    assert outcome.scores[0].n == 8
