"""`zephyr-bench import` and `export`: other harnesses' files become runs, and runs their files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zephyr_bench.cli import options as o
from zephyr_bench.errors import UserError

if TYPE_CHECKING:
    from zephyr_bench.interop.fastchat_import import Imported

importing = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Read other harnesses' results into the store, as runs."
)
exporting = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Write runs as other harnesses' files.")
Runs = Annotated[list[str], typer.Argument(metavar="RUNS", help="Ids of runs, or the beginnings of them.")]
_COLUMNS = ("run", "model", "benchmark", "judge", "answers", "judgments", "without_score", "not_judged", "state")


def register(parent: typer.Typer) -> None:
    parent.add_typer(importing, name="import")
    parent.add_typer(exporting, name="export")


@importing.command("fastchat")
def import_fastchat(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES", help="question, model_answer and model_judgment; .gz too.")
    ],
    benchmark: Annotated[
        str, typer.Option("--benchmark", help="Whose questions they are; pairs go to NAME-pairwise.")
    ] = "mt-bench",
    store: o.StoreUrl = o.DEFAULT_STORE,
    include: o.Include = None,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """Read FastChat's llm_judge files (question, model_answer, model_judgment) into the store.

    Each model and judge becomes a run, with the answers of the files. What a file is, its content says.
    """
    from zephyr_bench.benchmarks import open_benchmark
    from zephyr_bench.benchmarks.mt_bench import MtBench
    from zephyr_bench.interop.fastchat_import import add_to_store, read_fastchat
    from zephyr_bench.store import Store

    asked = open_benchmark(benchmark, include=tuple(include or ()))
    if not isinstance(asked, MtBench):
        raise UserError(f"--benchmark {benchmark}: FastChat's files are of MT-Bench's kind; name one such as mt-bench.")
    plan = read_fastchat(files, asked)
    with Store(store) as results:
        done = add_to_store(results, plan)
    typer.echo(_told(done, output), nl=False)


def _told(done: list[Imported], output: o.Format) -> str:
    from zephyr_bench.reports.render import render_records, render_table

    records = [{**asdict(run), "state": "new" if run.new else "already there"} for run in done]
    if output in (o.Format.json, o.Format.csv):
        return render_records(records, _COLUMNS, output.value)
    heads = [column.replace("_", " ") for column in _COLUMNS]
    cells = [["-" if record[name] is None else str(record[name]) for name in _COLUMNS] for record in records]
    return render_table(heads, cells, output.value, numeric=range(4, 8))


@exporting.command("fastchat")
def export_fastchat(
    runs: Runs,
    folder: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to; it is made.")],
    store: o.StoreUrl = o.DEFAULT_STORE,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """Write runs as FastChat's files: question.jsonl, model_answer/ and model_judgment/."""
    from zephyr_bench.interop import fastchat_export
    from zephyr_bench.reports.render import render_records, render_table
    from zephyr_bench.store import Store

    with Store(o.existing_store(store)) as results:
        written = fastchat_export.export_fastchat(results, runs, folder)
    if output in (o.Format.json, o.Format.csv):
        records = [{"file": str(path), "rows": rows} for path, rows in written.items()]
        typer.echo(render_records(records, ("file", "rows"), output.value), nl=False)
        return
    cells = [[str(path), str(rows)] for path, rows in written.items()]
    typer.echo(render_table(("file", "rows"), cells, output.value, numeric=[1]), nl=False)
