"""Our engine over vLLM against our engine over transformers: the same model, greedy, in float32.

vLLM pins versions of its own, so it has an interpreter of its own, which ZEPHYR_BENCH_VLLM_PYTHON names (`make
vllm-test` makes it); else this one, where vLLM is installed in it. The work is vllm_checks.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from zephyr_bench.engines.locate import locate

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "ZEPHYR_BENCH_VLLM_PYTHON"
# on a machine of two processors vLLM would keep one of them free, and more memory than it needs
CPU = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}
TOLERANCE = 1e-3  # of a log-probability: other kernels add in another order


def _python() -> str | None:
    return os.environ.get(VARIABLE) or (sys.executable if "vllm" in packages_distributions() else None)


@pytest.fixture(scope="module")
def found(embedded_model: str) -> dict[str, Any]:
    python = _python()
    if python is None:
        pytest.skip(f"vLLM is not installed here, and {VARIABLE} names no interpreter that has it: make vllm-test")
    script = ROOT / "tests" / "parity" / "vllm_checks.py"
    environment = {**CPU, **os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, str(script), locate(embedded_model).location],
        capture_output=True,
        text=True,
        env=environment,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told: dict[str, Any] = json.loads(done.stdout)  # and nothing else: vLLM's own messages go to stderr
    return told


@pytest.mark.slow
def test_vllm_engine_conforms(found: dict[str, Any]) -> None:
    assert found["failed"] == {}


@pytest.mark.slow
def test_first_tokens_are_those_of_transformers(found: dict[str, Any]) -> None:
    assert found["same_prompts"]
    assert found["equal_first_tokens"] == found["of"], found["pairs"]


@pytest.mark.slow
def test_log_probabilities_are_those_of_transformers(found: dict[str, Any]) -> None:
    assert found["log_prob_difference"] <= TOLERANCE, found["pairs"]


@pytest.mark.slow
def test_greedy_answers_are_those_of_transformers_but_for_near_ties(found: dict[str, Any]) -> None:
    print(f"{found['equal']} of {found['of']} answers equal, {found['second_turns']} of their second turns")
    assert found["equal"] >= found["of"] - 1, found["pairs"]
