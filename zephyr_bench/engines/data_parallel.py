"""One engine's work shared by the processes of a launch; this is the side of rank 0, which is the program.

In: requests, and how to compute a piece of them here. Out: the same results that one process gives, as they come.
Pieces lie in one endless numbered row. Each process draws the next number and computes that piece, rank 0 too; results
come back in a row of their own. The other side is helper.py.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Any

from zephyr_bench.engines.board import Board
from zephyr_bench.engines.launch import Launch, idle_others, own_device
from zephyr_bench.engines.piece_messages import COMPLETE, SCORE, Work, pack_engine
from zephyr_bench.engines.pieces import cut, shares
from zephyr_bench.engines.protocol import CompletionRequest, EngineOptions, ModelSource
from zephyr_bench.errors import ServiceError, UserError
from zephyr_bench.records import Generation, ScoredTokens, ScoreRequest

if TYPE_CHECKING:
    from zephyr_bench.engines.rows import Follow

_LOOK_SECONDS = 0.02  # between two looks for results
_WATCH_SECONDS = 1.0  # between two looks at who is alive; a helper tells it as often
_SILENT = 60  # such looks in a row without a sign of life
_NOT_BEGUN = 600  # such looks without the first one: a slow disk may have much to read before
_TO_END_SECONDS = 10.0  # for helpers to go; they may still be starting
_TO_END_BADLY_SECONDS = 2.0  # where one may be dead
_AT_ONCE = {"cpu": 4096, "cuda": 32768}  # tokens of a forward pass, about; loading.py knows better once it has weights

_crew: Crew | None = None


def current_crew() -> Crew | None:
    """The processes that help this one, if any do."""
    return _crew


@contextlib.contextmanager
def crew_of(launch: Launch) -> Iterator[None]:
    """While it lasts, engines that are opened are helped by the other processes; then those end."""
    global _crew
    _crew = crew = Crew(launch, Board(launch))
    wait = _TO_END_SECONDS
    try:
        yield
    except ServiceError:
        wait = _TO_END_BADLY_SECONDS
        raise
    finally:
        _crew = None
        crew.end(wait)


class Crew:
    """Rank 0's view of all processes. One call is shared at a time; another that comes meanwhile is computed here."""

    def __init__(self, launch: Launch, board: Board) -> None:
        self.launch = launch
        self._board = board
        self._lock = Lock()
        self._numbers = count()  # of engines and of calls
        self._joined = count()
        self._idle: set[str] = set()
        self._laid = 0  # pieces in the row so far
        self._drawn: int | None = None  # a number of ours whose piece is not there yet
        self._results_read = 0
        self._looked = self._watched = 0.0
        self._beats = [0] * launch.world
        self._silent = [0] * launch.world

    def own_options(self, options: EngineOptions) -> EngineOptions:
        return replace(options, device=own_device(options.device, self.launch))

    def does_not_help(self, engine: str) -> None:
        """Says so, once."""
        if engine not in self._idle:
            self._idle.add(engine)
            sys.stderr.write(idle_others(self.launch, f"engine {engine}"))

    @contextlib.contextmanager
    def joined(self) -> Iterator[int]:
        """While it lasts the helpers do with rank 0 what it calls them to by this number, and engines work alone.

        It begins when all have heard. Raises ServiceError for one that is gone or never came: who waits for it in
        torch.distributed would wait for a day.
        """
        with self._lock:
            number = next(self._joined)
            self._board.put(f"join/{number}", b"")
            while self._board.count(f"joined/{number}", 0) < self.launch.world - 1:
                time.sleep(_LOOK_SECONDS)
                self._watch(expected=True)
            yield number

    def announce(self, model: ModelSource, options: EngineOptions) -> str:
        """The name under which helpers find the engine."""
        name = str(next(self._numbers))
        self._board.put(f"engine/{name}", json.dumps(pack_engine(model, options)).encode())
        return name

    def close(self, engine: str) -> None:
        self._board.put(f"closed/{engine}", b"")

    def shared(
        self,
        work: Work,
        engine: Callable[[], str],
        pieces: Sequence[Sequence[Any]],
        here: Callable[[list[Any]], Iterator[Any]],
    ) -> Iterator[Any]:
        """Results of all pieces, by their requests' keys. Raises what a helper raised, or ServiceError for its end."""
        if len(pieces) < 2 or not self._lock.acquire(blocking=False):
            for piece in pieces:
                yield from here(list(piece))
            return
        call = str(next(self._numbers))
        left = set(range(self._laid, self._laid + len(pieces)))
        try:
            own = dict(zip(sorted(left), pieces, strict=True))
            for number, piece in own.items():
                message = {"engine": engine(), "call": call, "work": work.name, "requests": work.pack(piece)}
                self._board.put(f"piece/{number}", json.dumps(message).encode())
                self._laid += 1
            while left:
                if (piece_here := self._draw(own)) is not None:
                    for result in here(list(own[piece_here])):
                        yield result
                        yield from self._arrived(work, call, own, left)
                    left.discard(piece_here)
                elif left:
                    time.sleep(_LOOK_SECONDS)
                    self._watch()
                yield from self._arrived(work, call, own, left)
        finally:
            self._lock.release()
            if left:
                with contextlib.suppress(ServiceError):
                    self._board.put(f"cancelled/{call}", b"")

    def _draw(self, own: dict[int, Sequence[Any]]) -> int | None:
        """The next piece in the row, ours to compute; None where all are taken. What was cancelled is passed over."""
        while True:
            if self._drawn is None:
                self._drawn = self._board.count("drawn") - 1
            if self._drawn >= self._laid:
                return None  # the number is kept for the next call
            number, self._drawn = self._drawn, None
            self._board.drop(f"piece/{number}")
            if number in own:
                return number

    def _arrived(self, work: Work, call: str, own: dict[int, Sequence[Any]], left: set[int]) -> Iterator[Any]:
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        while self._board.has(f"result/{self._results_read}"):
            told = json.loads(self._board.take(f"result/{self._results_read}"))
            self._results_read += 1
            if told["call"] != call:
                continue  # of one that was broken off
            if failed := told.get("failed"):
                raise (UserError if failed["by"] == "user" else ServiceError)(failed["message"])
            for packed in told["results"]:
                result = work.unpack_result(packed)
                yield replace(result, key=own[told["piece"]][int(result.key)].key)
            if told["done"]:
                left.discard(told["piece"])
        self._looked = time.monotonic()

    def _watch(self, *, expected: bool = False) -> None:
        """Raises ServiceError for a helper that has begun and gives no sign of life any more.

        `expected`: for one that hasn't begun, too, after a longer while. Looks are counted, and not seconds: the whole
        launch may have been stopped for a while.
        """
        if time.monotonic() - self._watched < _WATCH_SECONDS:
            return
        self._watched = time.monotonic()
        for rank in range(1, self.launch.world):
            beats = self._board.count(f"beat/{rank}", 0)
            self._silent[rank] = self._silent[rank] + 1 if beats == self._beats[rank] else 0
            self._beats[rank] = beats
            if beats and self._silent[rank] > _SILENT:
                raise ServiceError(
                    f"process {rank} of this launch has died or hangs: nothing was heard of it for a minute; "
                    "what was done is stored, run the same command again to go on."
                )
            if expected and not beats and self._silent[rank] > _NOT_BEGUN:
                raise ServiceError(
                    f"process {rank} of this launch has not begun for {_NOT_BEGUN // 60} minutes; look at what its own "
                    "machine says, and run the same command again."
                )

    def end(self, wait: float) -> None:
        """Tells the helpers, and waits until they are gone: a launcher makes noise about those that stay longer."""
        with contextlib.suppress(ServiceError):
            self._board.put("end", b"")
            deadline = time.monotonic() + wait
            while self._board.count("gone", 0) < self.launch.world - 1 and time.monotonic() < deadline:
                time.sleep(_LOOK_SECONDS)


class SharedWork:
    """What an engine of rank 0 asks instead of its own model."""

    def __init__(self, crew: Crew, model: ModelSource, options: EngineOptions) -> None:
        self._crew = crew
        self._model = model
        self._options = options
        self._name: str | None = None

    def score(
        self, requests: Sequence[ScoreRequest], here: Callable[[list[ScoreRequest]], Iterator[ScoredTokens]]
    ) -> Iterator[ScoredTokens]:
        kind = own_device(self._options.device, self._crew.launch).partition(":")[0]
        pieces = cut(requests, ranks=self._crew.launch.world, at_once=_AT_ONCE.get(kind, _AT_ONCE["cuda"]))
        yield from self._crew.shared(SCORE, self._engine, pieces, here)

    def complete(
        self,
        requests: Sequence[CompletionRequest],
        then: Follow,
        here: Callable[[list[CompletionRequest]], Iterator[Generation]],
    ) -> Iterator[Generation]:
        """In waves: what follows from results is asked once all of them are there.

        What `then` raises of a user's mistake is raised once everything else has ended.
        """
        refused: list[UserError] = []

        def after(result: Generation) -> list[CompletionRequest]:
            try:
                return list(then(result))
            except UserError as error:
                refused.append(error)
                return []

        wave = list(requests)
        while wave:
            following = {request.key: after(request.made) if request.made else [] for request in wave}
            ranks = self._crew.launch.world
            for result in self._crew.shared(COMPLETE, self._engine, shares(wave, ranks=ranks), here):
                yield result
                following[result.key] = after(result)
            wave = [request for requests in following.values() for request in requests]
        for error in refused[:1]:
            raise error

    def close(self) -> None:
        """The helpers' weights too."""
        if self._name is not None:
            self._crew.close(self._name)
            self._name = None

    def _engine(self) -> str:
        if self._name is None:
            self._name = self._crew.announce(self._model, self._options)
        return self._name
