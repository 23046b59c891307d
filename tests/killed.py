"""Commands that are killed with -9 once they have done something."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Sequence

_SECONDS = 120


def kill_once(command: Sequence[str], reached: Callable[[], bool]) -> None:
    """`reached` looks into a store, which may not be made yet."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + _SECONDS
    while not _looked(reached):
        assert process.poll() is None, f"ended before it could be killed: {process.stderr.read().decode()}"  # type: ignore[union-attr]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def _looked(reached: Callable[[], bool]) -> bool:
    try:
        return reached()
    except sqlite3.OperationalError:  # not made yet
        return False
