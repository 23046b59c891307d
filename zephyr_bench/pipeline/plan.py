"""The plan of a recipe: stages, counts, upper bounds of tokens and cost, and where each thing will be stored.

Reads declarations and counts local rows; runs nothing and asks no network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.protocol import Benchmark
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.judges import open_judge
from zephyr_bench.judges.protocol import Judge
from zephyr_bench.pipeline.estimate import EvaluationPlan, estimate, minutes_told, number_told, render_estimates
from zephyr_bench.pipeline.requirements import recipe_parts, training_memory_gib
from zephyr_bench.recipe import DataSource, DdpoStage, DsftStage, Evaluation, FeedbackStage, Recipe, Training
from zephyr_bench.yaml_file import read_jsonl


@dataclass(frozen=True)
class StagePlan:
    stage: str
    samples: int | None  # None where only a download would tell
    steps: int | None
    tokens_at_most: int | None  # trained on, or generated
    stored: str
    budget_minutes: float | None
    note: str = ""


@dataclass(frozen=True)
class Plan:
    recipe: str
    model: str
    memory_gib: float | None
    stages: tuple[StagePlan, ...]
    evaluations: tuple[EvaluationPlan, ...]
    store: str
    missing: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def open_parts(
    recipe: Recipe, options: EngineOptions, *, data: Path | None = None
) -> tuple[list[tuple[Evaluation, Benchmark, Judge | None]], list[Judge]]:
    """Each evaluation with its benchmark and judge, and every judge the recipe names."""
    judges: dict[str, Judge] = {}

    def judge(name: str | None) -> Judge | None:
        if name is not None and name not in judges:
            judges[name] = open_judge(name, include=options.include)
        return judges[name] if name is not None else None

    parts = []
    for evaluation in recipe.evaluate:
        chosen: dict[str, Any] = {"tasks": evaluation.tasks} if evaluation.tasks else {}
        benchmark = open_benchmark(evaluation.benchmark, include=options.include, data=data, **chosen)
        name = (evaluation.judge or benchmark.default_judge) if benchmark.judged else None
        parts.append((evaluation, benchmark, judge(name)))
    if recipe.feedback:
        judge(recipe.feedback.judge)
    return parts, list(judges.values())


def make_plan(
    recipe: Recipe,
    options: EngineOptions,
    *,
    out: Path,
    store: str,
    limit: int | None = None,
    data: Path | None = None,
) -> Plan:
    """The whole plan, what is missing included. Raises UserError for a recipe that names unknown parts."""
    parts, judges = open_parts(recipe, options, data=data)
    evaluations = [
        estimate(
            benchmark,
            judge,
            _model_name(recipe, model),
            limit or evaluation.limit,
            budget_minutes=evaluation.budget_minutes,
        )
        for evaluation, benchmark, judge in parts
        for model in recipe.evaluate_models
        if model == "start" or getattr(recipe, model) is not None
    ]
    return Plan(
        recipe=recipe.name,
        model=recipe.model,
        memory_gib=training_memory_gib(recipe.parameters) if recipe.parameters else None,
        stages=tuple(_stage_plans(recipe, out)),
        evaluations=tuple(evaluations),
        store=store,
        missing=tuple(recipe_parts(recipe, options, [benchmark for _, benchmark, _ in parts], judges)),
    )


def _model_name(recipe: Recipe, model: str) -> str:
    return recipe.model if model == "start" else f"{recipe.name}-{model}"


def _stage_plans(recipe: Recipe, out: Path) -> Iterator[StagePlan]:
    if recipe.dsft:
        yield _dsft_plan(recipe, recipe.dsft, out / "dsft")
    pairs = None
    if recipe.feedback:
        plan = _feedback_plan(recipe, recipe.feedback, out / "feedback")
        pairs = _rows(recipe, [recipe.feedback.prompts])
        yield plan
    if recipe.ddpo:
        yield _ddpo_plan(recipe, recipe.ddpo, out / "ddpo", pairs)


def _dsft_plan(recipe: Recipe, stage: DsftStage, out: Path) -> StagePlan:
    rows = _rows(recipe, stage.data)
    tokens = None if rows is None else rows * stage.max_length * stage.epochs
    note = "packed: fewer steps, by how full the rows get" if stage.packing else ""
    return StagePlan("dsft", rows, _steps(stage, rows), tokens, str(out), stage.budget_minutes, note)


def _feedback_plan(recipe: Recipe, stage: FeedbackStage, out: Path) -> StagePlan:
    held_out = [stage.held_out] if stage.held_out else []
    prompts = _rows(recipe, [stage.prompts, *held_out])
    answers = None if prompts is None else prompts * stage.samples * len(stage.engines)
    tokens = None if answers is None else answers * stage.sampling.max_new_tokens
    note = f"{stage.samples} answers a prompt from each of {', '.join(stage.engines)}; judge {stage.judge}"
    return StagePlan("feedback", answers, None, tokens, str(out), stage.budget_minutes, note)


def _ddpo_plan(recipe: Recipe, stage: DdpoStage, out: Path, prompts: int | None) -> StagePlan:
    pairs = _rows(recipe, stage.data) if stage.data else prompts
    tokens = None if pairs is None else pairs * 2 * stage.max_length * stage.epochs
    note = "" if stage.data else "at most: prompts whose answers all tie give no pair"
    return StagePlan("ddpo", pairs, _steps(stage, pairs), tokens, str(out), stage.budget_minutes, note)


def _steps(stage: Training, rows: int | None) -> int | None:
    return None if rows is None else math.ceil(rows / stage.global_batch) * stage.epochs


def _rows(recipe: Recipe, sources: Sequence[DataSource]) -> int | None:
    """Rows of all the sources together; None where one is on the hub and doesn't say."""
    total = 0
    for source in sources:
        path = recipe.resolve(source.file) if source.file else None
        counted = source.rows
        if counted is None and path and path.suffix == ".jsonl" and path.is_file():
            counted = sum(1 for _ in read_jsonl(path))
        if counted is None:
            return None
        total += min(counted, source.limit or counted)
    return total


def render_plan(plan: Plan) -> str:
    """The plan for people, as text."""
    from zephyr_bench.reports.render import render_table

    lines = [f"recipe {plan.recipe}, from {plan.model}; results in {plan.store}"]
    if plan.memory_gib:
        lines.append(f"training memory: {plan.memory_gib:.0f} GiB for weights, gradients and AdamW, before activations")
    stages = [
        [
            s.stage,
            number_told(s.samples),
            number_told(s.steps),
            number_told(s.tokens_at_most),
            minutes_told(s.budget_minutes),
            s.stored,
            s.note,
        ]
        for s in plan.stages
    ]
    stage_columns = ["stage", "samples", "steps", "tokens at most", "budget", "stored in", "note"]
    text = "\n".join(lines) + "\n\n" + render_table(stage_columns, stages, "table")
    if plan.evaluations:
        text += "\n" + render_estimates(plan.evaluations, "table")
    if plan.missing:
        text += "\nmissing here, so it can't start:\n" + "".join(f"  - {part}\n" for part in plan.missing)
    return text
