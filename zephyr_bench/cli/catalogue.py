"""`zephyr-bench list`: what the catalogue holds."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from zephyr_bench.cli.options import Format, Include, OutputFormat


class Kind(StrEnum):
    recipes = "recipes"
    judges = "judges"
    benchmarks = "benchmarks"
    engines = "engines"
    models = "models"


def register(app: typer.Typer) -> None:
    app.command("list")(list_entries)


def list_entries(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    include: Include = None,
    output: OutputFormat = Format.table,
) -> None:
    """List the recipes, judges, benchmarks, engines or packaged models that can be named."""
    rows = _rows(kind, tuple(include or ()))
    if output is Format.json:
        typer.echo(json.dumps([{"name": name, "description": text} for name, text in rows], indent=2))
        return
    from zephyr_bench.reports.render import render_table

    typer.echo(render_table(["name", "description"], rows, output.value), nl=False)


def _rows(kind: Kind, include: tuple[Path, ...]) -> list[tuple[str, str]]:
    if kind is Kind.engines:
        from zephyr_bench.engines import engine_names

        return [(name, "") for name in engine_names()]
    from zephyr_bench import catalogue
    from zephyr_bench.yaml_file import load_yaml

    entries = catalogue.entries(kind.value.removesuffix("s"), include)
    return [(name, str(load_yaml(path)[0].get("description", ""))) for name, path in entries.items()]
