"""JSON lines as other harnesses leave them: plain or gzipped, which the first bytes say, not the name.

In: a path. Out: objects with their line numbers; what a row of them becomes. Knows no harness.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from zephyr_bench.file_content import content_of
from zephyr_bench.yaml_file import objects_of

R = TypeVar("R", bound=BaseModel)


@dataclass(frozen=True)
class Line(Generic[R]):
    """A row with where it stands ("FILE line N") and the object that it was read from."""

    place: str
    row: R
    raw: Mapping[str, Any]


def read_each_once(paths: Sequence[Path]) -> Iterator[tuple[Path, bytes]]:
    """The content of each file, unzipped; the same content under two names comes once. Raises UserError."""
    seen: set[bytes] = set()
    for path in paths:
        content = content_of(path)
        digest = hashlib.sha256(content).digest()
        if digest not in seen:
            seen.add(digest)
            yield path, content


def objects_in(content: bytes, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each line that is not blank. Raises UserError naming file and line.

    NaN and infinities are refused: they are no JSON, and a missing value must not pass for a number.
    """
    return objects_of(content.split(b"\n"), path, parse=_strict)


def _strict(line: str) -> Any:
    return json.loads(line, parse_constant=_refused, parse_float=_finite)


def _refused(word: str) -> float:
    raise ValueError(f"{word} is not a number that JSON has")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits} is too large a number")
    return value
