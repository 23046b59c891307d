"""What a command needs, found before any work, and all that is missing told at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from zephyr_bench.benchmarks.protocol import Benchmark, FitsEngine
from zephyr_bench.engines import missing_for, open_engine
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import MissingParts, UserError
from zephyr_bench.hub import cached, reachable
from zephyr_bench.judges.protocol import Judge
from zephyr_bench.recipe import Recipe

# bytes a parameter while training: bf16 weights and gradients, fp32 copies of AdamW (weights, two moments)
_TRAINING_BYTES_PER_PARAMETER = 16
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
        *missing_for(recipe.model, options),
        *engine_parts(recipe.model, options, benchmarks),
        *_data_parts(recipe),
        *_feedback_models(recipe, options),
        *benchmark_parts(benchmarks),
        *judge_parts(judges),
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


def _feedback_models(recipe: Recipe, options: EngineOptions) -> Iterator[str]:
    """Models that answer for the feedback stage beside those that the recipe makes."""
    for name in recipe.feedback.engines if recipe.feedback else ():
        if name not in ("start", "dsft"):
            yield from missing_for(name, options)


def _data_parts(recipe: Recipe) -> Iterator[str]:
    """Training data that is neither a file here nor to be had from the hub."""
    sources = [*(recipe.dsft.data if recipe.dsft else ()), *(recipe.ddpo.data if recipe.ddpo else ())]
    if recipe.ddpo and recipe.ddpo.held_out:
        sources.append(recipe.ddpo.held_out)
    if recipe.feedback:
        sources += [source for source in (recipe.feedback.prompts, recipe.feedback.held_out) if source]
    hub = sorted({source.hub for source in sources if source.hub and not cached(source.hub, "dataset")})
    files = [recipe.resolve(source.file) for source in sources if source.file]
    files += [recipe.resolve(recipe.chat_template)] if recipe.chat_template and recipe.stages else []
    yield from (f"file {path} does not exist" for path in dict.fromkeys(files) if not path.is_file())
    if hub and not reachable():
        names = ", ".join(hub)
        yield f"the hub does not answer from here, and {names} must come from it: go online, or name files instead"


def training_memory_gib(parameters: float) -> float:
    """Memory of weights, gradients and AdamW's states in mixed precision, without activations."""
    return parameters * _TRAINING_BYTES_PER_PARAMETER / _GIB


def _memory_parts(recipe: Recipe) -> Iterator[str]:
    """Memory to train in: a GPU's, or for a small model this machine's own."""
    if recipe.parameters is None or not recipe.stages:
        return
    needed = training_memory_gib(recipe.parameters)
    found = _gpu_memory_gib()
    small = recipe.parameters < _SMALL_PARAMETERS and needed < _own_memory_gib()
    if found >= needed or small:
        return
    here = f"{found:.0f} GiB found" if found else "none found"
    yield (
        f"GPU memory for full fine-tuning of {recipe.parameters / 1e9:.1f} billion parameters: "
        f"at least {needed:.0f} GiB before activations, {here}"
    )


def _own_memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB


def _gpu_memory_gib() -> float:
    """Of the largest GPU: this release trains on one device."""
    import torch

    sizes = [torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())]
    return max(sizes, default=0) / _GIB
