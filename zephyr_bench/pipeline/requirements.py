"""What a command needs, found before any work, and all that is missing told at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec

from zephyr_bench.benchmarks.protocol import Benchmark, FitsEngine, compares
from zephyr_bench.engines import missing_for, open_engine
from zephyr_bench.engines.launch import in_shards, launched
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import MissingParts, UserError
from zephyr_bench.hub import cached, reachable
from zephyr_bench.judges import open_judge
from zephyr_bench.judges.protocol import Judge, unfit_for
from zephyr_bench.pipeline.resources import training_memory
from zephyr_bench.recipe import DataSource, Recipe
from zephyr_bench.reports.curve import missing_plots
from zephyr_bench.training_runs.parallel import unfit_launch
from zephyr_bench.training_runs.reporting import missing_reports

_GIB = 1024**3
_SMALL_PARAMETERS = 1e9  # a larger model would take weeks on a CPU


def check_parts(
    what: str, model: str, options: EngineOptions, benchmarks: Sequence[Benchmark], judges: Sequence[Judge]
) -> None:
    """Raises MissingParts with everything that an evaluation lacks. Loads nothing."""
    lacking = [
        *missing_for(model, options),
        *benchmark_parts(benchmarks),
        *judge_parts(judges),
        *engine_parts(model, options, benchmarks),
    ]
    if lacking:
        raise MissingParts(what, lacking)


def check_recipe(
    recipe: Recipe, options: EngineOptions, benchmarks: Sequence[Benchmark], judges: Sequence[Judge]
) -> None:
    """Raises MissingParts with everything that a whole recipe lacks. Loads nothing."""
    lacking = recipe_parts(recipe, options, benchmarks, judges)
    if lacking:
        raise MissingParts(f"recipe {recipe.name}", lacking)


def recipe_parts(
    recipe: Recipe, options: EngineOptions, benchmarks: Sequence[Benchmark], judges: Sequence[Judge]
) -> list[str]:
    return [
        *_memory_parts(recipe),
        *(unfit_launch(recipe) if recipe.training else ()),
        *_package_parts(recipe),
        *missing_for(recipe.model, options),
        *engine_parts(recipe.model, options, benchmarks),
        *_data_parts(recipe),
        *_feedback_models(recipe, options),
        *benchmark_parts(benchmarks),
        *judge_parts(judges),
        *_feedback_judge(recipe, options),
    ]


def benchmark_parts(benchmarks: Iterable[Benchmark]) -> Iterator[str]:
    wanted: dict[str, str] = {}
    for benchmark in benchmarks:
        yield from benchmark.missing()
        wanted |= dict.fromkeys(benchmark.hub_data(), benchmark.name)
    if wanted and not reachable():
        names = ", ".join(sorted(wanted))
        yield (
            f"the hub does not answer from here, and {names} must come from it: go online, or name a folder that has "
            f"them by --data"
        )


def unfit_judges(parts: Iterable[tuple[Benchmark, Judge | None]]) -> Iterator[str]:
    """What keeps a benchmark's judge from judging it."""
    for benchmark, judge in parts:
        yield from unfit_for(judge, paired=compares(benchmark)) if judge else ()


def engine_parts(model: str, options: EngineOptions, benchmarks: Iterable[Benchmark]) -> Iterator[str]:
    """What the benchmarks ask and the model's engine can't do; nothing where there is no such engine."""
    try:
        engine = open_engine(model, options)
    except UserError:
        return  # `missing_for` says why
    for benchmark in benchmarks:
        if isinstance(benchmark, FitsEngine):
            yield from benchmark.unfit(engine)


def judge_parts(judges: Iterable[Judge]) -> Iterator[str]:
    told = {part: None for judge in judges for part in judge.missing()}
    yield from told


def _feedback_judge(recipe: Recipe, options: EngineOptions) -> Iterator[str]:
    """Answers are ranked by their grades, so the judge must give some."""
    if recipe.feedback:
        yield from unfit_for(open_judge(recipe.feedback.judge, include=options.include), paired=False)


def _feedback_models(recipe: Recipe, options: EngineOptions) -> Iterator[str]:
    """Models that answer for the feedback stage beside those that the recipe makes."""
    for name in recipe.feedback.engines if recipe.feedback else ():
        if name not in ("start", "dsft", "dsft2"):
            yield from missing_for(name, options)


def _data_parts(recipe: Recipe) -> Iterator[str]:
    """Training data that is neither a file here nor to be had from the hub."""
    sources: list[DataSource] = []
    for stage in (recipe.dsft, recipe.dsft2, recipe.ddpo):
        if stage is not None:
            sources += [*stage.data, *([stage.held_out] if stage.held_out else [])]
    if recipe.feedback:
        sources += [source for source in (recipe.feedback.prompts, recipe.feedback.held_out) if source]
    hub = sorted({source.hub for source in sources if source.hub and not cached(source.hub, "dataset")})
    files = [recipe.resolve(source.file) for source in sources if source.file]
    files += [recipe.resolve(recipe.chat_template)] if recipe.chat_template and recipe.stages else []
    yield from (f"file {path} does not exist" for path in dict.fromkeys(files) if not path.is_file())
    if hub and not reachable():
        names = ", ".join(hub)
        yield f"the hub does not answer from here, and {names} must come from it: go online, or name files instead"


def _memory_parts(recipe: Recipe) -> Iterator[str]:
    """Memory to train in: a GPU's, or for a small model this machine's own."""
    shape, launch = recipe.architecture, launched()
    if shape is None or not recipe.training:
        return
    devices = launch.world if launch and in_shards() else 1
    needed = (
        max(training_memory(stage, shape, bf16=True, devices=devices).states for _, stage in recipe.training) / _GIB
    )
    found = _gpu_memory_gib()
    small = shape.parameters < _SMALL_PARAMETERS and needed < _own_memory_gib()
    if found >= needed or small:
        return
    here = f"{found:.0f} GiB found" if found else "none found"
    each = f" on each of {devices} GPUs" if devices > 1 else ""
    yield (
        f"GPU memory to train {shape.parameters / 1e9:.1f} billion parameters: at least {needed:.0f} GiB{each} before "
        f"activations, {here}"
    )


def _package_parts(recipe: Recipe) -> Iterator[str]:
    """What only some recipes need."""
    yield from missing_reports(recipe.report_to if recipe.training else ())
    if recipe.evaluate and any(stage.evaluate_every for _, stage in recipe.training):
        yield from missing_plots()
    if find_spec("bitsandbytes") is None:
        for name, stage in recipe.training:
            if (stage.lora and stage.lora.quantize) or stage.optimizer == "paged_adamw_32bit":
                yield f"bitsandbytes, for {name} in few bits: run `pip install 'zephyr-bench[qlora]'`"
                return


def _own_memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB


def _gpu_memory_gib() -> float:
    """Of the largest GPU."""
    import torch

    sizes = [torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())]
    return max(sizes, default=0) / _GIB
