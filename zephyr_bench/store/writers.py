"""Who writes a run, and whether that process still lives: a killed one can't say that it ended."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Writer:
    """A process. `started` tells it from a later one of the same pid; None where the system doesn't say."""

    host: str
    pid: int
    started: str | None


def this_process() -> Writer:
    return Writer(socket.gethostname(), os.getpid(), _started(os.getpid()))


def is_dead(writer: Writer) -> bool:
    """True only where it is certain; of another host's processes nothing is."""
    if writer.host != socket.gethostname():
        return False
    try:
        os.kill(writer.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it lives, as another user's
    started = _started(writer.pid)
    return started == _ENDED or (None not in (started, writer.started) and started != writer.started)


_ENDED = "ended"


def _started(pid: int) -> str | None:
    """Boot and clock tick at which a process began (Linux), `_ENDED` for one that only waits to be reaped."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return _ENDED if state in "ZX" else f"{boot}/{fields[18]}"  # field 22 of proc(5), starttime
