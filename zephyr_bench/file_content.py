"""What a file holds: plain or gzipped, which the first bytes say, not the name."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from zephyr_bench.errors import UserError

_GZIP = b"\x1f\x8b"


def content_of(path: Path) -> bytes:
    """Unzipped. Raises UserError."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP) else content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: is not a whole gzip file: {error}.") from None
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}.") from None
