"""The command line: parses, calls, prints. stdout carries results, stderr progress and messages.

Commands import what they need inside themselves, so that --help answers at once.
"""

from __future__ import annotations

import re
import sys
import traceback

import typer

from zephyr_bench import __version__
from zephyr_bench.cli import (
    catalogue,
    doctor,
    evaluate,
    fetch,
    gate,
    interop,
    judge,
    judge_report,
    reproduce,
    runs,
    show,
    store,
    train,
    watch,
)
from zephyr_bench.cli.launch import in_one_process
from zephyr_bench.cli.streams import Commands, nowhere
from zephyr_bench.errors import EXIT_FAULT, EXIT_INTERRUPTED, ZephyrBenchError
from zephyr_bench.escaping import visible

app = typer.Typer(
    name="zephyr-bench",
    cls=Commands,
    help="Train with dSFT, AIF and dDPO, evaluate on MT-Bench, AlpacaEval and Open LLM tasks, keep every answer.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for module in (
    *(train, evaluate, watch, judge, judge_report, show, gate, reproduce, runs, store),
    *(interop, fetch, catalogue, doctor),
):
    module.register(app)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"zephyr-bench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """Entry point of the command: errors become one message and an exit code."""
    try:
        in_one_process(app, sys.argv[1:])
    except ZephyrBenchError as error:
        _fail(f"error: {error}", error.exit_code)
    except (KeyboardInterrupt, SystemExit) as end:  # typer turns Ctrl-C into exit 130 without a word
        if isinstance(end, SystemExit) and end.code != EXIT_INTERRUPTED:
            raise
        _fail("interrupted; what was done is stored, run the same command again to go on", EXIT_INTERRUPTED)
    except Exception:  # noqa: BLE001 - a fault of ours; 1, as Python would end, is a regression to who asked for a gate
        _fault(traceback.format_exc())


def _fault(told: str) -> None:
    """The traceback on stderr, whole, for whoever reports it."""
    nowhere(sys.stdout)  # it may be what failed, as on a full disk
    sys.stderr.writelines(f"{visible(line)}\n" for line in told.rstrip("\n").split("\n"))
    _fail("this is a fault of zephyr-bench's own; please report it with the lines above", EXIT_FAULT)


def _fail(message: str, code: int) -> None:
    """The message on stderr, control characters shown and not obeyed: only our own lists have lines."""
    sys.stderr.write("\n".join(visible(line) for line in re.split(r"\n(?=  - )", message)) + "\n")
    sys.stderr.flush()
    sys.exit(code)
