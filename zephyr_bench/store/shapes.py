"""What may stand in a column, beyond its type: a dump comes from anybody, and SQLite would take anything.

Knows the schema; in: a column, out: whether a value fits it. A value that isn't there (None) is not asked about.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Boolean, Column, Float, Integer, LargeBinary

from zephyr_bench.store.plain_json import to_json
from zephyr_bench.store.run_info import STATUSES

Fits = Callable[[Any], bool]

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", flags=re.ASCII)


def fits(column: Column[Any]) -> Fits:
    """A test of values: by the column's name where that says more than its type."""
    name = f"{column.table.name}.{column.name}"
    if name in _BY_NAME:
        return _BY_NAME[name]
    if column.name in ("created", "finished"):
        return _is_time
    match column.type:
        case Boolean():
            return lambda value: isinstance(value, bool)
        case Integer():
            return lambda value: type(value) is int and -(2**63) <= value < 2**63
        case Float():
            return lambda value: _is_number(value) and math.isfinite(value)
        case LargeBinary():
            return lambda value: isinstance(value, bytes)
        case JSON():
            return _is_mapping
        case _:
            return lambda value: isinstance(value, str) and not _UNSTORABLE.search(value)


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and -(2**63) <= value < 2**63)


def _is_log_prob(value: Any) -> bool:
    return _is_number(value) and value < math.inf  # -inf: of what can't follow


def _is_time(value: Any) -> bool:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_mapping(value: Any) -> bool:
    """That JSON can hold: 1e999 reads as an infinity."""
    try:
        return isinstance(value, Mapping) and bool(to_json(value))
    except (ValueError, RecursionError):
        return False


def _is_content(value: Any) -> bool:
    """Of a question: rows.question reads it."""
    return (
        _is_mapping(value)
        and value.keys() == {"turns", "reference", "checks"}
        and all(_is_list(value[name], str) for name in ("turns", "reference"))
        and _is_list(value["checks"], list)
        and all(_is_list(turn, dict) for turn in value["checks"])
    )


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


_BY_NAME: Mapping[str, Fits] = {
    "questions.content": _is_content,
    "runs.status": lambda value: value in STATUSES,
    "token_scores.log_prob": _is_log_prob,
}
