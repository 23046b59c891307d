"""The keys and values that the processes of a launch share: torch's TCPStore, which torchrun keeps anyway.

Every call answers at once. Values are bytes; what they mean is data_parallel.py's matter.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from zephyr_bench.engines.launch import Launch
from zephyr_bench.errors import ServiceError, first_line

_TO_CONNECT = timedelta(minutes=5)
_MOST_BYTES = 4 << 20  # of one value; TCPStore takes 8 MiB


class LostContact(ServiceError):
    """The processes of the launch can't reach each other any more."""


class Board:
    """One process's connection. Not thread safe: a thread makes its own."""

    def __init__(self, launch: Launch) -> None:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else C++ writes its stack for a closed connection
        with _contact():
            from torch.distributed import PrefixStore, TCPStore

            store = TCPStore(
                launch.host,
                launch.port,
                is_master=launch.rank == 0 and not launch.kept_by_launcher,
                timeout=_TO_CONNECT,
                wait_for_workers=False,
                multi_tenant=True,
            )
            self._store = PrefixStore(f"zephyr-bench/{launch.attempt}", store)

    def named(self, name: str) -> Any:
        """A store of its own on the same connection: where a group of torch.distributed finds its processes."""
        from torch.distributed import PrefixStore

        return PrefixStore(name, self._store)

    def has(self, key: str) -> bool:
        with _contact():
            return bool(self._store.check([key]))

    def put(self, key: str, value: bytes) -> None:
        """Only once the whole value is there does `has` say so."""
        with _contact():
            starts = range(0, len(value), _MOST_BYTES)
            for number, start in enumerate(starts):
                self._store.set(f"{key}/{number}", value[start : start + _MOST_BYTES])
            self._store.set(key, str(len(starts)))

    def read(self, key: str) -> bytes:
        """A value that is there."""
        with _contact():
            return b"".join(self._store.get(f"{key}/{number}") for number in range(int(self._store.get(key))))

    def take(self, key: str) -> bytes:
        """As `read`; then it is gone."""
        value = self.read(key)
        self.drop(key)
        return value

    def drop(self, key: str) -> None:
        with _contact():
            for number in range(int(self._store.get(key))):
                self._store.delete_key(f"{key}/{number}")
            self._store.delete_key(key)

    def count(self, key: str, by: int = 1) -> int:
        """What the counter says after; no two processes get the same of one that grows."""
        with _contact():
            return int(self._store.add(key, by))


@contextlib.contextmanager
def _contact() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch's DistError is one
        raise LostContact(
            f"the processes of this launch have lost each other ({first_line(error)}); what was done is stored, "
            "run the same command again."
        ) from None
