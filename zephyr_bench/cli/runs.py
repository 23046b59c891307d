"""`zephyr-bench runs`: what the store holds, run by run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zephyr_bench.cli import options as o
from zephyr_bench.errors import UserError

if TYPE_CHECKING:
    from zephyr_bench.store import Deletion, RunInfo, Store

app = typer.Typer(no_args_is_help=False, rich_markup_mode=None)
OwnStore = Annotated[str | None, typer.Option("--store", help="Where results are kept.")]
RunId = Annotated[str, typer.Argument(help="A run's id, or the beginning of it.")]
Where = Annotated[
    str | None,
    typer.Option("--where", help='Only those that this is true of: "recipe=zephyr7b and benchmark=mt-bench".'),
]

_UNTOUCHED = "nothing was deleted"


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="runs")


@app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    where: Where = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Only with this tag; repeatable.")] = None,
    benchmark: Annotated[str | None, typer.Option("--benchmark", help="Only of this benchmark.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only of the model of this name.")] = None,
    store: o.StoreUrl = o.DEFAULT_STORE,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """List the runs of the store, newest first; show, tag or delete some.

    --where takes tests of id, recipe, stage, benchmark, model, judge, status, tag, created, seed and version, and of
    what protocol., lineage. and environment. have, as protocol.limit; and, or, not and parentheses join them. = and !=
    compare, as do < <= > >= where there is an order; ~ looks for a part or, with * and ?, a pattern. created=2026-11 is
    all of that month, none a missing value; quotes hold blanks.
    """
    if context.invoked_subcommand is not None:
        if where or tag or benchmark or model:
            raise UserError(f"runs: filters list runs; leave them out before {context.invoked_subcommand}.")
        context.obj = store
        return
    from zephyr_bench.reports.render import render_table
    from zephyr_bench.store import Store
    from zephyr_bench.store.run_info import OF_A_GATE

    with Store(o.existing_store(store)) as results:
        found = results.runs(benchmark=benchmark, model=model, tagged=tag or (), where=where)
    rows = [_summary(run) for run in found]
    if output is o.Format.json:
        typer.echo(json.dumps(rows, indent=2))
        return
    columns = ["id", "model", "benchmark", "judge", "status", "created", "tags"]
    if output is not o.Format.csv:  # for people: these are no results of the whole benchmark
        for run, row in zip(found, rows, strict=True):
            if gates := [part for part in run.part.split(", ") if part in OF_A_GATE]:
                row["status"] += f" ({', '.join(gates)})"
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
    """Show one run: its scores, protocol, versions, and how its model came to be, back to the base."""
    from zephyr_bench.reports.runs import render_shown, shown_record
    from zephyr_bench.reports.scores import render_run
    from zephyr_bench.store import Store

    with Store(o.existing_store(store or context.obj)) as results:
        info = results.run(run)
        if output is not o.Format.json:
            typer.echo(render_shown(results, info, output.value), nl=False)
            return
        scores = json.loads(render_run(results, info.id, "json"))
        whole = {**_summary(info), **shown_record(results, info), "scores": scores}
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
def untag(
    context: typer.Context,
    run: RunId,
    name: Annotated[str, typer.Argument(help="Such as nightly.")],
    store: OwnStore = None,
) -> None:
    """Take a tag away from a run."""
    from zephyr_bench.store import Store

    with Store(o.existing_store(store or context.obj)) as results:
        results.untag(results.run(run).id, name)


@app.command()
def delete(
    context: typer.Context,
    runs: Annotated[list[str] | None, typer.Argument(help="Ids of runs, or the beginnings of them.")] = None,
    where: Where = None,
    dependents: Annotated[
        bool,
        typer.Option("--dependents", help="Also runs that compare with their answers, or grade them again."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask; dependents go only by --dependents.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also runs that are being written: such a writer, if it lives, fails and stops."),
    ] = False,
    store: OwnStore = None,
) -> None:
    """Delete runs with their scores, and the answers and judgments that no other run uses.

    Says first what goes, asks whether what depends on it goes, too, and asks before it deletes.
    """
    from zephyr_bench.reports.runs import NAMED, deletion_told
    from zephyr_bench.store import Store

    if (not runs) == (where is None):
        raise UserError("runs delete: name runs, or say by --where which.")
    with Store(o.existing_store(store or context.obj)) as results:
        found = [results.run(id).id for id in runs or ()] or [run.id for run in results.runs(where=where)]
        if not found:
            typer.echo("there is no such run; nothing was deleted", err=True)
            return

        def planned(chosen: Sequence[str]) -> Deletion:
            plan = results.deletion(chosen, force=force)
            for line in deletion_told(plan, [results.run(id) for id in plan.runs[:NAMED]]):
                typer.echo(line, err=True)
            return plan

        chosen = _with_dependents(results, found, force=force) if dependents else list(dict.fromkeys(found))
        plan = planned(chosen)
        if plan.dependents and not yes and o.agreed("Delete what depends on them, too?", _UNTOUCHED):
            chosen = _with_dependents(results, chosen, force=force)
            planned(chosen)
        what = "this run" if len(chosen) == 1 else f"these {len(chosen)} runs"
        if not yes and not o.agreed(f"Delete {what}?", _UNTOUCHED):
            raise UserError(f"{_UNTOUCHED}.")
        results.delete(*chosen, force=force)


def _with_dependents(store: Store, runs: Sequence[str], *, force: bool) -> list[str]:
    """And who depends on those, and so on."""
    chosen = list(dict.fromkeys(runs))
    while found := [dependent.run for dependent in store.deletion(chosen, force=force).dependents]:
        chosen += found
    return chosen
