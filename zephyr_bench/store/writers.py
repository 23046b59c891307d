"""Who writes a run, and whether that process still lives: a killed one can't say that it ended."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Writer:
    """A process. `started` tells it from others of the same pid (see `_started`); None where the system doesn't say."""

    host: str
    pid: int
    started: str | None


def this_process() -> Writer:
    return Writer(socket.gethostname(), os.getpid(), _started(os.getpid()))


def is_dead(writer: Writer) -> bool:
    """True only where it is certain; of another host's processes nothing is.

    Containers may have one hostname, and each counts processes of its own: so a pid is looked for only in the boot and
    the namespace that it was given in. A machine that booted since runs nothing of before, if it is the same machine.
    """
    if writer.host != socket.gethostname():
        return False
    told, own = (_Start.of(text) for text in (writer.started, _started(os.getpid())))
    if told and own and told.boot != own.boot:
        return None is not told.machine == own.machine
    if told and own and None not in (told.pids, own.pids) and told.pids != own.pids:
        return False
    try:
        os.kill(writer.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it lives, as another user's
    started = _started(writer.pid)
    found = _Start.of(started)
    return started == _ENDED or bool(found and told and found.tick != told.tick)


_ENDED = "ended"
_FIRST_NAMESPACE = "4026531836"  # PROC_PID_INIT_INO of Linux: that of no container


@dataclass(frozen=True)
class _Start:
    """What `_started` says. The last two are None where it isn't known, as of a writer of an older version."""

    boot: str
    tick: str
    pids: str | None
    machine: str | None

    @classmethod
    def of(cls, started: str | None) -> _Start | None:
        if started is None or started == _ENDED:
            return None
        boot, tick, pids, machine = [*started.split("/"), "", "", ""][:4]
        return cls(boot, tick, pids or None, machine or None)


def _started(pid: int) -> str | None:
    """`boot/clock tick/pid namespace/machine` of a process (Linux), `_ENDED` for one that only waits to be reaped."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    tick = fields[18]  # field 22 of proc(5), starttime
    return _ENDED if state in "ZX" else "/".join([boot, tick, *_whereabouts()])


@cache
def _whereabouts() -> tuple[str, str]:
    """This process's pid namespace and machine, "" for what isn't known: containers of an image may share an id."""
    try:
        namespace = "".join(filter(str.isdigit, os.readlink("/proc/self/ns/pid")))
    except OSError:
        namespace = ""
    if namespace != _FIRST_NAMESPACE:
        return namespace, ""
    try:
        return namespace, Path("/etc/machine-id").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return namespace, ""
