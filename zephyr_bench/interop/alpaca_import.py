"""alpaca_eval's files as runs: what `import alpaca-eval` reads, before anything is stored (imported_runs.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zephyr_bench.interop.alpaca_benchmarks import Choice
from zephyr_bench.interop.alpaca_plan import plan_runs
from zephyr_bench.interop.alpaca_rows import read_alpaca_rows
from zephyr_bench.interop.imported_runs import Plan


def read_alpaca_eval(paths: Sequence[Path], choice: Choice) -> Plan:
    """The runs that the files tell of. Raises UserError naming file and row."""
    return plan_runs(read_alpaca_rows(paths), choice)
