"""Models that tests run (a tiny one made in a moment, and the embedded real one), and recipes over the tiny one."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_data import DIALOGUES, PAIRS, write_jsonl
from tiny_model import make_tiny_model

from zephyr_bench.recipe import Recipe, load_recipe

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"  # beside the checkout, where the team keeps it


def pytest_configure() -> None:
    """A job in a shell's background ignores Ctrl-C, and so would every command that a test starts and interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def own_records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What zephyr-bench keeps for a user (hashes of files from the hub) is not the developer's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data-home")))
        yield


@pytest.fixture(autouse=True, scope="session")
def own_reference_log_probs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Kept from one session to the next they would answer for code that has changed since."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache-home")
        patch.setattr("zephyr_bench.trainers.reference.user_cache_path", lambda name: folder / name)
        yield


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of safetensors with tokenizer and chat template. Read only: copy it to change it."""
    folder = make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 2
    return folder


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny_model_dir`, but long enough for two turns at a token a byte."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny-2048", max_length=2048)


@pytest.fixture(scope="session")
def embedded_model() -> str:
    """A real model's name, at hand offline once its package is installed."""
    return "smollm2-135m-instruct"


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model_dir: Path) -> Callable[..., Recipe]:
    """A recipe over the tiny model; keyword arguments are its sections."""

    def make(**sections: Any) -> Recipe:
        write_jsonl(tmp_path / "dialogues.jsonl", DIALOGUES)
        write_jsonl(tmp_path / "pairs.jsonl", PAIRS)
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({"description": "tiny", "model": str(tiny_model_dir), **sections}))
        return load_recipe(str(path))

    return make


@pytest.fixture
def real_mt_bench() -> Path:
    """GPT-4's judgments of real models."""
    return _real("mt_bench")


@pytest.fixture
def real_open_llm() -> Path:
    """Rows of the Open LLM Leaderboards' data sets, in the hub's layout."""
    return _real("open_llm")


@pytest.fixture
def real_alpaca_eval() -> Path:
    """AlpacaEval's annotations of real models."""
    return _real("alpaca_eval")


def _real(name: str) -> Path:
    """What others measured or published, which is never copied into this repository."""
    folder = REAL_DATA / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test logs of half a surrogate pair can't travel from one of pytest-xdist's processes to another."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that could not run is a failure, unless the kernel lacks something, or the machine the real data."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("ZEPHYR_BENCH_NO_SKIPS"):
        return
    # vLLM needs an environment of its own, with 3 GB of packages: `make vllm-test`
    # W&B's client is large, and nothing else here needs it
    excused = [
        "kernel",
        "'wandb'",
        "ZEPHYR_BENCH_VLLM_PYTHON",
        *([] if REAL_DATA.parent.is_dir() else [f"{REAL_DATA}"]),
    ]
    reasons = [str(report.longrepr) for report in reporter.stats.get("skipped", [])]
    skipped = [reason for reason in reasons if not any(excuse in reason for excuse in excused)]
    if skipped:
        reporter.write_line(f"{len(skipped)} tests were skipped, and ZEPHYR_BENCH_NO_SKIPS is set", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
