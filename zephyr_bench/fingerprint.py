"""Content hashes: the same content has the same fingerprint, on every machine and in every year.

A fingerprint is `sha256:` and the hex digest of canonical JSON: keys sorted, no blanks, UTF-8, floats
as Python's repr, no NaN. Knows values and files; what goes into a key is said in docs/design/fingerprints.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any


def fingerprint(value: Any) -> str:
    """Hash of plain data and dataclasses. Raises TypeError or ValueError for what JSON can't hold."""
    return "sha256:" + hashlib.sha256(canonical_json(value).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"no canonical JSON for {type(value).__name__}")


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes, without a prefix, as `sha256sum` prints it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def short(value: str) -> str:
    """The first eight hex digits, for people."""
    return value.removeprefix("sha256:")[:8]
