"""`zephyr-bench judge`: the answers of a stored run, graded by another judge."""

from __future__ import annotations

from typing import Annotated

import typer

from zephyr_bench.cli import options as o
from zephyr_bench.errors import UserError


def register(app: typer.Typer) -> None:
    app.command("judge")(judge)


def judge(
    run: Annotated[
        list[str], typer.Option("--run", help="The run's id, or the beginning of it; with --overlap repeatable.")
    ],
    by: Annotated[str, typer.Option("--judge", help="A judge's name or YAML file.")],
    overlap: Annotated[
        bool, typer.Option("--overlap", help="Beside the verdicts of the run's own judge: both scales, and the line.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only N questions, spread over the categories.")
    ] = None,
    base_url: Annotated[str | None, typer.Option("--base-url", help="Of the judge's server.")] = None,
    allow_missing: o.AllowMissing = False,
    data: o.Data = None,
    concurrency: o.Concurrency = None,
    max_cost: o.MaxCost = None,
    batch: o.Batch = False,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    tag: o.Tag = None,
    store: o.StoreUrl = o.DEFAULT_STORE,
    include: o.Include = None,
    output: o.OutputFormat = o.Format.table,
    quiet: o.Quiet = False,
) -> None:
    """Grade a run's stored answers with another judge; the result is a run of its own.

    With --overlap it prints both judges' scales over the same answers, and what the new one's means are on the old's.
    """
    from zephyr_bench.benchmarks import open_benchmark
    from zephyr_bench.benchmarks.rejudge import judge_run
    from zephyr_bench.engines.protocol import EngineOptions
    from zephyr_bench.judges import JudgeOptions, open_judge
    from zephyr_bench.pipeline.overlap import judge_overlap
    from zephyr_bench.progress import Progress
    from zephyr_bench.reports.overlap import render_overlap
    from zephyr_bench.reports.scores import render_run
    from zephyr_bench.store import Store

    tags = o.tags(tag)
    if len(run) > 1 and not overlap:
        raise UserError("--run: one run is judged at a time; several are for --overlap.")
    folders = tuple(include or ())
    running = EngineOptions(dtype=dtype, device=device, batch_size=o.batch_size(batch_size), include=folders)
    judging = open_judge(by, include=folders, options=JudgeOptions(base_url, concurrency, max_cost, batch, running))
    with Store(o.existing_store(store)) as results:
        chosen = {"allow_missing": True} if allow_missing else {}
        name = results.run(run[0]).benchmark
        benchmark = open_benchmark(name, include=folders, data=o.data_folder(data), **chosen)
        progress = Progress(quiet=quiet)
        if overlap:
            both = judge_overlap(results, run, benchmark, judging, progress, limit=limit)
            for judged in both.judged:
                o.give_tags(results, judged.new_run, tags)
            typer.echo(render_overlap(both, output.value), nl=False)
            return
        outcome = judge_run(results, run[0], benchmark, judging, progress, limit=limit)
        o.give_tags(results, outcome.run, tags)
        typer.echo(render_run(results, outcome.run, output.value), nl=False)
