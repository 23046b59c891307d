"""`zephyr-bench fetch`: a benchmark's data from the hub into a folder, for machines without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zephyr_bench.cli import options as o
from zephyr_bench.errors import UserError, did_you_mean


def register(app: typer.Typer) -> None:
    app.command("fetch")(fetch)


def fetch(
    benchmark: Annotated[str, typer.Argument(help="Its name, or its family's: alpaca-eval, open-llm.")],
    folder: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to; --data takes it then.")],
    include: o.Include = None,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """Bring a benchmark's data sets from the hub into a folder in the hub's layout, for --data.

    One that can't be had (a gated one needs a login) does not keep the others from coming; exit 2 then, at the end.
    """
    from zephyr_bench import hub_file
    from zephyr_bench.hub import reachable
    from zephyr_bench.reports.render import render_records, render_table

    wanted = _hub_files(benchmark, tuple(include or ()))
    if not reachable():
        raise UserError(
            f"the hub does not answer from here; run `zephyr-bench fetch {benchmark} -o DIR` where it does, and bring "
            f"DIR here."
        )
    written: list[Path] = []
    failed: list[str] = []
    for repo, path in wanted:
        try:
            written += hub_file.fetch(repo, path, folder)
        except UserError as error:
            failed.append(str(error))
    records = [{"file": str(place), "bytes": place.stat().st_size} for place in written]
    if output in (o.Format.json, o.Format.csv):
        typer.echo(render_records(records, ("file", "bytes"), output.value), nl=False)
    elif records:
        cells = [[str(record["file"]), f"{record['bytes']:,}"] for record in records]
        typer.echo(render_table(("file", "bytes"), cells, output.value, numeric=[1]), nl=False)
    if failed:
        raise UserError(" ".join(failed))


def _hub_files(name: str, include: tuple[Path, ...]) -> list[tuple[str, str | None]]:
    """(data set, file or None for all of it) of the benchmark, or of the versions of a family. Raises UserError."""
    from zephyr_bench import catalogue
    from zephyr_bench.benchmarks import open_benchmark
    from zephyr_bench.benchmarks.protocol import OnHub

    known = catalogue.entries("benchmark", include)
    versions = [other for other in known if other.rpartition("-")[0] == name and other.rpartition("-")[2].isdigit()]
    if name not in known and not versions and not name.endswith((".yaml", ".yml")):
        families = {other.rpartition("-")[0] for other in known if other.rpartition("-")[2].isdigit()}
        raise UserError(f"unknown benchmark '{name}'.{did_you_mean(name, {*known, *families})}")
    opened = [open_benchmark(one, include=include) for one in versions or [name]]
    found = dict.fromkeys(file for one in opened if isinstance(one, OnHub) for file in one.hub_files())
    if not found:
        raise UserError(f"{name} has nothing on the hub: its questions come with zephyr-bench or a package.")
    return list(found)
