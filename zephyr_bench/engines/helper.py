"""What a process of rank 1 or higher does: takes pieces of work, loads the model they are for, sends results back.

It ends when rank 0 says so, or can't be reached any more, and always as if all were well: rank 0 tells what went wrong.
Nothing of it goes to stdout. The other side is data_parallel.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Event, Thread
from typing import Any

from zephyr_bench.engines.board import Board, LostContact
from zephyr_bench.engines.launch import Launch, own_device
from zephyr_bench.engines.loading import resolve_device
from zephyr_bench.engines.piece_messages import WORKS, unpack_engine
from zephyr_bench.engines.transformers_engine import TransformersEngine
from zephyr_bench.errors import UserError, ZephyrBenchError, first_line

_SHORTEST_WAIT, _LONGEST_WAIT = 0.02, 0.2  # seconds between two looks for work
_SEND_SECONDS = 0.5  # results are held back so long at most while more come
_BEAT_SECONDS = 0.5
_GRACE_SECONDS = 1.0  # to finish a forward pass once the program has ended


Join = Callable[[Launch, Board, int], None]


def serve(launch: Launch, join: Join) -> None:
    """Returns once the program has ended. `join` does what rank 0 calls all processes to at once: training."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, and rank 0 decides
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # code that comes with a model may print
    over = Event()
    with contextlib.suppress(LostContact):
        board = Board(launch)
        board.count(f"beat/{launch.rank}")  # before any work: only who was heard of once can be missed
        Thread(target=_stay_in_touch, args=(launch, over), daemon=True).start()
        try:
            _Helper(launch, board, join).work()
            board.count("gone")
        finally:
            over.set()


def _stay_in_touch(launch: Launch, over: Event) -> None:
    """Gives signs of life; ends the process where the program ended in the middle of a long computation."""
    with contextlib.suppress(LostContact):
        board = Board(launch)
        while not board.has("end"):
            board.count(f"beat/{launch.rank}")
            if over.wait(_BEAT_SECONDS):
                return
        if over.wait(_GRACE_SECONDS):
            return
        board.count("gone")
    if not over.wait(_GRACE_SECONDS):
        os._exit(0)


class _Helper:
    def __init__(self, launch: Launch, board: Board, join: Join) -> None:
        self._launch = launch
        self._board = board
        self._join = join
        self._joined = 0  # times
        self._engines: dict[str, TransformersEngine] = {}  # those that rank 0 has open

    def work(self) -> None:
        for number, piece in self._pieces():
            call = piece["call"]
            try:
                self._compute(number, piece)
            except LostContact:
                raise
            except ZephyrBenchError as error:
                by = "user" if isinstance(error, UserError) else "service"
                self._tell(call, failed={"by": by, "message": f"process {self._launch.rank} of this launch: {error}"})
            except Exception as error:  # noqa: BLE001 whatever it is, rank 0 must not wait for this piece
                traceback.print_exc()
                message = (
                    f"process {self._launch.rank} of this launch failed ({type(error).__name__}: {first_line(error)}); "
                    "what was done is stored, run the same command again to go on."
                )
                self._tell(call, failed={"by": "service", "message": message})

    def _pieces(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each of the row that falls to this process, until the program ends."""
        while True:
            number = self._board.count("drawn") - 1
            since = time.monotonic()
            while not self._board.has(f"piece/{number}"):
                if self._board.has("end"):
                    return
                self._free()
                if self._board.has(f"join/{self._joined}"):
                    self._board.count(f"joined/{self._joined}")
                    self._join(self._launch, self._board, self._joined)
                    self._joined += 1
                time.sleep(min(max(_SHORTEST_WAIT, (time.monotonic() - since) / 10), _LONGEST_WAIT))
            self._free()
            yield number, json.loads(self._board.take(f"piece/{number}"))

    def _free(self) -> None:
        for name in [name for name in self._engines if self._board.has(f"closed/{name}")]:
            self._engines.pop(name).close()

    def _compute(self, number: int, piece: dict[str, Any]) -> None:
        """Results are sent in small batches as they come; none of a call that rank 0 has broken off."""
        call, work = piece["call"], WORKS[piece["work"]]
        if self._board.has(f"cancelled/{call}"):
            return
        batch: list[Any] = []
        sent = time.monotonic()
        try:
            for result in work.ask(self._engine(piece["engine"]), work.unpack(piece["requests"])):
                batch.append(work.pack_result(result))
                if time.monotonic() - sent > _SEND_SECONDS:
                    if self._board.has("end") or self._board.has(f"cancelled/{call}"):
                        return
                    self._tell(call, piece=number, results=batch, done=False)
                    batch, sent = [], time.monotonic()
        except Exception as error:
            if batch and not isinstance(error, LostContact):
                self._tell(call, piece=number, results=batch, done=False)
            raise
        self._tell(call, piece=number, results=batch, done=True)

    def _engine(self, name: str) -> TransformersEngine:
        if name not in self._engines:
            model, options = unpack_engine(json.loads(self._board.read(f"engine/{name}")))
            device = resolve_device(own_device(options.device, self._launch))
            if device.startswith("cuda"):
                import torch

                torch.cuda.set_device(self._launch.local_rank)  # kernels that are told no device take the current one
            self._engines[name] = TransformersEngine(model, replace(options, device=device))
        return self._engines[name]

    def _tell(self, call: str, **what: Any) -> None:
        place = self._board.count("told") - 1
        self._board.put(f"result/{place}", json.dumps({"call": call, **what}).encode())
