"""`zephyr-bench reproduce`: a recipe's models against what others published of them."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from zephyr_bench.cli import options as o
from zephyr_bench.cli.train import RecipeName
from zephyr_bench.errors import UserError


def register(app: typer.Typer) -> None:
    app.command("reproduce")(reproduce)


def reproduce(
    recipe: RecipeName,
    margin: Annotated[
        list[str] | None,
        typer.Option(
            "--margin",
            metavar="BENCHMARK[:METRIC]=M",
            help="How near is near enough, in the metric's units; default: the benchmark's own. Repeatable.",
        ),
    ] = None,
    store: o.StoreUrl = o.DEFAULT_STORE,
    include: o.Include = None,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """Hold a recipe's newest runs against published figures: reproduced, not reproduced, or can't tell.

    An equivalence test (TOST) of ours against each figure in reports/published whose model the recipe stands for.
    """
    from zephyr_bench.recipe import load_recipe
    from zephyr_bench.reports.reproduce import nothing_published, reproduction
    from zephyr_bench.reports.reproduction_table import render_reproduction
    from zephyr_bench.store import Store

    folders = tuple(include or ())
    margins = dict(_margin(text) for text in margin or ())
    loaded = load_recipe(recipe, folders)
    # published figures need no store of one's own
    with Store(store if o.store_exists(store) else "sqlite:///:memory:") as results:
        rows = reproduction(results, loaded, margins=margins, include=folders)
        if not rows:
            typer.echo(nothing_published(loaded), err=output in (o.Format.json, o.Format.csv))
        if rows or output in (o.Format.json, o.Format.csv):
            typer.echo(render_reproduction(rows, loaded, output.value), nl=False)


def _margin(text: str) -> tuple[str, float]:
    name, equals, value = text.rpartition("=")
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not name or not equals or not math.isfinite(found) or found <= 0:
        raise UserError(f"--margin {text}: expected BENCHMARK=M or BENCHMARK:METRIC=M with M above 0, as mt-bench=0.1.")
    return name, found
