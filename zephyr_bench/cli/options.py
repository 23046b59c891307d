"""The options that commands share, declared once."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from zephyr_bench.errors import UserError

if TYPE_CHECKING:
    from zephyr_bench.store import Store

STORE_ENV = "ZEPHYR_BENCH_STORE"
DATA_ENV = "ZEPHYR_BENCH_DATA"


class Format(StrEnum):
    """How a result is printed."""

    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"


Model: TypeAlias = Annotated[
    str, typer.Option("--model", "-m", help="A checkpoint directory, a packaged model's name, or a hub id.")
]
ModelOrNone: TypeAlias = Annotated[
    str | None, typer.Option("--model", "-m", help="A checkpoint directory, a packaged model's name, or a hub id.")
]
AllowMissing: TypeAlias = Annotated[
    bool, typer.Option("--allow-missing", help="Judge answers that are not there for every instruction.")
]
Judge: TypeAlias = Annotated[
    str | None, typer.Option("--judge", help="A judge's name or YAML file; default: the benchmark's own.")
]
Engine: TypeAlias = Annotated[
    str, typer.Option("--engine", help="What runs the model: transformers, vllm or openai (a server).")
]
BaseUrl: TypeAlias = Annotated[
    str | None,
    typer.Option("--base-url", help="Of the server: the model's with --engine openai, else the judge's."),
]
JudgeUrl: TypeAlias = Annotated[
    str | None, typer.Option("--judge-url", help="Of the judge's server, in place of the YAML's.")
]
ApiKeyEnv: TypeAlias = Annotated[
    str, typer.Option("--api-key-env", help="With --engine openai: the variable that holds the server's key.")
]
Concurrency: TypeAlias = Annotated[
    int | None, typer.Option("--concurrency", min=1, help="Calls to a server at once; default: as many as it takes.")
]
MaxCost: TypeAlias = Annotated[
    float | None, typer.Option("--max-cost", min=0, help="USD that the judge may spend; stops before it is exceeded.")
]
Batch: TypeAlias = Annotated[
    bool, typer.Option("--batch", help="Judge by OpenAI's Batch API: half the price, an answer within a day.")
]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Say what it would ask and cost; ask nothing.")]
Dtype: TypeAlias = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")]
Device: TypeAlias = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
BatchSize: TypeAlias = Annotated[str, typer.Option("--batch-size", help="auto, or the most rows in one batch.")]
Limit: TypeAlias = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Only the first N questions (of each task, for Open LLM)."),
]
Seed: TypeAlias = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of sampled answers.")]
StoreUrl: TypeAlias = Annotated[
    str,
    typer.Option("--store", envvar=STORE_ENV, help="Where results are kept.", show_default="sqlite:///zephyr-bench.db"),
]
Include: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--include", help="A folder with benchmarks/, judges/, trainers/ or reports/ of your own; repeatable."
    ),
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
OutputFormat: TypeAlias = Annotated[Format, typer.Option("--format", help="How to print the result.")]
TrustRemoteCode: TypeAlias = Annotated[
    bool, typer.Option("--trust-remote-code", help="Let the model's repository run its own Python code.")
]
Data: TypeAlias = Annotated[
    Path | None,
    typer.Option("--data", envvar=DATA_ENV, help="A folder of data sets in the hub's layout, used before the hub."),
]
Tag: TypeAlias = Annotated[
    list[str] | None, typer.Option("--tag", help="Of the run once it is complete, such as nightly; repeatable.")
]
DEFAULT_STORE = "sqlite:///zephyr-bench.db"


def tags(given: list[str] | None) -> tuple[str, ...]:
    """--tag. Raises UserError, before any work."""
    for tag in given or ():
        if not tag.strip():
            raise UserError("--tag: a tag is a word, such as nightly; found blanks only.")
    return tuple(given or ())


def give_tags(results: Store, run: str, given: Sequence[str]) -> None:
    for tag in given:
        results.tag(run, tag)


def data_folder(folder: Path | None) -> Path | None:
    """--data. Raises UserError."""
    if folder is None:
        return None
    if not folder.is_dir():
        raise UserError(f"--data {folder}: no such folder; expected data sets in the hub's layout, owner/name/.")
    return folder.resolve()


def store_exists(url: str) -> bool:
    """False for a SQLite file that isn't there."""
    if not url.startswith("sqlite"):
        return True
    from zephyr_bench.store.connection import files

    found = files(url)
    return not found or found[0].exists()


def existing_store(url: str) -> str:
    """The store of a command that only reads: a mistyped name makes no file. Raises UserError."""
    if not store_exists(url):
        raise UserError(
            f"store {url}: there is none yet; `zephyr-bench mtbench --model MODEL` (or alpaca-eval, open-llm, "
            f"train-and-eval) makes one, --store names another."
        )
    return url


def agreed(question: str, otherwise: str) -> bool:
    """Asks on stderr. Raises UserError where there is nobody to ask; `otherwise` says what was left then."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort as abort:
        if isinstance(abort.__context__, EOFError):
            typer.echo(err=True)
            raise UserError(f"{otherwise}: nobody answers; --yes asks nobody.") from None
        raise


def batch_size(text: str) -> int | None:
    """--batch-size: None for auto. Raises UserError."""
    if text == "auto":
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UserError(f"--batch-size {text}: expected auto or a whole number from 1.")
    return int(text)
