"""`zephyr-bench store`: backups of the store, and its tables' version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from zephyr_bench.cli import options as o
from zephyr_bench.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Back the store up, merge another's results into it, or take it back to an older version.",
)
FORCE = "Also where a run is being written: such a writer, if it lives, fails at its next write and loses it."
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="store")


@app.command()
def dump(
    file: Annotated[Path, typer.Argument(help="What to write, such as backup.jsonl.gz; replaced once it is whole.")],
    store: o.StoreUrl = o.DEFAULT_STORE,
    output: o.OutputFormat = o.Format.table,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is no dump.")] = False,
) -> None:
    """Write all that the store holds into one compressed file, which `store load` reads into any database."""
    from zephyr_bench.store import Store

    with Store(o.existing_store(store)) as results:
        made = results.dump(file, force=force)
    _print(("table", "rows"), [(table, count) for table, count in made.rows.items()], output)
    typer.echo(f"{made.path}: {made.path.stat().st_size / 1e6:.1f} MB, sha256 of the content {made.sha256}", err=True)


@app.command()
def load(
    file: Annotated[Path, typer.Argument(help="What `store dump` wrote.")],
    store: o.StoreUrl = o.DEFAULT_STORE,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """Add what a dump holds to the store, which is made where there is none; what is there stays."""
    from zephyr_bench.store import Store, check_dump, check_revision

    found = check_dump(file)
    check_revision(found)  # before a store is made for nothing
    with Store(store) as results:
        loaded = results.load(found)
    rows = [(table, of.added, of.there) for table, of in loaded.items()]
    _print(("table", "added", "there"), rows, output)


@app.command()
def migrate(
    to: Annotated[str, typer.Option("--to", help="The version of the tables, such as 0003.")],
    store: o.StoreUrl = o.DEFAULT_STORE,
    yes: Yes = False,
    force: Annotated[bool, typer.Option("--force", help=FORCE)] = False,
) -> None:
    """Take the store's tables back to those of an older version. A newer version brings them up by opening them."""
    from zephyr_bench.store import Store

    with Store(o.existing_store(store)) as results:
        lost = results.lost_by_downgrade(to)
        drops = f"drops {_listed(lost)}" if lost else "drops nothing that can't be made again"
        unchanged = f"store {results.place} was not changed"
        if "trainings" in lost:
            typer.echo("a training that is being written goes on, and what it sees is kept here no more", err=True)
        if not yes and not o.agreed(f"Take store {results.place} back to revision {to}, which {drops}?", unchanged):
            raise UserError(f"{unchanged}.")
        results.downgrade(to, force=force)
        without = f", without {_listed(lost)}" if lost else ""
        typer.echo(
            f"store {results.place} is of revision {to} now{without}; whatever this version does with it brings it up "
            "again.",
            err=True,
        )


def _listed(lost: Mapping[str, int]) -> str:
    """'3 trainings, 1,200 values seen in training'."""
    return ", ".join(f"{count:,} {what}" for what, count in lost.items())


def _print(columns: Sequence[str], rows: Sequence[tuple[str, *tuple[int, ...]]], output: o.Format) -> None:
    from zephyr_bench.reports.render import render_records, render_table

    if output in (o.Format.json, o.Format.csv):
        records = [dict(zip(columns, row, strict=True)) for row in rows]
        typer.echo(render_records(records, columns, output.value), nl=False)
        return
    cells = [[table, *(f"{count:,}" for count in counts)] for table, *counts in rows]
    typer.echo(render_table(columns, cells, output.value, numeric=range(1, len(columns))), nl=False)
