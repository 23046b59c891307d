"""train-and-eval: a recipe's stages, then every checkpoint on every benchmark, then what came of it.

Finished stages and stored answers are not made again; the same command twice prints the same scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from zephyr_bench.benchmarks.evaluate import Outcome, evaluate
from zephyr_bench.benchmarks.protocol import NeedsAnswers
from zephyr_bench.engines.locate import locate
from zephyr_bench.engines.protocol import EngineOptions, ModelSource
from zephyr_bench.errors import MissingParts, UserError
from zephyr_bench.pipeline.curve import Evaluator, Parts
from zephyr_bench.pipeline.engines import OpenEngines
from zephyr_bench.pipeline.plan import open_parts
from zephyr_bench.pipeline.preferences import IMPLICIT, MARGIN, METRICS, HeldOutPreferences, interval_percent
from zephyr_bench.pipeline.requirements import check_recipe, unfit_judges
from zephyr_bench.pipeline.training import Timings, Trained, train_stages
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe
from zephyr_bench.records import Score
from zephyr_bench.reports.recipe_report import Evaluated, PreferenceAccuracy, RecipeReport
from zephyr_bench.store import Store


def prepare(recipe: Recipe, options: EngineOptions, *, data: Path | None = None) -> Parts:
    """Each evaluation's benchmark and judge, ready to run. Raises MissingParts with all that the recipe lacks."""
    parts, judges = open_parts(recipe, options, data=data)
    check_recipe(recipe, options, [benchmark for _, benchmark, _ in parts], judges)
    if unfit := list(unfit_judges((benchmark, judge) for _, benchmark, judge in parts)):
        raise MissingParts(f"recipe {recipe.name}", unfit)
    return parts


def train_and_eval(
    recipe: Recipe,
    parts: Parts,
    options: EngineOptions,
    *,
    store: Store,
    out: Path,
    progress: Progress,
    limit: int | None = None,
    data: Path | None = None,
) -> RecipeReport:
    """`parts` and `data` are of `prepare`. `limit` is of questions of each benchmark, not of training rows."""
    _check_rivals(recipe, parts, options, store, limit)
    timings = Timings()
    evaluator = Evaluator(recipe, parts, options, store, out, progress, timings, limit)
    midway = evaluator if parts else None
    trained = train_stages(
        recipe,
        options,
        store=store,
        out=out,
        progress=progress,
        timings=timings,
        evaluations=midway,
        benchmarks=[benchmark for _, benchmark, _ in parts],
        data_folder=data,
    )
    engines = OpenEngines(options)
    evaluated: list[Evaluated] = []
    preferences: list[PreferenceAccuracy] = []
    reference_stage = [stage for stage in trained.models if stage != "ddpo"][-1]  # what dDPO starts from
    reference: dict[str, float] | None = None
    for stage, model in trained.models.items():
        if stage in recipe.evaluate_models:
            evaluated.append(Evaluated(stage, model.name, evaluator.evaluated(model, engines)))
        if stage != "start":
            evaluator.finish(model, engines.get(model))
        if trained.held_out and (stage in recipe.evaluate_models or stage == reference_stage):
            with timings.stage("held-out preferences", None):
                progress.say(f"held-out preferences: {model.name}")
                against = reference if stage == "ddpo" else None
                outcome = _preferences(trained, model, against, engines, store, progress, seed=recipe.seed)
            preferences.append(_accuracy(model, outcome))
            if stage == reference_stage:
                reference = {s.question: s.value or 0.0 for s in store.samples_of(outcome.run, MARGIN)}
    engines.close()
    shown = {benchmark.name: benchmark.headline for _, benchmark, _ in parts}  # columns in the recipe's order
    made = [model.lineage["stage_fingerprint"] for stage, model in trained.models.items() if stage != "start"]
    return RecipeReport(recipe.name, evaluated, preferences, timings.lines(), shown, made)


def _check_rivals(recipe: Recipe, parts: Parts, options: EngineOptions, store: Store, limit: int | None) -> None:
    """Raises UserError, before any training, for a comparison that the first model evaluated can't take part in."""
    first = locate(recipe.model, include=options.include)
    if "start" not in recipe.evaluate_models:
        first = replace(first, name=f"{recipe.name}-{recipe.evaluate_models[0]}", fingerprint="")  # not made yet
    for evaluation, benchmark, _ in parts:
        if isinstance(benchmark, NeedsAnswers):
            try:
                benchmark.with_answers(store, first, limit or evaluation.limit)
            except UserError as error:
                raise UserError(f"recipe {recipe.name}, {benchmark.name} of {first.name}: {error}") from None


def _preferences(
    trained: Trained,
    model: ModelSource,
    reference: Mapping[str, float] | None,
    engines: OpenEngines,
    store: Store,
    progress: Progress,
    *,
    seed: int,
) -> Outcome:
    """`reference`: the margins of the checkpoint that dDPO started from."""
    benchmark = HeldOutPreferences(trained.held_out, reference=reference)
    return evaluate(benchmark, engines.get(model), judge=None, store=store, progress=progress, seed=seed)


def _accuracy(model: ModelSource, outcome: Outcome) -> PreferenceAccuracy:
    scores: dict[str, Score] = {score.metric: score for score in outcome.scores}
    raw, implicit = scores[METRICS[MARGIN]], scores.get(METRICS[IMPLICIT])
    return PreferenceAccuracy(
        model.name, raw, interval_percent(raw), implicit, interval_percent(implicit) if implicit else None
    )
