"""Engines run one model. `open_engine` finds the model and the engine; nothing is loaded yet."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import cast

from zephyr_bench.engines.locate import locate
from zephyr_bench.engines.protocol import Engine, EngineOptions, ModelSource
from zephyr_bench.errors import UserError, did_you_mean

GROUP = "zephyr_bench.engines"
_LOCAL = ("transformers", "vllm")
_BUILT_IN = ("openai", "transformers", "vllm")


def engine_names() -> list[str]:
    """Built-in engines and those of installed plug-ins, sorted."""
    return sorted({*_BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


def missing_for(model: str, options: EngineOptions) -> list[str]:
    """What the model's engine lacks here, a sentence each with what to do; no network, and nothing is loaded."""
    try:
        engine = open_engine(model, options)
    except UserError as error:
        return [str(error).removesuffix(".")]
    return list(getattr(engine, "missing", list)())


def open_engine(model: str | ModelSource, options: EngineOptions) -> Engine:
    """An engine for a directory, a packaged model's name, a hub id, or a model already found.

    With engine `openai`, for the name of a model at a server. Cheap. Raises UserError.
    """
    if options.engine not in engine_names():
        raise UserError(f"unknown engine '{options.engine}'.{did_you_mean(options.engine, engine_names())}")
    if options.engine != "transformers":
        _tell_others_idle(options.engine)
    if options.engine == "openai":
        from zephyr_bench.engines.remote_engine import openai_engine

        return openai_engine(model if isinstance(model, str) else model.name, options)
    if options.engine in _LOCAL and options.base_url is not None:
        raise UserError(f"--base-url {options.base_url}: engine {options.engine} asks no server; add --engine openai.")
    source = locate(model, include=options.include) if isinstance(model, str) else model
    if options.engine == "transformers":
        return _transformers_engine(source, options)
    if options.engine == "vllm":
        from zephyr_bench.engines.vllm_engine import VllmEngine

        return VllmEngine(source, options)
    (point,) = entry_points(group=GROUP, name=options.engine)
    return cast(Engine, point.load()(source, options))


def _tell_others_idle(engine: str) -> None:
    from zephyr_bench.engines.data_parallel import current_crew

    if crew := current_crew():
        crew.does_not_help(engine)


def _transformers_engine(source: ModelSource, options: EngineOptions) -> Engine:
    """Helped by the other processes of the launch, if there are any."""
    from zephyr_bench.engines.data_parallel import SharedWork, current_crew
    from zephyr_bench.engines.transformers_engine import TransformersEngine

    crew = current_crew()
    if crew is None:
        return TransformersEngine(source, options)
    own = crew.own_options(options)
    return TransformersEngine(source, own, shared=SharedWork(crew, source, options))
