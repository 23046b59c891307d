"""The command line: parses, calls, prints. stdout carries results, stderr progress and messages.

Commands import what they need inside themselves, so that --help answers at once.
"""

from __future__ import annotations

import os
import sys

import typer

from zephyr_bench import __version__
from zephyr_bench.cli import catalogue, doctor, evaluate, fetch, interop, judge, judge_report, runs, show, train
from zephyr_bench.cli.launch import in_one_process
from zephyr_bench.errors import EXIT_INTERRUPTED, ZephyrBenchError
from zephyr_bench.escaping import visible

app = typer.Typer(
    name="zephyr-bench",
    help="Train with dSFT, AIF and dDPO, evaluate on MT-Bench, AlpacaEval and Open LLM tasks, keep every answer.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for module in (train, evaluate, judge, judge_report, show, runs, interop, fetch, catalogue, doctor):
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
    except BrokenPipeError:  # the reader of stdout went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _fail(message: str, code: int) -> None:
    """The message on stderr, control characters shown and not obeyed."""
    sys.stderr.write("\n".join(visible(line) for line in message.split("\n")) + "\n")
    sys.stderr.flush()
    sys.exit(code)
