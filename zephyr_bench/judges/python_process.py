"""Runs untrusted Python in a limited process of its own, and says whether its asserts hold.

The process is told the left sides only, and tells their values; they are compared here. So an answer
can't forge a verdict: what it prints, raises, redefines or exits with is none, and to return the
expected value is to be right. Limits: time, CPU, memory, an empty environment; an audit hook refuses files
beyond the standard library, child processes, sockets and foreign code; and there is no network at all where
the kernel lets a user make a namespace. They guard against accidents and mischief, not against one who
attacks the interpreter itself; for that, run the whole in a container.
"""

from __future__ import annotations

import ast
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zephyr_bench.errors import JudgeUnavailable
from zephyr_bench.expectations import Expected, parse_assert

_RUNNER = Path(__file__).with_name("python_runner.py")
_SECONDS = 5.0
_MOST_OUTPUT = 1 << 16
_READY = b"ready\n"


def passes(code: str, asserts: Sequence[str], *, seconds: float = _SECONDS) -> bool:
    """Whether the code runs and every assert holds after it. Raises JudgeUnavailable where no process starts."""
    expected = [part for text in asserts for part in parse_assert(text)]
    values = _values(code, [part.expression for part in expected], seconds=seconds)
    return len(values) == len(expected) and all(map(_met, expected, values))


def _met(expected: Expected, value: str) -> bool:
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    if expected.identical:
        return type(found) is type(expected.value) and found == expected.value
    return bool(found == expected.value)


def _values(code: str, expressions: Sequence[str], *, seconds: float) -> list[str]:
    """The repr of each expression after the code has run; empty where that went wrong."""
    job = json.dumps({"code": code, "expressions": list(expressions), "seconds": seconds})
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe, tempfile.TemporaryDirectory(prefix="zephyr-bench-") as folder:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", str(_RUNNER), str(writing)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={},
                pass_fds=(writing,),
                start_new_session=True,
            )
        finally:
            os.close(writing)
        try:
            process.communicate(job.encode(), timeout=seconds + 5)  # the interpreter's start is not the code's time
        except subprocess.TimeoutExpired:
            pass
        finally:
            _kill(process)
        told = _read(pipe.fileno())
    if not told.startswith(_READY):
        raise JudgeUnavailable(
            "the limited process for Python in answers did not start (a busy machine, or too low a limit of "
            "memory or files); run again to go on."
        )
    return _strings(told.removeprefix(_READY))


def _read(pipe: int) -> bytes:
    """What is in the pipe; whoever might still hold its other end is waited for a moment only."""
    told = b""
    deadline = time.monotonic() + 1
    while len(told) < _MOST_OUTPUT and select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
        block = os.read(pipe, _MOST_OUTPUT)
        if not block:
            break
        told += block
    return told


def _strings(raw: bytes) -> list[str]:
    try:
        values: Any = json.loads(raw)
    except (ValueError, RecursionError):
        return []
    return values if isinstance(values, list) and all(isinstance(value, str) for value in values) else []


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The process and whatever it left behind."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()
