"""`zephyr-bench runs`: what the store holds, run by run."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zephyr_bench.cli import options as o
from zephyr_bench.errors import UserError
from zephyr_bench.escaping import visible

if TYPE_CHECKING:
    from zephyr_bench.store import RunInfo

app = typer.Typer(
    no_args_is_help=False,
    rich_markup_mode=None,
    help="List the runs of the store, newest first; show, tag or delete one.",
)
OwnStore = Annotated[str | None, typer.Option("--store", help="Where results are kept.")]
RunId = Annotated[str, typer.Argument(help="A run's id, or the beginning of it.")]


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="runs")


@app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    benchmark: Annotated[str | None, typer.Option("--benchmark", help="Only of this benchmark.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only of the model of this name.")] = None,
    store: o.StoreUrl = o.DEFAULT_STORE,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """List the runs of the store, newest first; show, tag or delete one."""
    if context.invoked_subcommand is not None:
        context.obj = store
        return
    from zephyr_bench.reports.render import render_table
    from zephyr_bench.store import Store

    with Store(o.existing_store(store)) as results:
        rows = [_summary(run) for run in results.runs(benchmark=benchmark, model=model)]
    if output is o.Format.json:
        typer.echo(json.dumps(rows, indent=2))
        return
    columns = ["id", "model", "benchmark", "judge", "status", "created", "tags"]
    cells = [[", ".join(row[c]) if c == "tags" else row[c] or "" for c in columns] for row in rows]
    typer.echo(render_table(columns, cells, output.value), nl=False)


def _summary(run: RunInfo) -> dict[str, Any]:
    return {
        "id": run.id,
        "model": run.model,
        "benchmark": run.benchmark,
        "judge": run.judge,
        "status": run.status,
        "created": run.created,
        "tags": list(run.tags),
    }


@app.command()
def show(
    context: typer.Context,
    run: RunId,
    store: OwnStore = None,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """Show one run: its scores, protocol, versions and the model's lineage."""
    from zephyr_bench.reports.scores import judge_noise, render_run
    from zephyr_bench.store import Store

    with Store(o.existing_store(store or context.obj)) as results:
        info = results.run(run)
        if output is not o.Format.json:
            typer.echo(render_run(results, info.id, output.value), nl=False)
            return
        scores = results.scores_of([info.id]).get(info.id, [])
        noise = judge_noise(results.samples_of(info.id), scores)
        lineage = dict(results.model(info.model_fingerprint).lineage)
        training = results.training(lineage.get("stage_fingerprint") or "")
        whole = {
            **_summary(info),
            "seed": info.seed,
            "protocol": dict(info.protocol),
            "environment": dict(info.environment),
            "model_fingerprint": info.model_fingerprint,
            "lineage": lineage,
            "training": training and dict(training.values),
            "scores": json.loads(render_run(results, info.id, "json")),
            "judge_noise": None if noise is None else asdict(noise),
        }
    typer.echo(json.dumps(whole, indent=2))


@app.command()
def tag(
    context: typer.Context,
    run: RunId,
    name: Annotated[str, typer.Argument(help="Such as nightly.")],
    store: OwnStore = None,
) -> None:
    """Give a run a tag."""
    from zephyr_bench.store import Store

    with Store(o.existing_store(store or context.obj)) as results:
        results.tag(results.run(run).id, name)


@app.command()
def delete(
    context: typer.Context,
    run: RunId,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    store: OwnStore = None,
) -> None:
    """Delete a run with its scores, and the answers and judgments that no other run uses."""
    from zephyr_bench.store import Store

    with Store(o.existing_store(store or context.obj)) as results:
        info = results.run(run)
        what = f"run {info.id} ({visible(info.model)} on {info.benchmark})"
        if not yes and not typer.confirm(f"Delete {what}?", err=True):
            raise UserError(f"{what} was not deleted.")
        results.delete(info.id)
