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
