"""Rows of alpaca_eval's files, made as it makes them; files of them; what a store has of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zephyr_bench.interop.alpaca_benchmarks import find_benchmarks
from zephyr_bench.interop.alpaca_import import read_alpaca_eval
from zephyr_bench.interop.imported_runs import Imported, add_to_store
from zephyr_bench.store import Store

Row = dict[str, Any]
OF_VERSION = {1: ("text_davinci_003", "alpaca_eval_gpt4"), 2: ("gpt4_1106_preview", "weighted_alpaca_eval_gpt4_turbo")}


def annotation(number: int = 0, preference: Any = 2.0, *, model: str = "m", version: int = 1, **other: Any) -> Row:
    baseline, judge = OF_VERSION[version]
    row = {
        "instruction": f"Do thing {number}.",
        "output_1": f"{baseline} does thing {number}",
        "generator_1": baseline,
        "dataset": "koala",
        "output_2": f"thing {number}, by {model}",
        "generator_2": model,
        "annotator": judge,
        "preference": preference,
        "price_per_example": 0.0126,
        "time_per_example": None,
    }
    return {**row, **other}


def output(number: int = 0, *, model: str = "m", **other: Any) -> Row:
    row = {"dataset": "koala", "instruction": f"Do thing {number}.", "output": f"thing {number}, by {model}"}
    return {**row, "generator": model, **other}


def write(path: Path, rows: Sequence[Row]) -> Path:
    """As alpaca_eval does: a list; by the name JSON lines, or gzipped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.name.endswith((".jsonl", ".jsonl.gz"))
    text = "".join(f"{json.dumps(row)}\n" for row in rows) if lines else json.dumps(rows, indent=2)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def read(path: Path) -> list[Row]:
    return list(json.loads(path.read_text(encoding="utf-8")))


def put(
    store: Store,
    *paths: Path,
    version: int | None = None,
    benchmark: str | None = None,
    data: Path | None = None,
    include: Sequence[Path] = (),
) -> list[Imported]:
    choice = find_benchmarks(version=version, benchmark=benchmark, data=data, include=include)
    return add_to_store(store, read_alpaca_eval(paths, choice))


def put_rows(store: Store, folder: Path, *files: Sequence[Row], **options: Any) -> list[Imported]:
    return put(store, *(write(folder / f"{n}.json", rows) for n, rows in enumerate(files)), **options)
