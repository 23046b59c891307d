"""FastChat's files as runs: what `import fastchat` reads, before anything is stored (imported_runs.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zephyr_bench.benchmarks.mt_bench import MtBench
from zephyr_bench.errors import UserError
from zephyr_bench.interop.fastchat_plan import plan_runs
from zephyr_bench.interop.fastchat_rows import read_rows
from zephyr_bench.interop.imported_runs import Plan


def read_fastchat(paths: Sequence[Path], benchmark: MtBench) -> Plan:
    """The runs that the files tell of. Raises UserError naming file and line."""
    plan = plan_runs(read_rows(paths), benchmark)
    if not plan.judged and not plan.answered:
        told = ", ".join(str(path) for path in paths)
        raise UserError(f"{told}: questions alone make no run; give answers or judgments beside them.")
    return plan
