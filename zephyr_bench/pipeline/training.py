"""The stages of a recipe, one after the other: dSFT, AI feedback, dDPO. A finished stage is not done again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from zephyr_bench.engines.locate import locate
from zephyr_bench.engines.protocol import EngineOptions, ModelSource
from zephyr_bench.judges import open_judge
from zephyr_bench.pipeline.engines import OpenEngines
from zephyr_bench.pipeline.feedback import collect_feedback
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe
from zephyr_bench.store import Store
from zephyr_bench.trainers.data import Pair, read_pairs
from zephyr_bench.trainers.ddpo import train_ddpo
from zephyr_bench.trainers.dsft import train_dsft


@dataclass
class Timings:
    """Seconds that each stage took in this process, and its budget in minutes."""

    rows: dict[str, tuple[float, float | None]] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, budget_minutes: float | None) -> Iterator[None]:
        """Times what runs inside; several times of one name add up."""
        started = time.monotonic()
        yield
        before = self.rows.get(name, (0.0, None))[0]
        self.rows[name] = (before + time.monotonic() - started, budget_minutes)

    def lines(self) -> list[str]:
        lines = [
            f"{name}: {_clock(seconds)}" + (f" of {_clock(60 * budget)}" if budget else "")
            for name, (seconds, budget) in self.rows.items()
        ]
        return [*lines, f"all: {_clock(sum(seconds for seconds, _ in self.rows.values()))}"]


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@dataclass(frozen=True)
class Trained:
    models: Mapping[str, ModelSource]  # "start", "dsft", "ddpo": those the recipe has
    held_out: Sequence[Pair]  # pairs that no stage was trained on


def train_stages(
    recipe: Recipe,
    options: EngineOptions,
    *,
    store: Store,
    out: Path,
    progress: Progress,
    timings: Timings | None = None,
    resume: bool = True,
) -> Trained:
    """Every stage of the recipe. Raises UserError before work where it can.

    Without `resume` finished checkpoints are trained again; stored answers and judgments are used all the same.
    """
    timings = timings or Timings()
    engines = OpenEngines(options)
    models = {"start": locate(recipe.model, include=options.include)}
    pairs: Sequence[Pair] = ()
    held_out: Sequence[Pair] = ()
    if recipe.dsft:
        with timings.stage("dsft", recipe.dsft.budget_minutes):
            models["dsft"] = train_dsft(
                recipe.dsft,
                models["start"],
                recipe=recipe,
                out=out / "dsft",
                progress=progress,
                device=options.device,
                resume=resume,
            )
    if recipe.feedback:
        with timings.stage("feedback", recipe.feedback.budget_minutes):
            pairs, held_out = collect_feedback(
                recipe.feedback,
                recipe,
                models,
                open_judge(recipe.feedback.judge, include=options.include),
                engines,
                options,
                store=store,
                out=out / "feedback",
                progress=progress,
            )
        engines.close()  # training needs the memory
    if recipe.ddpo:
        if recipe.ddpo.data:
            pairs = [pair for source in recipe.ddpo.data for pair in read_pairs(source, recipe=recipe)]
        if recipe.ddpo.held_out:
            held_out = read_pairs(recipe.ddpo.held_out, recipe=recipe)
        with timings.stage("ddpo", recipe.ddpo.budget_minutes):
            models["ddpo"] = train_ddpo(
                recipe.ddpo,
                models.get("dsft", models["start"]),
                pairs,
                recipe=recipe,
                out=out / "ddpo",
                progress=progress,
                device=options.device,
                resume=resume,
            )
    return Trained(models, held_out)
