"""What is evaluated in the midst of a training is known by all that makes it comparable, and not asked twice."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_data import DSFT, write_jsonl
from tiny_training import QUIET, dsft

from zephyr_bench.engines.protocol import EngineOptions, ModelSource
from zephyr_bench.pipeline.curve import Evaluator
from zephyr_bench.pipeline.plan import open_parts
from zephyr_bench.pipeline.training import Timings
from zephyr_bench.recipe import Recipe
from zephyr_bench.store import Store

pytest.importorskip("matplotlib")
QUESTION = {"id": "q1", "category": "writing", "turns": ["Name a bird."]}
OPTIONS = EngineOptions(device="cpu")


class Case:
    """A checkpoint of three steps, evaluated on one question that a test may change, and on two of AlpacaEval's."""

    def __init__(self, tmp_path: Path, make_recipe: Callable[..., Recipe], model: Path) -> None:
        self.folder, self.store = tmp_path, Store(f"sqlite:///{tmp_path}/store.db")
        self.write(QUESTION)
        evaluations = [{"benchmark": str(tmp_path / "birds.yaml")}, {"benchmark": "alpaca-eval-mini", "limit": 2}]
        self.recipe = make_recipe(model=str(model), dsft={**DSFT, "epochs": 1}, evaluate=evaluations)
        self.model: ModelSource = dsft(self.recipe, tmp_path / "dsft")

    def write(self, question: dict[str, Any], **spec: Any) -> None:
        write_jsonl(self.folder / "birds.jsonl", [question])
        declared = {"kind": "mt_bench", "description": "birds", "judge": "rubric", "margin": 1.0, **spec}
        (self.folder / "birds.yaml").write_text(yaml.safe_dump({**declared, "questions": {"file": "birds.jsonl"}}))

    @property
    def evaluator(self) -> Evaluator:
        """As a new command makes it."""
        parts, _ = open_parts(self.recipe, OPTIONS)
        return Evaluator(self.recipe, parts, OPTIONS, self.store, self.folder / "out", QUIET, Timings())

    def runs(self) -> list[str]:
        return sorted(run.benchmark for run in self.store.runs())

    def curve(self) -> list[tuple[str, str]]:
        """(benchmark, run) of each point."""
        rows = csv.DictReader((self.folder / "out" / "dsft-curve.csv").open())
        return [(row["benchmark"], row["run"]) for row in rows]


@pytest.fixture
def case(tmp_path: Path, make_recipe: Callable[..., Recipe], model_dir: Path) -> Case:
    (tmp_path / "out").mkdir()
    return Case(tmp_path, make_recipe, model_dir)


def test_what_is_evaluated_is_not_evaluated_again(case: Case) -> None:
    case.evaluator.run(case.model)
    assert case.runs() == ["alpaca-eval-mini", "birds"]
    (score,) = [run.id for run in case.store.runs(benchmark="birds")]
    assert case.store.kept([score], "terms-1/score").keys() == {score}, "the first leaderboard needn't derive them"
    before = case.curve()
    case.evaluator.run(case.model)
    assert case.runs() == ["alpaca-eval-mini", "birds"]
    assert case.curve() == before


@pytest.mark.parametrize(
    ("question", "spec"),
    [
        ({**QUESTION, "turns": ["Name two birds."]}, {}),
        (QUESTION, {"max_new_tokens": 7}),
    ],
    ids=["another question", "shorter answers"],
)
def test_a_benchmark_that_asks_otherwise_is_evaluated_anew_and_is_no_part_of_the_old_curve(
    case: Case, question: dict[str, Any], spec: dict[str, Any]
) -> None:
    case.evaluator.run(case.model)
    ((old, *_), *_) = [[run for benchmark, run in case.curve() if benchmark == "birds"]]
    case.write(question, **spec)
    case.evaluator.run(case.model)
    assert case.runs() == ["alpaca-eval-mini", "birds", "birds"]
    (new,) = [run for benchmark, run in case.curve() if benchmark == "birds"]
    assert new != old


def test_whether_a_step_is_missing_is_told_before_its_model_is_there(
    case: Case, tmp_path: Path, make_recipe: Callable[..., Recipe], model_dir: Path
) -> None:
    case.recipe = make_recipe(
        model=str(model_dir), dsft={**DSFT, "epochs": 1}, evaluate=[{"benchmark": str(tmp_path / "birds.yaml")}]
    )
    stage, steps = case.model.lineage["stage_fingerprint"], case.model.lineage["steps"]
    assert case.evaluator.missing(stage, steps)
    case.evaluator.run(case.model)
    assert not case.evaluator.missing(stage, steps)
    assert case.evaluator.missing(stage, steps + 1)
    case.write({**QUESTION, "turns": ["Name two birds."]})
    assert case.evaluator.missing(stage, steps)
