"""`zephyr-bench gate`: did the candidate get worse? The exit code says it: 0 pass, 1 regression, 3 can't tell."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zephyr_bench.cli import options as o
from zephyr_bench.cli.streams import nowhere
from zephyr_bench.errors import UserError

if TYPE_CHECKING:
    from zephyr_bench.reports.gate import GateReport
    from zephyr_bench.store import Store

SUMMARY_ENV = "GITHUB_STEP_SUMMARY"


def register(app: typer.Typer) -> None:
    app.command("gate")(gate)


def gate(
    baseline: Annotated[
        str,
        typer.Option("--baseline", help="What it must not be worse than: a run's id, TAG@latest, a model or a file."),
    ],
    candidate: Annotated[str, typer.Option("--candidate", help="What is gated: a run's id, TAG@latest or a model.")],
    benchmark: Annotated[
        list[str] | None, typer.Option("--benchmark", help="Only this one; repeatable. Default: all of the baseline's.")
    ] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option(
            "--margin",
            metavar="[BENCHMARK=]M",
            help="The largest loss accepted, in the metric's units; default: the recipe's, else the benchmark's.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="BENCHMARK=METRIC", help="Gate this one in place of the headline metric."),
    ] = None,
    confidence: Annotated[
        float, typer.Option("--confidence", help="Of the interval; each rule is one-sided, at half of the rest.")
    ] = 0.95,
    recipe: Annotated[str | None, typer.Option("--recipe", help="One that names margins: gate: {margins: …}.")] = None,
    allow_different: Annotated[
        list[str] | None,
        typer.Option("--allow-different", metavar="FIELD", help="Compare though protocols differ in this; repeatable."),
    ] = None,
    anchors: Annotated[
        int,
        typer.Option(
            "--anchors", min=0, metavar="N", help="Have the judge grade answers to N of the baseline's questions again."
        ),
    ] = 0,
    drift_tolerance: Annotated[
        float | None,
        typer.Option("--drift-tolerance", min=0, help="A drift of the judge that is accepted; default: margin / 2."),
    ] = None,
    sequential: Annotated[
        bool,
        typer.Option("--sequential", help="Judge the candidate's answers in random order until it is certain."),
    ] = False,
    order_seed: Annotated[
        int | None,
        typer.Option("--order-seed", min=0, help="Of that order; default: drawn from the candidate's run."),
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", help="Who is asked, a name or YAML file; default: the baseline's judge.")
    ] = None,
    judge_url: Annotated[
        str | None, typer.Option("--judge-url", "--base-url", help="Of the judge's server, in place of the YAML's.")
    ] = None,
    concurrency: o.Concurrency = None,
    max_cost: o.MaxCost = None,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    data: o.Data = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit's XML to this file.")] = None,
    summary: Annotated[
        Path | None, typer.Option("--summary", envvar=SUMMARY_ENV, help="Append markdown to this file.")
    ] = None,
    annotations: Annotated[
        bool | None,
        typer.Option(
            "--annotations/--no-annotations", help="GitHub's annotations on stderr; default: where GITHUB_ACTIONS=true."
        ),
    ] = None,
    output_file: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file; stderr tells the verdict.")
    ] = None,
    store: o.StoreUrl = o.DEFAULT_STORE,
    include: o.Include = None,
    output: o.OutputFormat = o.Format.table,
    quiet: o.Quiet = False,
) -> None:
    """Tell whether a candidate is worse than its baseline: exit 0 no, 1 yes, 3 can't tell, 2 a mistake."""
    from zephyr_bench.engines.protocol import EngineOptions
    from zephyr_bench.judges.protocol import JudgeOptions
    from zephyr_bench.pipeline.judged_gate import JudgedEntries, Judging, answers_to_judge, judged_entries
    from zephyr_bench.progress import Progress
    from zephyr_bench.recipe import load_recipe
    from zephyr_bench.reports.gate import report
    from zephyr_bench.reports.gate_margins import read_margins
    from zephyr_bench.reports.gate_plan import entry_of, plan_gate
    from zephyr_bench.reports.protocols import check_allowed
    from zephyr_bench.reports.references import find
    from zephyr_bench.store import shown

    if not 0.5 <= confidence < 1:
        raise UserError(f"--confidence {confidence:g}: expected 0.5 to 0.999…, such as 0.95.")
    folders = tuple(include or ())
    named = load_recipe(recipe, folders) if recipe else None
    margins = read_margins(margin or (), metric or (), named, folders)
    judging = None
    if anchors or sequential:
        running = EngineOptions(dtype=dtype, device=device, batch_size=o.batch_size(batch_size), include=folders)
        asked = JudgeOptions(judge_url, concurrency, max_cost, False, running)
        judging = Judging(anchors, sequential, judge, asked, drift_tolerance, order_seed, folders, o.data_folder(data))
    elif unused := [name for name, value in {"--judge": judge, "--judge-url": judge_url}.items() if value]:
        raise UserError(f"{unused[0]}: no judge is asked; add --anchors N or --sequential.")
    with _store_if_there(store) as results:
        if judging is not None and results is None:
            raise UserError(f"store {shown(store)}: there is none; what a judge is asked is kept in one.")
        base = find(results, baseline, include=folders)
        if sequential and results is not None:
            other = answers_to_judge(results, candidate, base)
        else:
            other = find(results, candidate, include=folders)
        plan = plan_gate(base, other, margins, benchmark or ())
        allow = allow_different or ()
        check_allowed(plan.runs, allow)
        if judging is None or results is None:
            told = JudgedEntries(tuple(entry_of(pairing, allow=allow) for pairing in plan.pairs))
        else:
            progress = Progress(quiet=quiet)
            told = judged_entries(results, plan, judging, confidence=confidence, allow=allow, progress=progress)
        found = report(
            told.entries,
            confidence=confidence,
            ungated=(*plan.ungated, *told.ungated),
            baseline=baseline,
            candidate=candidate,
            notes=(*plan.notes, *told.notes),
        )
    _tell(found, output, output_file, junit, summary, annotations)


@contextmanager
def _store_if_there(url: str) -> Iterator[Store | None]:
    """Two baseline files need none."""
    from zephyr_bench.store import Store

    if not o.store_exists(url):
        yield None
        return
    with Store(url) as results:
        yield results


def _tell(
    found: GateReport,
    output: o.Format,
    output_file: Path | None,
    junit: Path | None,
    summary: Path | None,
    annotate: bool | None,
) -> None:
    """Writes and prints all that is asked for, and ends with the verdict's exit code.

    Files first, for who reads stdout may go away. One that can't be written is told after the report was printed.
    """
    from zephyr_bench.escaping import visible
    from zephyr_bench.reports import gate_ci
    from zephyr_bench.reports.gate_formats import EXIT_CODES, render_gate
    from zephyr_bench.reports.gate_words import headline
    from zephyr_bench.written_file import append_text, write_text

    text = render_gate(found, output.value)
    failed: list[UserError] = []
    if output_file is not None:
        with _kept(failed):
            write_text(output_file, text)
    if junit is not None:
        with _kept(failed):
            write_text(junit, gate_ci.junit(found), advice="name another place with --junit")
    if summary is not None:
        with _kept(failed):
            append_text(summary, gate_ci.step_summary(found), advice="name another place with --summary")
    with suppress(OSError):  # nobody reads stderr
        if output_file is not None and not failed:
            typer.echo(visible(headline(found)), err=True)
        if annotate or (annotate is None and os.environ.get("GITHUB_ACTIONS") == "true"):
            sys.stderr.writelines(f"{line}\n" for line in gate_ci.github_annotations(found))
            sys.stderr.flush()
    if output_file is None:
        _print(text, failed)
    if failed:
        raise failed[0]
    raise typer.Exit(EXIT_CODES[found.verdict])


def _print(text: str, failed: list[UserError]) -> None:
    """To stdout. A reader who went away changes no verdict; a full disk is told."""
    try:
        typer.echo(text, nl=False)
    except BrokenPipeError:
        nowhere(sys.stdout)
    except OSError as error:
        nowhere(sys.stdout)
        failed.append(UserError(f"stdout can't be written: {error.strerror or error}; give --output FILE."))


@contextmanager
def _kept(failed: list[UserError]) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        failed.append(error)
