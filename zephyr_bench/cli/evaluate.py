"""`zephyr-bench mtbench`, `alpaca-eval` and `open-llm`: one model on one benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zephyr_bench.cli import options as o
from zephyr_bench.errors import UserError

if TYPE_CHECKING:
    from zephyr_bench import benchmarks
    from zephyr_bench.engines.protocol import EngineOptions
    from zephyr_bench.judges.protocol import Judge, JudgeOptions

_PAIRWISE = "-pairwise"


class Mode(StrEnum):
    """How MT-Bench's answers are judged."""

    single = "single"
    pairwise = "pairwise"


Benchmark = Annotated[str | None, typer.Option("--benchmark", help="A benchmark's name or YAML file.")]
Tasks = Annotated[
    str | None,
    typer.Option("--tasks", help="Only these, separated by commas: the benchmark's, or any of lm-eval's."),
]
Version = Annotated[int | None, typer.Option("--version", min=1, max=2, help="Of the leaderboard; default: 1.")]


class SamplingBy(StrEnum):
    """How AlpacaEval's answers are sampled, where not as the benchmark says."""

    greedy = "greedy"
    own = "own"


Outputs = Annotated[
    Path | None, typer.Option("--outputs", help="A file of answers to judge, AlpacaEval's model_outputs.json.")
]
AnswersOnly = Annotated[
    bool, typer.Option("--answers-only", help="Ask no judge: `judge --run` or `gate --sequential` grades them later.")
]
ChatTemplate = Annotated[
    bool | None,
    typer.Option(
        "--chat-template/--no-chat-template",
        help="Prompts as chats; default: on for version 2, where the model has a template, and for a served model.",
    ),
]


def register(app: typer.Typer) -> None:
    app.command("mtbench")(mtbench)
    app.command("alpaca-eval")(alpaca_eval)
    app.command("open-llm")(open_llm)


def mtbench(
    model: o.Model,
    benchmark: Benchmark = None,
    mode: Annotated[Mode | None, typer.Option("--mode", help="Grade each answer, or compare it.")] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option("--baseline", help="pairwise: a model or run of the store, or `all` that answered; repeatable."),
    ] = None,
    judge: o.Judge = None,
    references: Annotated[
        str | None, typer.Option("--references", help="Which reference answers: gpt-4, gpt-4-0125-preview.")
    ] = None,
    judgments: Annotated[int | None, typer.Option("--judgments", min=1, help="Of each answer; default: 1.")] = None,
    answers_only: AnswersOnly = False,
    engine: o.Engine = "transformers",
    base_url: o.BaseUrl = None,
    judge_url: o.JudgeUrl = None,
    api_key_env: o.ApiKeyEnv = "OPENAI_API_KEY",
    concurrency: o.Concurrency = None,
    max_cost: o.MaxCost = None,
    batch: o.Batch = False,
    dry_run: o.DryRun = False,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    trust_remote_code: o.TrustRemoteCode = False,
    limit: o.Limit = None,
    seed: o.Seed = 0,
    tag: o.Tag = None,
    store: o.StoreUrl = o.DEFAULT_STORE,
    include: o.Include = None,
    output: o.OutputFormat = o.Format.table,
    quiet: o.Quiet = False,
) -> None:
    """Ask MT-Bench's two-turn questions, have a judge grade or compare the answers, print the scores."""
    tags = o.tags(tag)
    running, judging = _options(
        *(engine, dtype, device, batch_size, trust_remote_code, include),
        *(base_url, judge_url, api_key_env, concurrency, max_cost, batch),
    )
    name = _of_mode(benchmark or "mt-bench", mode)
    if baseline and not name.endswith((_PAIRWISE, ".yaml", ".yml")):
        raise UserError("--baseline: each answer is graded by itself; add --mode pairwise to compare it.")
    if answers_only:
        _no_judge({"--judge": judge, "--judgments": judgments, "--mode pairwise": name.endswith(_PAIRWISE)})
    chosen: dict[str, Any] = {"references": references, "judgments": judgments, "baselines": baseline}
    chosen = {option: value for option, value in chosen.items() if value}
    run(model, name, judge, running, judging, limit, seed, store, output, quiet, dry_run, answers_only, tags, **chosen)


def _of_mode(benchmark: str, mode: Mode | None) -> str:
    """The benchmark's name in that mode: `mt-bench-pairwise` is `mt-bench` compared."""
    paired = benchmark.endswith(_PAIRWISE)
    if mode is Mode.pairwise and benchmark.endswith((".yaml", ".yml")):
        raise UserError(f"--mode pairwise: {benchmark} says itself how it judges; leave out --mode.")
    if mode is Mode.single and paired:
        raise UserError(f"--mode single: {benchmark} compares answers; leave out --mode, or name the benchmark graded.")
    return f"{benchmark}{_PAIRWISE}" if mode is Mode.pairwise and not paired else benchmark


def alpaca_eval(
    model: o.ModelOrNone = None,
    version: Version = None,
    benchmark: Benchmark = None,
    outputs: Outputs = None,
    answers_only: AnswersOnly = False,
    allow_missing: o.AllowMissing = False,
    data: o.Data = None,
    judge: o.Judge = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", help="Compare with a model or run of the store, not the benchmark's baseline."),
    ] = None,
    sampling: Annotated[
        SamplingBy | None,
        typer.Option("--sampling", help="greedy, or the model's own generation_config.json; default: the benchmark's."),
    ] = None,
    engine: o.Engine = "transformers",
    base_url: o.BaseUrl = None,
    judge_url: o.JudgeUrl = None,
    api_key_env: o.ApiKeyEnv = "OPENAI_API_KEY",
    concurrency: o.Concurrency = None,
    max_cost: o.MaxCost = None,
    batch: o.Batch = False,
    dry_run: o.DryRun = False,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    trust_remote_code: o.TrustRemoteCode = False,
    limit: o.Limit = None,
    seed: o.Seed = 0,
    tag: o.Tag = None,
    store: o.StoreUrl = o.DEFAULT_STORE,
    include: o.Include = None,
    output: o.OutputFormat = o.Format.table,
    quiet: o.Quiet = False,
) -> None:
    """Answer instructions and have a judge choose between each answer and a baseline's."""
    name = _versioned("alpaca-eval", version, benchmark)
    tags = o.tags(tag)
    running, judging = _options(
        *(engine, dtype, device, batch_size, trust_remote_code, include),
        *(base_url, judge_url, api_key_env, concurrency, max_cost, batch),
    )
    chosen: dict[str, Any] = {"data": o.data_folder(data)}
    chosen |= {"baselines": [baseline]} if baseline else {}
    chosen |= {"sampling": sampling.value} if sampling else {}
    if (model is None) == (outputs is None):
        raise UserError("alpaca-eval: name the model that answers by --model, or a file of its answers by --outputs.")
    if model is not None:
        if allow_missing:
            raise UserError("--allow-missing: a model answers every instruction; it is for --outputs.")
        if answers_only:
            _no_judge({"--judge": judge})
        how = (dry_run, answers_only, tags)
        run(model, name, judge, running, judging, limit, seed, store, output, quiet, *how, **chosen)
    elif outputs is not None:
        told = {"--limit": limit, "--sampling": sampling, "--dry-run": dry_run, "--answers-only": answers_only}
        if unfit := [option for option, value in told.items() if value]:
            raise UserError(f"{unfit[0]}: the answers of --outputs are there already, and all of them are judged.")
        chosen |= {"allow_missing": True} if allow_missing else {}
        _run_outputs(outputs, name, judge, judging, store, output, quiet, tags, **chosen)


def _no_judge(options: dict[str, Any]) -> None:
    for option, value in options.items():
        if value:
            raise UserError(f"{option}: --answers-only asks no judge; leave one of them out.")


def _run_outputs(
    file: Path,
    benchmark: str,
    judge: str | None,
    judging: JudgeOptions,
    store: str,
    output: o.Format,
    quiet: bool,
    tags: Sequence[str] = (),
    **chosen: Any,
) -> None:
    """As `run`, of answers in a file."""
    from zephyr_bench.benchmarks import open_benchmark
    from zephyr_bench.benchmarks.alpaca_eval import AlpacaEval
    from zephyr_bench.errors import MissingParts
    from zephyr_bench.interop.alpaca_benchmarks import find_benchmarks
    from zephyr_bench.judges.protocol import unfit_for
    from zephyr_bench.pipeline.judged_outputs import judge_outputs, read_outputs_of_one
    from zephyr_bench.pipeline.requirements import benchmark_parts, judge_parts
    from zephyr_bench.progress import Progress
    from zephyr_bench.reports.scores import render_run
    from zephyr_bench.store import Store

    include = judging.engine.include
    asked = open_benchmark(benchmark, include=include, **chosen)
    if not isinstance(asked, AlpacaEval):
        raise UserError(f"--outputs: {benchmark} is not of AlpacaEval's kind; name one such as alpaca-eval-2.")
    by = _judge(asked, judge, judging)
    choice = find_benchmarks(version=None, benchmark=benchmark, include=include, data=chosen["data"])
    plan = read_outputs_of_one(file, choice)
    if lacking := [*benchmark_parts([asked]), *judge_parts([by]), *unfit_for(by, paired=True)]:
        raise MissingParts(f"{asked.name} on {file}", lacking)
    with Store(store) as results:
        outcome = judge_outputs(results, plan, asked, by, Progress(quiet=quiet))
        o.give_tags(results, outcome.run, tags)
        typer.echo(render_run(results, outcome.run, output.value), nl=False)


def open_llm(
    model: o.Model,
    version: Version = None,
    benchmark: Benchmark = None,
    tasks: Tasks = None,
    data: o.Data = None,
    chat_template: ChatTemplate = None,
    engine: o.Engine = "transformers",
    base_url: o.BaseUrl = None,
    api_key_env: o.ApiKeyEnv = "OPENAI_API_KEY",
    concurrency: o.Concurrency = None,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    trust_remote_code: o.TrustRemoteCode = False,
    limit: o.Limit = None,
    seed: o.Seed = 0,
    tag: o.Tag = None,
    store: o.StoreUrl = o.DEFAULT_STORE,
    include: o.Include = None,
    output: o.OutputFormat = o.Format.table,
    quiet: o.Quiet = False,
) -> None:
    """Run Open LLM Leaderboard tasks, as lm-eval defines them, and average them."""
    name = _versioned("open-llm", version, benchmark)
    tags = o.tags(tag)
    running, judging = _options(
        *(engine, dtype, device, batch_size, trust_remote_code, include),
        *(base_url, None, api_key_env, concurrency),
    )
    chosen: dict[str, Any] = {"tasks": [task.strip() for task in tasks.split(",")] if tasks else []}
    chosen["data"] = o.data_folder(data)
    chosen["chat_template"] = chat_template
    run(model, name, None, running, judging, limit, seed, store, output, quiet, tags=tags, **chosen)


def _versioned(family: str, version: int | None, benchmark: str | None) -> str:
    if version is not None and benchmark is not None:
        raise UserError("--version and --benchmark both name the benchmark: give one of them.")
    return benchmark or f"{family}-{version or 1}"


def _options(
    engine: str,
    dtype: str,
    device: str,
    batch_size: str,
    trust_remote_code: bool,
    include: list[Path] | None,
    base_url: str | None = None,
    judge_url: str | None = None,
    api_key_env: str = "OPENAI_API_KEY",
    concurrency: int | None = None,
    max_cost: float | None = None,
    batch: bool = False,
) -> tuple[EngineOptions, JudgeOptions]:
    """How the model runs, and what the user says of the judge: an engine that asks no server leaves it the URL."""
    from zephyr_bench.engines.protocol import EngineOptions
    from zephyr_bench.judges.protocol import JudgeOptions

    served = engine == "openai"
    running = EngineOptions(
        engine=engine,
        dtype=dtype,
        device=device,
        batch_size=o.batch_size(batch_size),
        base_url=base_url if served else None,
        api_key_env=api_key_env,
        concurrency=concurrency,
        trust_remote_code=trust_remote_code,
        include=tuple(include or ()),
    )
    if judge_url is None and not served:
        judge_url = base_url
    return running, JudgeOptions(judge_url, concurrency, max_cost, batch, running)


def run(
    model: str,
    benchmark: str,
    judge: str | None,
    running: EngineOptions,
    judging: JudgeOptions,
    limit: int | None,
    seed: int,
    store: str,
    output: o.Format,
    quiet: bool,
    dry_run: bool = False,
    answers_only: bool = False,
    tags: Sequence[str] = (),
    **chosen: Any,
) -> None:
    """Find every part, evaluate, print the scores."""
    from zephyr_bench.benchmarks import open_benchmark
    from zephyr_bench.benchmarks.evaluate import answer_alone, evaluate
    from zephyr_bench.engines import open_engine
    from zephyr_bench.pipeline.requirements import check_parts
    from zephyr_bench.progress import Progress
    from zephyr_bench.reports.scores import render_run
    from zephyr_bench.store import Store

    asked = open_benchmark(benchmark, include=running.include, **chosen)
    by = _judge(asked, judge, judging) if asked.judged and not answers_only else None
    if dry_run:
        from zephyr_bench.pipeline.estimate import render_estimate

        typer.echo(render_estimate(asked, by, model, limit, output.value), nl=False)
        return
    check_parts(f"{asked.name} on {model}", model, running, [asked], [by] if by else [])
    engine = open_engine(model, running)
    with Store(store) as results:
        if answers_only:
            outcome = answer_alone(asked, engine, store=results, progress=Progress(quiet=quiet), limit=limit, seed=seed)
        else:
            outcome = evaluate(
                asked,
                engine,
                judge=by,
                store=results,
                progress=Progress(quiet=quiet),
                limit=limit,
                seed=seed,
            )
        o.give_tags(results, outcome.run, tags)
        typer.echo(render_run(results, outcome.run, output.value), nl=False)


def _judge(benchmark: benchmarks.Benchmark, name: str | None, judging: JudgeOptions) -> Judge:
    """The named judge, or the benchmark's own."""
    from zephyr_bench.judges import open_judge

    name = name or benchmark.default_judge
    if name is None:
        raise UserError(f"{benchmark.name} has no default judge: name one with --judge.")
    return open_judge(name, include=judging.engine.include, options=judging)
