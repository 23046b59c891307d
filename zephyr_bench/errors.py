"""The one tree of errors. A message is one sentence for a reader: what, where, expected, what to do.

Exit codes: 0 done, 1 the gate found a regression, 2 the user's mistake, 3 the gate can't tell,
4 an outside service failed after retries, 70 a fault of zephyr-bench's own (sysexits.h: EX_SOFTWARE), 130 interrupted,
141 whoever read stdout went away (as a shell tells SIGPIPE; of the gate the verdict's code all the same).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_FAULT = 70
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141


class ZephyrBenchError(Exception):
    """Everything this package raises on purpose; the command line prints it without a traceback."""

    exit_code = 2


class UserError(ZephyrBenchError):
    """Something the user can put right: a name, a file, a key, a missing package."""

    exit_code = 2


class StoreError(UserError):
    """The results store can't be opened or written."""


class MissingParts(UserError):
    """What a command needs and lacks; all is told at once, before any work."""

    def __init__(self, what: str, parts: Iterable[str]) -> None:
        self.parts = tuple(parts)
        if len(self.parts) == 1:
            super().__init__(f"{what} can't start: {self.parts[0].removesuffix('.')}.")
        else:
            super().__init__(f"{what} can't start; missing:" + "".join(f"\n  - {part}" for part in self.parts))


class ServiceError(ZephyrBenchError):
    """An outside service failed for good, after retries; what was done before is stored."""

    exit_code = 4


class JudgeUnavailable(ServiceError):
    """A judge's calls failed for good; every verdict that did arrive was yielded before this."""


class BudgetReached(ServiceError):
    """The next paid call could go over the user's limit; what was done before is stored."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' Did you mean a or b?' for the closest of `known`, else ' Known: …'."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    if close:
        return f" Did you mean {' or '.join(close)}?"
    return f" Known: {', '.join(known)}." if known else ""


def first_line(error: BaseException) -> str:
    """What another library's error says in its first line, or what kind it is where it says nothing."""
    told = str(error).strip()
    return told.splitlines()[0] if told else type(error).__name__
