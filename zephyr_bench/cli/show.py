"""`zephyr-bench leaderboard` and `compare`: what the store's scores say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zephyr_bench.cli import options as o


def register(app: typer.Typer) -> None:
    app.command("leaderboard")(leaderboard)
    app.command("compare")(compare)


def leaderboard(
    benchmark: Annotated[str | None, typer.Option("--benchmark", help="Only this one, with all its metrics.")] = None,
    published: Annotated[bool, typer.Option("--published", help="Add published figures, marked as such.")] = False,
    output_file: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
    store: o.StoreUrl = o.DEFAULT_STORE,
    include: o.Include = None,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """Rank the models of the store by their newest complete runs."""
    from zephyr_bench.benchmarks import headlines
    from zephyr_bench.reports.leaderboard import render_leaderboard
    from zephyr_bench.store import Store
    from zephyr_bench.written_file import write_text

    folders = tuple(include or ())
    # published figures need no store of one's own
    place = "sqlite:///:memory:" if published and not o.store_exists(store) else o.existing_store(store)
    with Store(place) as results:
        text = render_leaderboard(
            results,
            headlines(folders),
            format=output.value,
            benchmark=benchmark,
            published=published,
            include=folders,
        )
    if output_file is None:
        typer.echo(text, nl=False)
    else:
        write_text(output_file, text)


def compare(
    base: Annotated[str, typer.Argument(help="A model's name, or a run's id.")],
    candidate: Annotated[str, typer.Argument(help="A model's name, or a run's id.")],
    benchmark: Annotated[str | None, typer.Option("--benchmark", help="Only this one.")] = None,
    store: o.StoreUrl = o.DEFAULT_STORE,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """Compare two models, question by question, with paired 95 % intervals."""
    from zephyr_bench.reports.compare import render_comparison
    from zephyr_bench.store import Store

    with Store(o.existing_store(store)) as results:
        typer.echo(render_comparison(results, base, candidate, format=output.value, benchmark=benchmark), nl=False)
