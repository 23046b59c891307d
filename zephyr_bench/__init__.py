"""zephyr-bench: train with dSFT, AIF and dDPO, evaluate, and keep every answer.

    import zephyr_bench
    zephyr_bench.Store("sqlite:///zephyr-bench.db").scores(benchmark="mt-bench")  # a pandas DataFrame

Importing this package loads no torch, transformers, pandas or SQLAlchemy; `Store` loads what it needs when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zephyr_bench.store import Store

__version__ = "0.1.0"
__all__ = ["Store", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Store":
        return import_module("zephyr_bench.store").Store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
