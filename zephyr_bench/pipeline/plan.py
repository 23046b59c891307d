"""The plan of a recipe: stages, counts, upper bounds of tokens and cost, and where each thing will be stored.

Reads declarations and counts local rows; runs nothing and asks no network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.protocol import Benchmark
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.judges import open_judge
from zephyr_bench.judges.protocol import Judge, JudgeOptions
from zephyr_bench.pipeline.estimate import EvaluationPlan, estimate, minutes_told, number_told, render_estimates
from zephyr_bench.pipeline.requirements import recipe_parts
from zephyr_bench.pipeline.resources import Measure, Resources, resources
from zephyr_bench.pipeline.token_counts import TokenCount, counted, longest_answer, longest_at_once
from zephyr_bench.recipe import DataSource, DdpoStage, DsftStage, Evaluation, FeedbackStage, Recipe, Training
from zephyr_bench.store import shown
from zephyr_bench.trainers.rate import measured_flop_per_second
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
    tokens: int | None = None  # trained on, by the rows themselves; a pair's prompt once
    resources: Resources | None = None  # of stages that update weights, where the recipe tells the model's architecture


@dataclass(frozen=True)
class Plan:
    recipe: str
    model: str
    stages: tuple[StagePlan, ...]
    evaluations: tuple[EvaluationPlan, ...]
    store: str
    missing: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def open_parts(
    recipe: Recipe, options: EngineOptions, *, data: Path | None = None, judging: JudgeOptions | None = None
) -> tuple[list[tuple[Evaluation, Benchmark, Judge | None]], list[Judge]]:
    """Each evaluation with its benchmark and judge, and every judge the recipe names."""
    judges: dict[str, Judge] = {}

    def judge(name: str | None) -> Judge | None:
        if name is not None and name not in judges:
            judges[name] = open_judge(name, include=options.include, options=judging)
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
    measure: Measure = measured_flop_per_second,
) -> Plan:
    """The whole plan, what is missing included. Raises UserError for a recipe that names unknown parts.

    `measure` finds how fast this machine trains.
    """
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
        stages=tuple(_with_resources(recipe, _stage_plans(recipe, out), options, measure)),
        evaluations=tuple(evaluations),
        store=shown(store),
        missing=tuple(recipe_parts(recipe, options, [benchmark for _, benchmark, _ in parts], judges)),
    )


def _with_resources(
    recipe: Recipe, plans: Iterator[StagePlan], options: EngineOptions, measure: Measure
) -> Iterator[StagePlan]:
    """By the rows' own tokens where they are here, else by the most that they may have."""
    training = dict(recipe.training)
    for plan in plans:
        stage = training.get(plan.stage)
        if stage and recipe.architecture and plan.tokens_at_most:
            count = counted(recipe, stage, options)
            at_most = plan.tokens_at_most / stage.epochs
            count_or_most = count or TokenCount(at_most, at_most, stage.max_length, longest_at_once(stage))
            found = resources(stage, recipe.architecture, count_or_most, device=options.device, measure=measure)
            tokens = round(count.tokens * stage.epochs) if count else None
            plan = replace(plan, tokens=tokens, resources=found)
        yield plan


def _model_name(recipe: Recipe, model: str) -> str:
    return recipe.model if model == "start" else f"{recipe.name}-{model}"


def _stage_plans(recipe: Recipe, out: Path) -> Iterator[StagePlan]:
    for name, dsft in recipe.dsft_stages:
        yield _dsft_plan(recipe, name, dsft, out / name)
    pairs = None
    if recipe.feedback:
        plan = _feedback_plan(recipe, recipe.feedback, out / "feedback")
        pairs = _rows(recipe, [recipe.feedback.prompts])
        yield plan
    if recipe.ddpo:
        yield _ddpo_plan(recipe, recipe.ddpo, out / "ddpo", pairs)


def _dsft_plan(recipe: Recipe, name: str, stage: DsftStage, out: Path) -> StagePlan:
    rows = _rows(recipe, stage.data)
    tokens = None if rows is None else rows * stage.max_length * stage.epochs
    note = "packed: fewer steps, by how full the rows get" if stage.packing else ""
    return StagePlan(name, rows, _steps(stage, rows), tokens, str(out), stage.budget_minutes, note)


def _feedback_plan(recipe: Recipe, stage: FeedbackStage, out: Path) -> StagePlan:
    held_out = [stage.held_out] if stage.held_out else []
    prompts = _rows(recipe, [stage.prompts, *held_out])
    answers = None if prompts is None else prompts * stage.samples * len(stage.engines)
    tokens = None if answers is None else answers * stage.sampling.max_new_tokens
    note = f"{stage.samples} answers a prompt from each of {', '.join(stage.engines)}; judge {stage.judge}"
    return StagePlan("feedback", answers, None, tokens, str(out), stage.budget_minutes, note)


def _ddpo_plan(recipe: Recipe, stage: DdpoStage, out: Path, prompts: int | None) -> StagePlan:
    pairs = _rows(recipe, stage.data) if stage.data else prompts
    tokens = None if pairs is None else pairs * _longest_pair(recipe, stage) * stage.epochs
    note = "" if stage.data else "at most: prompts whose answers all tie give no pair"
    return StagePlan("ddpo", pairs, _steps(stage, pairs), tokens, str(out), stage.budget_minutes, note)


def _longest_pair(recipe: Recipe, stage: DdpoStage) -> int:
    """Tokens, the prompt once."""
    answer = longest_answer(stage)
    if not stage.data and recipe.feedback:
        answer = min(answer, recipe.feedback.sampling.max_new_tokens + 1)  # and the end of its turn
    return stage.max_length + answer


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
        total += int(min(counted, source.limit or counted) * source.weight)
    return total


def _clock_told(hours: float, *, at_most: bool) -> str:
    told = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
    return f"at most {told}" if at_most else told


def render_plan(plan: Plan) -> str:
    """The plan for people, as text."""
    from zephyr_bench.reports.render import render_table

    lines = [f"recipe {plan.recipe}, from {plan.model}; results in {plan.store}"]
    stages = [
        [
            s.stage,
            number_told(s.samples),
            number_told(s.steps),
            number_told(s.tokens) if s.tokens else f"at most {number_told(s.tokens_at_most)}",
            f"{s.resources.gib_a_device:.1f} GiB" if s.resources else "",
            _clock_told(s.resources.hours, at_most=s.tokens is None) if s.resources else "",
            minutes_told(s.budget_minutes),
            s.stored,
            s.note,
        ]
        for s in plan.stages
    ]
    stage_columns = ["stage", "samples", "steps", "tokens", "memory", "time", "budget"]
    text = "\n".join(lines) + "\n\n" + render_table([*stage_columns, "stored in", "note"], stages, "table")
    text += "".join(f"{s.stage}: memory and time on {s.resources.where}\n" for s in plan.stages if s.resources)
    if plan.evaluations:
        text += "\n" + render_estimates(plan.evaluations, "table")
    if plan.missing:
        text += "\nmissing here, so it can't start:\n" + "".join(f"  - {part}\n" for part in plan.missing)
    return text
