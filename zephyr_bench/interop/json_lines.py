"""JSON lines as other harnesses leave them: plain or gzipped, which the first bytes say, not the name.

In: a path. Out: objects with their line numbers. Knows no harness.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zephyr_bench.errors import UserError
from zephyr_bench.yaml_file import objects_of

_GZIP = b"\x1f\x8b"


def read_each_once(paths: Sequence[Path]) -> Iterator[tuple[Path, bytes]]:
    """The content of each file, unzipped; the same content under two names comes once. Raises UserError."""
    seen: set[bytes] = set()
    for path in paths:
        content = _content(path)
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


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP) else content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: is not a whole gzip file: {error}.") from None
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}.") from None


def _refused(word: str) -> float:
    raise ValueError(f"{word} is not a number that JSON has")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits} is too large a number")
    return value
