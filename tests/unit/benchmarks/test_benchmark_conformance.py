from __future__ import annotations

from pathlib import Path

import pytest

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.engines import open_engine
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.judges import open_judge
from zephyr_bench.store import Store
from zephyr_bench.testing.benchmarks import check_benchmark


@pytest.mark.parametrize("name", ["mt-bench-mini", "alpaca-eval-mini", "open-llm-mini"])
def test_benchmark_conforms(name: str, model_dir: Path, tmp_path: Path) -> None:
    benchmark = open_benchmark(name)
    judge = open_judge(benchmark.default_judge) if benchmark.default_judge else None
    engine = open_engine(str(model_dir), EngineOptions())
    with Store(f"sqlite:///{tmp_path}/store.db") as store:
        check_benchmark(benchmark, engine, judge=judge, store=store)
