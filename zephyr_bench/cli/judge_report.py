"""`zephyr-bench judge-report`: how far the judges can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zephyr_bench.cli import options as o


def register(app: typer.Typer) -> None:
    app.command("judge-report")(judge_report)


def judge_report(
    judge: Annotated[str | None, typer.Option("--judge", help="Only this one, by its name in the store.")] = None,
    humans: Annotated[
        Path | None,
        typer.Option(
            "--humans",
            metavar="FILE",
            help="Human votes to compare with: JSON lines as of lmsys/mt_bench_human_judgments.",
        ),
    ] = None,
    benchmark: Annotated[str | None, typer.Option("--benchmark", help="Only judgments of this one.")] = None,
    store: o.StoreUrl = o.DEFAULT_STORE,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """Tell how far judges can be trusted: failures, position and length bias, consistency, agreement."""
    from zephyr_bench.reports.judge_report import render_judges
    from zephyr_bench.store import Store

    with Store(o.existing_store(store)) as results:
        text = render_judges(results, format=output.value, judge=judge, humans=humans, benchmark=benchmark)
    typer.echo(text, nl=False)
