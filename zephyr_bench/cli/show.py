"""`zephyr-bench leaderboard` and `compare`: what the store's scores say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zephyr_bench.cli import options as o

_REFERENCE = "A run's id, TAG@latest, a model's name, or a baseline file (.json, or its name in reports/baselines/)."


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
    base: Annotated[str, typer.Argument(help=_REFERENCE)],
    candidate: Annotated[str, typer.Argument(help=_REFERENCE)],
    benchmark: Annotated[str | None, typer.Option("--benchmark", help="Only this one.")] = None,
    allow_different: Annotated[
        list[str] | None,
        typer.Option("--allow-different", metavar="FIELD", help="Compare though this differs; repeatable."),
    ] = None,
    moved: Annotated[int, typer.Option("--moved", min=0, help="Questions to show that moved most.")] = 5,
    store: o.StoreUrl = o.DEFAULT_STORE,
    include: o.Include = None,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """Compare two models, runs or baseline files, question by question, with paired 95 % intervals.

    Runs that were made or graded otherwise are refused, and the field named. One of several checkpoints, trained with
    other seeds, is written as RUN1,RUN2,RUN3.
    """
    from zephyr_bench.reports.compare import render_comparison
    from zephyr_bench.reports.references import names_file
    from zephyr_bench.store import Store

    folders = tuple(include or ())

    def text(results: Store | None) -> str:
        return render_comparison(
            results,
            base,
            candidate,
            format=output.value,
            benchmark=benchmark,
            allow=tuple(allow_different or ()),
            moved=moved,
            include=folders,
        )

    if not o.store_exists(store) and any(names_file(word, folders) for word in (base, candidate)):
        typer.echo(text(None), nl=False)
        return
    with Store(o.existing_store(store)) as results:
        typer.echo(text(results), nl=False)
