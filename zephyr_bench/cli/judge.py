"""`zephyr-bench judge`: the answers of a stored run, graded by another judge."""

from __future__ import annotations

from typing import Annotated

import typer

from zephyr_bench.cli import options as o


def register(app: typer.Typer) -> None:
    app.command("judge")(judge)


def judge(
    run: Annotated[str, typer.Option("--run", help="The run's id, or the beginning of it.")],
    by: Annotated[str, typer.Option("--judge", help="A judge's name or YAML file.")],
    base_url: Annotated[str | None, typer.Option("--base-url", help="Of the judge's server.")] = None,
    allow_missing: o.AllowMissing = False,
    data: o.Data = None,
    concurrency: o.Concurrency = None,
    max_cost: o.MaxCost = None,
    batch: o.Batch = False,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    store: o.StoreUrl = o.DEFAULT_STORE,
    include: o.Include = None,
    output: o.OutputFormat = o.Format.table,
    quiet: o.Quiet = False,
) -> None:
    """Grade a run's stored answers with another judge; the result is a run of its own."""
    from zephyr_bench.benchmarks import open_benchmark
    from zephyr_bench.benchmarks.rejudge import judge_run
    from zephyr_bench.engines.protocol import EngineOptions
    from zephyr_bench.judges import JudgeOptions, open_judge
    from zephyr_bench.progress import Progress
    from zephyr_bench.reports.scores import render_run
    from zephyr_bench.store import Store

    folders = tuple(include or ())
    running = EngineOptions(dtype=dtype, device=device, batch_size=o.batch_size(batch_size), include=folders)
    judging = open_judge(by, include=folders, options=JudgeOptions(base_url, concurrency, max_cost, batch, running))
    with Store(o.existing_store(store)) as results:
        chosen = {"allow_missing": True} if allow_missing else {}
        name = results.run(run).benchmark
        benchmark = open_benchmark(name, include=folders, data=o.data_folder(data), **chosen)
        outcome = judge_run(results, run, benchmark, judging, Progress(quiet=quiet))
        typer.echo(render_run(results, outcome.run, output.value), nl=False)
