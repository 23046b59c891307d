"""A dump: a store's contents as gzipped JSON lines, with a hash over them. Knows no database.

    {"format": "zephyr-bench store", "revision": "0004", "version": "0.1.0"}
    {"table": "models", "columns": ["fingerprint", ...], "floats": [], "binaries": []}
    ["sha256:...", ...]                                                      a row; those of a table follow its line
    {"rows": {"models": 1, ...}, "sha256": "..."}                            over all lines above

An infinity stands as the text "inf" or "-inf", bytes as base64. The same contents give the same bytes.
"""

from __future__ import annotations

import binascii
import gzip
import hashlib
import io
import json
import math
import os
import stat
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from zephyr_bench import __version__
from zephyr_bench.errors import StoreError
from zephyr_bench.store.contents import Batch, Layout

_FORMAT = "zephyr-bench store"
_LINE = 2**30  # the most bytes of a row: PostgreSQL's and SQLite's own limit of a value
_BATCH_ROWS, _BATCH_BYTES = 1000, 2**22
_LEVEL = 6  # 9 takes three times as long for a hundredth less


@dataclass(frozen=True)
class Dump:
    """A file that was read to its end and found whole."""

    path: Path
    revision: str  # of the tables
    version: str  # of the zephyr-bench that wrote it
    rows: Mapping[str, int]  # by table
    sha256: str


def write_dump(path: Path, revision: str, batches: Iterable[Batch]) -> Dump:
    """Whole or not at all: what was at `path` stays until all is on the disk. Raises StoreError."""
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name[:50]}.{os.getpid()}.part")
    try:
        try:
            with temporary.open("xb") as file:
                rows, sha256 = _write(file, revision, batches)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None
    return Dump(path, revision, __version__, rows, sha256)


def check_target(path: Path, *, own: Iterable[Path], force: bool) -> None:
    """Raises StoreError where a dump would take the place of the store, a device or, unless forced, another file."""
    try:
        there = path.stat()
    except FileNotFoundError:
        there = None
    except OSError as error:
        raise _unwritable(path, error) from None
    target = os.path.realpath(path)
    if any(os.path.realpath(file) == target or (there and _is_same(file, there)) for file in own):
        raise StoreError(f"dump {path}: is a file of the store itself; name another place.")
    if there is None or stat.S_ISDIR(there.st_mode):
        return
    if not stat.S_ISREG(there.st_mode):
        raise StoreError(f"dump {path}: is no plain file, which a dump could replace; name another place.")
    if not force and not _is_dump(path):
        raise StoreError(f"dump {path}: is there, and no dump; name another place, or add --force to replace it.")


def _is_same(file: Path, there: os.stat_result) -> bool:
    try:
        return os.path.samestat(file.stat(), there)
    except OSError:
        return False


def _is_dump(path: Path) -> bool:
    """By its first line: one that was cut short is one as well."""
    try:
        with _opened(path) as lines:
            return _object(path, next(lines, b"")).get("format") == _FORMAT
    except StoreError:
        return False


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"dump {path}: can't be written ({error.strerror or error}); name another place.")


def _write(file: IO[bytes], revision: str, batches: Iterable[Batch]) -> tuple[dict[str, int], str]:
    rows: dict[str, int] = {}
    digest = hashlib.sha256()
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=_LEVEL, mtime=0) as packed:

        def put(lines: Iterable[Any]) -> None:
            text = "".join(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n" for line in lines)
            digest.update(text.encode())
            packed.write(text.encode())

        put([{"format": _FORMAT, "revision": revision, "version": __version__}])
        for layout, batch in batches:
            if layout.table not in rows:
                rows[layout.table] = 0
                put(
                    [
                        {
                            "table": layout.table,
                            "columns": layout.columns,
                            "floats": layout.floats,
                            "binaries": layout.binaries,
                        }
                    ]
                )
            rows[layout.table] += len(batch)
            put(_encoded(layout, row) for row in batch)
        sha256 = digest.hexdigest()
        put([{"rows": rows, "sha256": sha256}])
    return rows, sha256


def check_dump(path: Path) -> Dump:
    """Reads it all, and keeps nothing. Raises StoreError for what is no dump, or not as it was written."""
    digest = hashlib.sha256()
    with _opened(path) as lines:
        before = first = next(lines, b"")
        head = _object(path, first)
        if head.get("format") != _FORMAT or not isinstance(head.get("revision"), str):
            raise _no_dump(path)
        for line in lines:
            digest.update(before)
            before = line
    end = _object(path, before)
    if end.get("sha256") != digest.hexdigest() or not isinstance(end.get("rows"), dict):
        raise _damaged(path, "its content is not what its hash is of" if "sha256" in end else "its end is missing")
    return Dump(path, head["revision"], str(head.get("version")), end["rows"], end["sha256"])


def batches(dump: Dump) -> Iterator[Batch]:
    """Its rows. Raises StoreError, at the latest after the last, where the file is no more what was checked."""
    digest, layout, before = hashlib.sha256(), None, b""
    batch: list[tuple[Any, ...]] = []
    size = 0
    with _opened(dump.path) as lines:
        for line in lines:
            digest.update(before)
            before = line
            if line.startswith(b"["):
                batch.append(_decoded(dump.path, layout, line))
                size += len(line)
                if len(batch) < _BATCH_ROWS and size < _BATCH_BYTES:
                    continue
            if layout is not None:
                yield layout, batch
            batch, size = [], 0
            if line.startswith(b'{"table"'):
                layout = _layout(dump.path, line)
    if digest.hexdigest() != dump.sha256:
        raise _damaged(dump.path, "it changed while it was read")


@contextmanager
def _opened(path: Path) -> Iterator[Iterator[bytes]]:
    """The lines of a gzipped file."""
    try:
        with gzip.open(path) as packed, io.BufferedReader(packed, 2**20) as file:
            yield iter(lambda: file.readline(_LINE), b"")
    except (EOFError, zlib.error) as error:
        raise _damaged(path, str(error)) from None
    except gzip.BadGzipFile as error:
        raise (_no_dump(path) if "Not a gzipped" in str(error) else _damaged(path, str(error))) from None
    except OSError as error:
        raise StoreError(f"dump {path}: can't be read ({error.strerror or error}).") from None


def _encoded(layout: Layout, row: Sequence[Any]) -> Sequence[Any]:
    if not layout.floats and not layout.binaries:
        return row
    values = list(row)
    for at in layout.floats:
        if values[at] is not None and not math.isfinite(values[at]):
            values[at] = str(values[at])
    for at in layout.binaries:
        if values[at] is not None:
            values[at] = b64encode(values[at]).decode()
    return values


def _decoded(path: Path, layout: Layout | None, line: bytes) -> tuple[Any, ...]:
    try:
        values = json.loads(line, parse_constant=_refused)
        if layout is None or len(values) != len(layout.columns):
            raise ValueError
        for at in layout.floats:
            if isinstance(values[at], str):
                values[at] = float(values[at])
        for at in layout.binaries:
            if values[at] is not None:
                values[at] = b64decode(values[at])
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise _damaged(path, "a row can't be read") from None
    return tuple(values)


def _refused(constant: str) -> Any:
    raise ValueError(f"no dump has {constant} as a number")


def _layout(path: Path, line: bytes) -> Layout:
    try:
        told = json.loads(line)
        columns, floats, binaries = (tuple(told[name]) for name in ("columns", "floats", "binaries"))
        if not all(isinstance(at, int) and 0 <= at < len(columns) for at in (*floats, *binaries)):
            raise ValueError
        return Layout(str(told["table"]), columns, floats, binaries)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _damaged(path, "a table can't be read") from None


def _object(path: Path, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def _no_dump(path: Path) -> StoreError:
    return StoreError(f"dump {path}: is no dump of a store; `zephyr-bench store dump FILE` writes one.")


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(f"dump {path}: is cut short or altered ({why}); nothing was loaded: take another copy.")
