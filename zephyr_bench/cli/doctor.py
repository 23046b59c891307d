"""`zephyr-bench doctor`: what is installed and reachable, and what each command still needs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zephyr_bench.cli import options as o
from zephyr_bench.errors import UserError, ZephyrBenchError

if TYPE_CHECKING:
    from zephyr_bench.engines.protocol import EngineOptions, ScoringEngine

_PACKAGES = (
    "torch",
    "transformers",
    "datasets",
    "lm_eval",
    "openai",
    "vllm",
    "fschat",
    "peft",
    "bitsandbytes",
    "psycopg",
    "ray",
)


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Look at this model too: files and chat template.")
    ] = None,
    store: o.StoreUrl = o.DEFAULT_STORE,
    include: o.Include = None,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """Say what is installed, what is reachable, and what each recipe, benchmark and judge still needs."""
    folders = tuple(include or ())
    rows = [*_installed(), *_machine(), *_store(store), *_catalogue(folders)]
    if model is not None:
        rows += _model(model, folders)
    if output is o.Format.json:
        typer.echo(json.dumps([{"part": a, "state": b, "detail": c} for a, b, c in rows], indent=2))
        return
    from zephyr_bench.reports.render import render_table

    typer.echo(render_table(["part", "state", "detail"], rows, output.value), nl=False)


Row = tuple[str, str, str]


def _installed() -> Iterator[Row]:
    for package in _PACKAGES:
        try:
            yield package, "ok", version(package)
        except PackageNotFoundError:
            yield package, "absent", ""


def _machine() -> Iterator[Row]:
    import torch

    from zephyr_bench.hub import offline, reachable

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield "gpu", "ok" if gpus else "none", ", ".join(gpus)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    yield "memory", "ok", f"{memory:.0f} GiB, {os.cpu_count()} processors"
    yield "disk here", "ok", f"{shutil.disk_usage('.').free / 1024**3:.0f} GiB free"
    state = "ok" if reachable() else "offline" if offline() else "unreachable"
    yield "hub", state, "HF_HUB_OFFLINE is set" if offline() else ""


def _store(url: str) -> Iterator[Row]:
    from zephyr_bench.store import Store, shown

    if not o.store_exists(url):
        yield "store", "new", f"{url}: will be made by the first run"
        return
    try:
        with Store(url) as results:
            yield "store", "ok", f"{shown(url)}: {len(results.runs())} runs"
    except UserError as error:
        yield "store", "broken", str(error)


def _catalogue(include: tuple[Path, ...]) -> Iterator[Row]:
    """What each entry still needs; a broken YAML is told with its line."""
    from zephyr_bench import catalogue
    from zephyr_bench.benchmarks import open_benchmark
    from zephyr_bench.engines.protocol import EngineOptions
    from zephyr_bench.judges import open_judge
    from zephyr_bench.pipeline.plan import open_parts
    from zephyr_bench.pipeline.requirements import benchmark_parts, recipe_parts
    from zephyr_bench.recipe import load_recipe

    def judge(name: str) -> list[str]:
        return open_judge(name, include=include).missing()

    def benchmark(name: str) -> list[str]:
        return list(benchmark_parts([open_benchmark(name, include=include)]))

    def recipe(name: str) -> list[str]:
        options = EngineOptions(include=include)
        loaded = load_recipe(name, include)
        parts, judges = open_parts(loaded, options)
        return recipe_parts(loaded, options, [benchmark for _, benchmark, _ in parts], judges)

    for kind, needs in (("judge", judge), ("benchmark", benchmark), ("recipe", recipe)):
        for name in catalogue.entries(kind, include):
            try:
                missing = needs(name)
            except ZephyrBenchError as error:
                missing = [str(error)]
            yield f"{kind} {name}", "needs" if missing else "ok", "; ".join(missing)


def _model(name: str, include: tuple[Path, ...]) -> Iterator[Row]:
    from zephyr_bench.engines import open_engine
    from zephyr_bench.engines.protocol import EngineOptions, ScoringEngine

    options = EngineOptions(include=include)
    engine = open_engine(name, options)
    yield f"model {engine.model.name}", "ok", f"{engine.model.location} {engine.model.fingerprint}"
    yield from _base(engine.model.location, include)
    if isinstance(engine, ScoringEngine):
        yield from _chat(engine, options)


def _base(location: str, include: tuple[Path, ...]) -> Iterator[Row]:
    """What an adapter is put on, and whether it was trained on that."""
    from zephyr_bench.engines.locate import base_of
    from zephyr_bench.engines.model_files import base_is_checked, is_adapter

    if is_adapter(location):
        base = base_of(location, include=include)
        checked = base_is_checked(location)
        told = "it was trained on it" if checked else "whether it was trained on it can't be checked: no lineage.json"
        yield f"base {base.name}", "ok" if checked else "note", f"{base.location} {base.fingerprint}: {told}"


def _chat(engine: ScoringEngine, options: EngineOptions) -> Iterator[Row]:
    """MT-Bench's second turn as the model reads it, and what speaks against it."""
    from zephyr_bench.engines.loading import config_ends
    from zephyr_bench.engines.prompt_check import fastchat_prompt, findings, quoted, two_turn_prompt

    try:
        prompt = two_turn_prompt(engine, config_ends(engine.model.location, options))
    except UserError as error:
        yield "chat template", "warn", str(error)
        return

    def shown(*tokens: int) -> str:
        return " ".join(f"{token} {quoted(engine, token)}" for token in tokens) or "none"

    start = "none" if prompt.start is None else shown(prompt.start)
    yield "two-turn prompt", "ok", json.dumps(prompt.text, ensure_ascii=False)
    yield (
        "prompt tokens",
        "ok",
        f"{len(prompt.tokens)}, from {shown(*prompt.tokens[:2])} to {shown(*prompt.tokens[-2:])}; "
        f"start token {start}, end tokens {shown(*sorted(prompt.ends))}",
    )
    for finding in findings(engine, prompt):
        yield finding.what, finding.state, finding.told
    if theirs := fastchat_prompt(engine.model.name):
        name, text = theirs
        same = text == prompt.text
        told = "writes the same" if same else f"published scores were made with {json.dumps(text, ensure_ascii=False)}"
        yield "FastChat's prompt", "ok" if same else "note", f"its template {name}, by the model's name: {told}"
