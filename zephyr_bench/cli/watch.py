"""`zephyr-bench watch`: a trainer's checkpoints, evaluated as they appear."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zephyr_bench.cli import options as o
from zephyr_bench.cli.train import Overrides, RecipeName
from zephyr_bench.errors import UserError


def register(app: typer.Typer) -> None:
    app.command("watch")(watch)


def watch(
    checkpoints: Annotated[
        str,
        typer.Argument(
            metavar="DIR",
            help="A folder that a trainer writes checkpoints into, or a hub id, whose newest revision is taken.",
        ),
    ],
    recipe: RecipeName,
    overrides: Overrides = None,
    once: Annotated[bool, typer.Option("--once", help="Evaluate what is there, and end.")] = False,
    newest: Annotated[bool, typer.Option("--newest", help="Only the newest checkpoint, not each.")] = False,
    every: Annotated[float, typer.Option("--every", min=1, help="Seconds from one look to the next.")] = 30,
    tag: o.Tag = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw scores against steps into this .png; a .csv goes beside it.")
    ] = None,
    limit: o.Limit = None,
    data: o.Data = None,
    engine: o.Engine = "transformers",
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    trust_remote_code: o.TrustRemoteCode = False,
    judge_url: o.JudgeUrl = None,
    concurrency: o.Concurrency = None,
    max_cost: o.MaxCost = None,
    batch: o.Batch = False,
    store: o.StoreUrl = o.DEFAULT_STORE,
    include: o.Include = None,
    output: o.OutputFormat = o.Format.table,
    quiet: o.Quiet = False,
) -> None:
    """Evaluate checkpoints on a recipe's benchmarks as a trainer writes them, each once. Ctrl-C ends it.

    A folder that is still being written is looked at again, and one that the trainer deletes meanwhile is left out.
    """
    from zephyr_bench.engines.protocol import EngineOptions
    from zephyr_bench.judges.protocol import JudgeOptions
    from zephyr_bench.pipeline.watch import Watch, prepare, render_watched
    from zephyr_bench.progress import Progress
    from zephyr_bench.recipe import load_recipe
    from zephyr_bench.store import Store

    if engine == "openai":
        raise UserError("--engine openai: a server runs its own model, not a folder's; use transformers or vllm.")
    tags = o.tags(tag)
    folder = _folder(checkpoints, once=once)
    running = EngineOptions(
        engine=engine,
        dtype=dtype,
        device=device,
        batch_size=o.batch_size(batch_size),
        trust_remote_code=trust_remote_code,
        include=tuple(include or ()),
    )
    judging = JudgeOptions(judge_url, concurrency, max_cost, batch, running)
    curve = _curve(plot)
    loaded = load_recipe(recipe, running.include, overrides or ())
    parts = prepare(loaded, running, data=o.data_folder(data), judging=judging)
    with Store(store) as results:
        watching = Watch(
            *(loaded, parts, running, results, Progress(quiet=quiet)),
            limit=limit,
            tags=tags,
            newest=newest,
            plot=curve,
        )
        try:
            if folder is None:
                watching.hub(checkpoints)
            elif once:
                watching.once(folder)
            else:
                watching.on(folder, every=every)
        finally:
            if watching.watched:
                typer.echo(render_watched(watching, output.value), nl=False)


def _folder(word: str, *, once: bool) -> Path | None:
    """None for a hub id. Raises UserError."""
    path = Path(word).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise UserError(f"watch {word}: is a file; expected the folder that a trainer writes checkpoints into.")
    if not once:
        raise UserError(f"watch {word}: no such folder; make it first, or add --once to evaluate a hub id.")
    return None


def _curve(plot: Path | None) -> Path | None:
    """Without its ending. Raises UserError."""
    from zephyr_bench.reports.curve import missing_plots

    if plot is None:
        return None
    if plot.suffix != ".png":
        raise UserError(f"--plot {plot}: expected a name that ends in .png.")
    if list(missing_plots()):
        raise UserError("--plot: needs matplotlib; run `pip install 'zephyr-bench[plots]'`.")
    return plot.with_suffix("")
