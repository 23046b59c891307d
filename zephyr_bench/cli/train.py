"""`zephyr-bench train` and `train-and-eval`: recipes."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zephyr_bench.cli import options as o

if TYPE_CHECKING:
    from zephyr_bench.engines.protocol import EngineOptions

RecipeName = Annotated[str, typer.Option("--recipe", "-r", help="A recipe's name or YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change one key of the recipe: ddpo.beta=0.05; repeatable.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Where checkpoints go; default: checkpoints/RECIPE.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")]


class Stage(StrEnum):
    dsft = "dsft"
    dsft2 = "dsft2"
    feedback = "feedback"
    ddpo = "ddpo"


def register(app: typer.Typer) -> None:
    app.command("train-and-eval")(train_and_eval)
    app.command("train")(train)


def train_and_eval(
    recipe: RecipeName,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    output_dir: Output = None,
    leaderboard: Annotated[
        Path | None,
        typer.Option("--leaderboard", help="Where the markdown leaderboard goes; default: beside the checkpoints."),
    ] = None,
    limit: o.Limit = None,
    data: o.Data = None,
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    tag: o.Tag = None,
    store: o.StoreUrl = o.DEFAULT_STORE,
    include: o.Include = None,
    output: o.OutputFormat = o.Format.table,
    quiet: o.Quiet = False,
) -> None:
    """Train what a recipe says, evaluate every checkpoint, print the leaderboard. Finished work is not redone."""
    from zephyr_bench.pipeline.plan import make_plan, render_plan
    from zephyr_bench.pipeline.train_and_eval import prepare
    from zephyr_bench.pipeline.train_and_eval import train_and_eval as carry_out
    from zephyr_bench.progress import Progress
    from zephyr_bench.recipe import load_recipe
    from zephyr_bench.reports.recipe_report import render_recipe_report
    from zephyr_bench.store import Store
    from zephyr_bench.written_file import write_text

    tags = o.tags(tag)
    options = _options(device, batch_size, include)
    folder = o.data_folder(data)
    loaded = load_recipe(recipe, options.include, overrides or ())
    out = output_dir or Path("checkpoints") / loaded.name
    if dry_run:
        plan = make_plan(loaded, options, out=out, store=store, limit=limit, data=folder)
        typer.echo(json.dumps(plan.as_json(), indent=2) if output is o.Format.json else render_plan(plan), nl=False)
        return
    progress = Progress(quiet=quiet)
    parts = prepare(loaded, options, data=folder)
    with Store(store) as results:
        report = carry_out(loaded, parts, options, store=results, out=out, limit=limit, progress=progress, data=folder)
        for run in (run for checkpoint in report.evaluated for run in checkpoint.runs.values()):
            o.give_tags(results, run, tags)
        target = leaderboard or out / "leaderboard.md"
        write_text(target, render_recipe_report(results, report, "markdown"))
        typer.echo(render_recipe_report(results, report, output.value), nl=False)
    progress.say(f"leaderboard written to {target}")


def train(
    recipe: RecipeName,
    stage: Annotated[
        Stage | None,
        typer.Option("--stage", help="Stop after this stage; those before it are trained unless they are there."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Keep finished stages and restart points, or train afresh.")
    ] = True,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    output_dir: Output = None,
    data: o.Data = None,
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    store: o.StoreUrl = o.DEFAULT_STORE,
    include: o.Include = None,
    quiet: o.Quiet = False,
) -> None:
    """Train a recipe's stages and print where the checkpoints are. Finished stages are not redone."""
    from zephyr_bench.judges import open_judge
    from zephyr_bench.pipeline.plan import make_plan, open_parts, render_plan
    from zephyr_bench.pipeline.requirements import check_recipe
    from zephyr_bench.pipeline.training import train_stages
    from zephyr_bench.progress import Progress
    from zephyr_bench.recipe import load_recipe
    from zephyr_bench.store import Store

    options = _options(device, batch_size, include)
    folder = o.data_folder(data)
    whole = load_recipe(recipe, options.include, overrides or ())
    loaded = whole.up_to(stage and stage.value)
    out = output_dir or Path("checkpoints") / loaded.name
    if dry_run:
        typer.echo(render_plan(make_plan(loaded, options, out=out, store=store)), nl=False)
        return
    judges = [open_judge(loaded.feedback.judge, include=options.include)] if loaded.feedback else []
    check_recipe(loaded, options, [], judges)
    parts, _ = open_parts(whole, options, data=folder)
    with Store(store) as results:
        trained = train_stages(
            loaded,
            options,
            store=results,
            out=out,
            progress=Progress(quiet=quiet),
            resume=resume,
            benchmarks=[benchmark for _, benchmark, _ in parts],
            data_folder=folder,
        )
    for name, model in trained.models.items():
        if name != "start":
            typer.echo(f"{name}\t{model.location}")


def _options(device: str, batch_size: str, include: list[Path] | None) -> EngineOptions:
    from zephyr_bench.engines.protocol import EngineOptions

    return EngineOptions(device=device, batch_size=o.batch_size(batch_size), include=tuple(include or ()))
