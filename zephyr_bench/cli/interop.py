"""`zephyr-bench import` and `export`: other harnesses' files become runs, and runs their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zephyr_bench.cli import options as o
from zephyr_bench.errors import UserError

if TYPE_CHECKING:
    from zephyr_bench.interop.imported_runs import Imported
    from zephyr_bench.interop.lm_eval_import import ImportedScores
    from zephyr_bench.store import Store

importing = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Read other harnesses' results into the store, as runs."
)
exporting = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Write runs as other harnesses' files, or as a baseline."
)
Runs = Annotated[list[str], typer.Argument(metavar="RUNS", help="Ids of runs, or the beginnings of them.")]
Folder = Annotated[Path, typer.Option("--output", "-o", help="The folder to write to; it is made.")]
_COLUMNS = ("run", "model", "benchmark", "judge", "answers", "judgments", "without_score", "not_judged", "state")
_SCORE_COLUMNS = (
    *("run", "model", "benchmark", "tasks", "samples", "without_score"),
    *("missing", "left_out", "state"),
)


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
    from zephyr_bench.interop.fastchat_import import read_fastchat
    from zephyr_bench.interop.imported_runs import add_to_store
    from zephyr_bench.reports.kept_terms import keep_terms
    from zephyr_bench.store import Store

    asked = open_benchmark(benchmark, include=tuple(include or ()))
    if not isinstance(asked, MtBench):
        raise UserError(f"--benchmark {benchmark}: FastChat's files are of MT-Bench's kind; name one such as mt-bench.")
    plan = read_fastchat(files, asked)
    with Store(store) as results:
        done = add_to_store(results, plan)
        keep_terms(results, [run.run for run in done])
    typer.echo(_told(done, output), nl=False)


@importing.command("alpaca-eval")
def import_alpaca_eval(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILES", help="annotations.json and model_outputs.json; JSON lines, .gz too."),
    ],
    version: Annotated[
        int | None, typer.Option("--version", min=1, max=2, help="Refuse a file of another baseline or judge.")
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option("--benchmark", help="Whose instructions they are; default: told by the baseline.")
    ] = None,
    data: o.Data = None,
    store: o.StoreUrl = o.DEFAULT_STORE,
    include: o.Include = None,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """Read alpaca_eval's files (annotations.json, model_outputs.json) into the store.

    Each model, judge and baseline becomes a run; outputs alone become one that `zephyr-bench judge` can judge. What a
    file is and of whom, its content says.
    """
    from zephyr_bench.interop.alpaca_benchmarks import find_benchmarks
    from zephyr_bench.interop.alpaca_import import read_alpaca_eval
    from zephyr_bench.interop.imported_runs import add_to_store
    from zephyr_bench.reports.kept_terms import keep_terms
    from zephyr_bench.store import Store

    folders, found = tuple(include or ()), o.data_folder(data)
    plan = read_alpaca_eval(files, find_benchmarks(version=version, benchmark=benchmark, include=folders, data=found))
    with Store(store) as results:
        done = add_to_store(results, plan)
        keep_terms(results, [run.run for run in done])
    typer.echo(_told(done, output), nl=False)


@importing.command("lm-eval")
def import_lm_eval(
    files: Annotated[list[Path], typer.Argument(metavar="FILES", help="results_*.json and samples_*.jsonl; .gz too.")],
    benchmark: Annotated[
        str | None, typer.Option("--benchmark", help="Whose tasks they are; default: told by tasks and shots.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="The model's name where the files tell none; default of samples: their folder's."),
    ] = None,
    store: o.StoreUrl = o.DEFAULT_STORE,
    include: o.Include = None,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """Read lm-eval's files (results and samples, of 0.3 and 0.4) into the store.

    Results of one model, asked alike, become a run; samples join the results that they give the numbers of. There is
    an average only of all the benchmark's tasks.
    """
    from zephyr_bench.interop.lm_eval_import import store_runs
    from zephyr_bench.interop.lm_eval_plan import plan_runs
    from zephyr_bench.interop.lm_eval_suites import find_suites
    from zephyr_bench.reports.kept_terms import keep_terms
    from zephyr_bench.store import Store

    planned = plan_runs(files, find_suites(benchmark=benchmark, include=tuple(include or ())), model=model)
    with Store(store) as results:
        done = store_runs(results, planned)
        keep_terms(results, [run.run for run in done])
    typer.echo(_scores_told(done, output), nl=False)


def _scores_told(done: list[ImportedScores], output: o.Format) -> str:
    from zephyr_bench.reports.render import render_records, render_table

    names = [run for run in done if run.missing], [run for run in done if run.left_out]
    records = [
        {
            **asdict(run),
            "missing": ", ".join(run.missing),
            "left_out": ", ".join(run.left_out),
            "state": "new" if run.new else "already there",
        }
        for run in done
    ]
    if output in (o.Format.json, o.Format.csv):
        return render_records(records, _SCORE_COLUMNS, output.value)
    notes = [f"run {run.run}: no average, for it lacks {', '.join(run.missing)}" for run in names[0]]
    notes += [f"run {run.run}: left out {', '.join(run.left_out)}" for run in names[1]]
    columns = [column for column in _SCORE_COLUMNS if column not in ("missing", "left_out")]
    heads = [column.replace("_", " ") for column in columns]
    cells = [[str(record[name]) for name in columns] for record in records]
    return render_table(heads, cells, output.value, numeric=range(3, 6), notes=notes)


def _told(done: list[Imported], output: o.Format) -> str:
    from zephyr_bench.reports.render import render_records, render_table

    records = [{**asdict(run), "state": run.state} for run in done]
    if output in (o.Format.json, o.Format.csv):
        return render_records(records, _COLUMNS, output.value)
    heads = [column.replace("_", " ") for column in _COLUMNS]
    cells = [["-" if record[name] is None else str(record[name]) for name in _COLUMNS] for record in records]
    return render_table(heads, cells, output.value, numeric=range(4, 8))


@exporting.command("fastchat")
def to_fastchat(
    runs: Runs,
    folder: Folder,
    store: o.StoreUrl = o.DEFAULT_STORE,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """Write runs as FastChat's files: question.jsonl, model_answer/ and model_judgment/."""
    from zephyr_bench.interop.fastchat_export import export_fastchat

    _export(export_fastchat, runs, folder, store, output)


@exporting.command("alpaca-eval")
def to_alpaca_eval(
    runs: Runs,
    folder: Folder,
    store: o.StoreUrl = o.DEFAULT_STORE,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """Write runs as alpaca_eval's files: model_outputs, annotations and the baseline's outputs."""
    from zephyr_bench.interop.alpaca_export import export_alpaca_eval

    _export(export_alpaca_eval, runs, folder, store, output)


@exporting.command("lm-eval")
def to_lm_eval(
    runs: Runs,
    folder: Folder,
    store: o.StoreUrl = o.DEFAULT_STORE,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """Write runs of lm-eval's tasks as its files: MODEL/results_TIME.json and MODEL/samples_TASK_TIME.jsonl."""
    from zephyr_bench.interop.lm_eval_export import export_lm_eval

    _export(export_lm_eval, runs, folder, store, output)


@exporting.command("baseline")
def to_baseline(
    references: Annotated[
        list[str], typer.Argument(metavar="REFERENCES", help="Run ids, TAG@latest or models: the runs to keep.")
    ],
    file: Annotated[Path, typer.Option("--output", "-o", help="The file, such as reports/baselines/release.json.")],
    anchors: Annotated[
        int, typer.Option("--anchors", min=0, help="Questions of each run to keep with answers and grades.")
    ] = 0,
    benchmark: Annotated[str | None, typer.Option("--benchmark", help="Only runs of this one.")] = None,
    store: o.StoreUrl = o.DEFAULT_STORE,
    output: o.OutputFormat = o.Format.table,
) -> None:
    """Write runs as a baseline file, which `compare` and `gate` read without a store.

    It holds scores, each question's values and a fingerprint of each answer; by its anchors the gate can tell whether
    the judge itself moved since. The same runs give the same bytes.
    """
    from zephyr_bench.reports.baselines import write_baseline
    from zephyr_bench.reports.references import find, runs_of
    from zephyr_bench.reports.render import render_records, render_table
    from zephyr_bench.store import Store

    with Store(o.existing_store(store)) as results:
        runs = runs_of([find(results, word, benchmark=benchmark) for word in references])  # seeds together
        written = {"file": str(file), **write_baseline(results, runs, file, anchors)}
    if output in (o.Format.json, o.Format.csv):
        typer.echo(render_records([written], tuple(written), output.value), nl=False)
        return
    cells = [[str(value) for value in written.values()]]
    typer.echo(render_table(tuple(written), cells, output.value, numeric=range(1, len(written))), nl=False)


def _export(
    write: Callable[[Store, Sequence[str], Path], Mapping[Path, int]],
    runs: Sequence[str],
    folder: Path,
    store: str,
    output: o.Format,
) -> None:
    """Write the files, and tell which and how many rows each has."""
    from zephyr_bench.reports.render import render_records, render_table
    from zephyr_bench.store import Store

    with Store(o.existing_store(store)) as results:
        written = write(results, runs, folder)
    if output in (o.Format.json, o.Format.csv):
        records = [{"file": str(path), "rows": rows} for path, rows in written.items()]
        typer.echo(render_records(records, ("file", "rows"), output.value), nl=False)
        return
    cells = [[str(path), str(rows)] for path, rows in written.items()]
    typer.echo(render_table(("file", "rows"), cells, output.value, numeric=[1]), nl=False)
