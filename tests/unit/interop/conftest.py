"""Fixtures of the interop tests; the rows are made in fastchat_files.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from zephyr_bench.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path / 'results.db'}") as opened:
        yield opened


@pytest.fixture
def real_files() -> Path:
    """GPT-4's judgments of real models, which are never copied into this repository."""
    folder = Path(__file__).resolve().parents[4] / "shared" / "data" / "mt_bench"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder
