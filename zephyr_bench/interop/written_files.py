"""An export's files: their names, and all of them or none where one would replace something else.

Knows no harness.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from zephyr_bench.errors import UserError
from zephyr_bench.written_file import write_text

_LONGEST_NAME = 200  # bytes; file systems take 255, and an ending may come to it


def safe_name(name: str) -> str:
    """A file's or folder's name of one's own for each name, safe everywhere; the rows keep the name as it is."""
    safe = quote(name.encode("utf-8", "surrogatepass"), safe=" +,=@")
    safe = f"%2E{safe[1:]}" if safe.startswith(".") else safe  # glob, and so FastChat, passes over hidden files
    if len(safe) > _LONGEST_NAME:
        safe = f"{safe[:_LONGEST_NAME]}-{hashlib.sha256(safe.encode()).hexdigest()[:16]}"
    return safe


def write_new(texts: Mapping[Path, str]) -> None:
    """Raises UserError, before anything is written, for a file that is there and holds something else."""
    there = {path for path, text in texts.items() if _is_there(path, text)}
    for path, text in texts.items():
        if path not in there:
            write_text(path, text)


def _is_there(path: Path, text: str) -> bool:
    """Whether the file is as it would be written. Raises UserError where it is another."""
    if not path.exists():
        return False
    if not path.is_file() or path.read_bytes() != text.encode():
        raise UserError(f"{path} is there and holds something else; name another folder with --output.")
    return True
