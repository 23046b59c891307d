"""Text or bytes into a file: whole or not at all, or after what is there."""

from __future__ import annotations

import os
from pathlib import Path

from zephyr_bench.errors import UserError

_ELSEWHERE = "name another place with --output"


def write_text(path: Path, text: str, *, advice: str = _ELSEWHERE) -> None:
    """The text as UTF-8, in place of what was there; missing folders are made. Raises UserError, with the advice."""
    write_bytes(path, text.encode(), advice=advice)


def write_bytes(path: Path, content: bytes, *, advice: str = _ELSEWHERE) -> None:
    """The bytes, in place of what was there; missing folders are made. Raises UserError, with the advice."""
    target = Path(os.path.realpath(path))  # a link's target is replaced, not the link
    temporary = target.with_name(f".{target.name[:50]}.{os.getpid()}.part")
    try:
        if target.exists() and not target.is_file():  # a pipe or a device can't be replaced; a folder fails here
            target.write_bytes(content)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path} can't be written: {reason}; {advice}.") from None


def append_text(path: Path, text: str, *, advice: str = _ELSEWHERE) -> None:
    """The text as UTF-8, after what is there; missing folders are made. Raises UserError, with the advice."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path} can't be written: {reason}; {advice}.") from None


def flush_folder(folder: Path) -> None:
    """To the disk, before it is renamed into its place."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
