"""JSON columns: what was frozen on the way becomes plain data; NaN is refused, lone surrogates survive."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def to_json(value: Any) -> str:
    """Raises ValueError for NaN and infinities, TypeError for what JSON can't hold."""
    return json.dumps(value, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a JSON column can't hold {type(value).__name__}")
