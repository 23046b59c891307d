"""SHA-256 of large files, remembered on disk, so that a second start does not read the weights again.

A file is known by path, size, time of change and inode: one small entry for each such state, written
atomically, never changed. A cache that can't be written costs time, nothing else.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from zephyr_bench.fingerprint import file_sha256, fingerprint


def cache_folder() -> Path:
    """This package's folder for things that can be made again."""
    from platformdirs import user_cache_path

    return user_cache_path("zephyr-bench")


def remembered_sha256(path: Path) -> str:
    """Hex digest of a file's bytes, read from the cache where the file is unchanged."""
    path = path.resolve()
    state = path.stat()
    identity = [str(path), state.st_size, state.st_mtime_ns, state.st_ino]
    entry = cache_folder() / "sha256" / fingerprint(identity).removeprefix("sha256:")
    with contextlib.suppress(OSError):
        known = entry.read_text(encoding="ascii")
        if len(known) == 64:
            return known
    digest = file_sha256(path)
    with contextlib.suppress(OSError):
        _write(entry, digest)
    return digest


def _write(entry: Path, digest: str) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=entry.parent)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(digest)
    os.replace(name, entry)
