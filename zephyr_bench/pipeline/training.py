"""The stages of a recipe, one after the other: dSFT, AI feedback, dDPO. A finished stage is not done again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from zephyr_bench.benchmarks.protocol import Benchmark
from zephyr_bench.engines.locate import locate
from zephyr_bench.engines.protocol import EngineOptions, ModelSource
from zephyr_bench.pipeline.decontamination import decontaminated
from zephyr_bench.pipeline.engines import OpenEngines
from zephyr_bench.pipeline.feedback import check_budget, collect_feedback
from zephyr_bench.progress import Progress, clock
from zephyr_bench.recipe import Recipe
from zephyr_bench.store import Store
from zephyr_bench.trainers.ddpo import train_ddpo
from zephyr_bench.trainers.dsft import train_dsft
from zephyr_bench.training_data.data import Pair
from zephyr_bench.training_data.reading import read_recipe, tell, write_left_out
from zephyr_bench.training_runs.watching import Evaluations, Observers


@dataclass
class Timings:
    """Seconds that each stage took in this process, and its budget in minutes."""

    rows: dict[str, tuple[float, float | None]] = field(default_factory=dict)
    _told: float = 0.0  # of all rows

    @contextmanager
    def stage(self, name: str, budget_minutes: float | None) -> Iterator[None]:
        """Times what runs inside, but for stages of their own; several times of one name add up."""
        started, told = time.monotonic(), self._told
        yield
        before = self.rows.get(name, (0.0, None))[0]
        seconds = time.monotonic() - started - (self._told - told)
        self.rows[name] = (before + seconds, budget_minutes)
        self._told += seconds

    def lines(self) -> list[str]:
        lines = [
            f"{name}: {clock(seconds)}" + (f" of {clock(60 * budget)}" if budget else "")
            for name, (seconds, budget) in self.rows.items()
        ]
        return [*lines, f"all: {clock(sum(seconds for seconds, _ in self.rows.values()))}"]


@dataclass(frozen=True)
class Trained:
    models: Mapping[str, ModelSource]  # "start" and the stages that the recipe has, in their order
    held_out: Sequence[Pair]  # pairs that no stage was trained on


def last(models: Mapping[str, ModelSource]) -> ModelSource:
    """What the next stage goes on from."""
    return list(models.values())[-1]


def train_stages(
    recipe: Recipe,
    options: EngineOptions,
    *,
    store: Store,
    out: Path,
    progress: Progress,
    timings: Timings | None = None,
    resume: bool = True,
    evaluations: Evaluations | None = None,
    benchmarks: Sequence[Benchmark] = (),
    data_folder: Path | None = None,
) -> Trained:
    """Every stage of the recipe. Raises UserError before work where it can.

    Without `resume` finished checkpoints are trained again; stored answers and judgments are used all the same.
    `evaluations` are made in the midst of training, where the recipe asks for them. `benchmarks` are those that the
    recipe evaluates on, whose questions are not trained on; others that it names have their data in `data_folder`.
    """
    observers = Observers(store, recipe.report_to, evaluations)
    timings = timings or Timings()
    checked = decontaminated(
        read_recipe(recipe),
        recipe,
        benchmarks,
        out=out,
        progress=progress,
        include=options.include,
        folder=data_folder,
    )
    data = checked.data
    tell(data, progress)
    if recipe.feedback:
        rows = data["feedback"]
        check_budget(recipe.feedback, options, prompts=len(rows.train.items) + len(rows.held_out.items))
    engines = OpenEngines(options)
    models = {"start": locate(recipe.model, include=options.include)}
    pairs: Sequence[Pair] = ()
    held_out: Sequence[Pair] = ()
    for name, dsft in recipe.dsft_stages:
        with timings.stage(name, dsft.budget_minutes):
            models[name] = train_dsft(
                dsft,
                last(models),
                data[name].train.items,
                recipe=recipe,
                out=out / name,
                progress=progress,
                device=options.device,
                resume=resume,
                what=name,
                places=data[name].train.places,
                held_out=data[name].held_out.items,
                observers=observers,
                include=options.include,
                compared=checked.told,
            )
        write_left_out(out / name, data[name])
    if recipe.feedback:
        with timings.stage("feedback", recipe.feedback.budget_minutes):
            pairs, held_out = collect_feedback(
                recipe.feedback,
                recipe,
                models,
                engines,
                options,
                prompts=data["feedback"].train.items,
                held_out=data["feedback"].held_out.items,
                store=store,
                out=out / "feedback",
                progress=progress,
            )
        engines.close()  # training needs the memory
        write_left_out(out / "feedback", data["feedback"])
    if recipe.ddpo:
        if recipe.ddpo.data:
            pairs = data["ddpo"].train.items
        if recipe.ddpo.held_out:
            held_out = data["ddpo"].held_out.items
        with timings.stage("ddpo", recipe.ddpo.budget_minutes):
            models["ddpo"] = train_ddpo(
                recipe.ddpo,
                last(models),
                pairs,
                recipe=recipe,
                out=out / "ddpo",
                progress=progress,
                device=options.device,
                resume=resume,
                held_out=held_out,
                observers=observers,
                include=options.include,
                compared=checked.told,
            )
        write_left_out(out / "ddpo", data["ddpo"])
    return Trained(models, held_out)
