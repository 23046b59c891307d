"""Restart points of a training: a killed run goes on from the newest, to the very bits of an unbroken one.

In: a model, its optimiser and the steps so far. Out: folders beside the stage's checkpoint, each there whole or not at
all. Data needs no place of its own: the order of batches hangs on the seed and the number of steps. Rank 0 of several
processes writes and reads for all; another number of them may go on.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_bench.errors import UserError
from zephyr_bench.training_runs.group import ALONE, Group
from zephyr_bench.training_runs.optimizers import put_state, state_of
from zephyr_bench.written_file import flush_folder

if TYPE_CHECKING:
    from zephyr_bench.training_runs.step import Step

_STATE, _STEPS = "state.safetensors", "steps.json"


@dataclass
class RestartPoints:
    """Of one stage with one set of settings, data and parent: `fingerprint`. Others' are never gone on from."""

    folder: Path
    fingerprint: str
    minutes: float | None  # between two of them; 0: after each step, None: never
    kept: int = 2  # the newest may turn out to be on a broken disk
    group: Group = ALONE

    def __post_init__(self) -> None:
        self._last = time.monotonic()

    def due(self, *, early: bool = False) -> bool:
        if self.minutes is None:
            return False
        return self.group.agreed(early or time.monotonic() - self._last >= 60 * self.minutes)

    def save(self, model: Any, optimizer: Any, steps: Sequence[Step]) -> None:
        """Raises UserError where it can't be written; the one before stays."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        state = dict(_state(model, optimizer, self.group))
        if self.group.rank:
            return
        draft = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self.folder))
            save_file(state, draft / _STATE)
            told = {"fingerprint": self.fingerprint, "steps": [asdict(step) for step in steps]}
            (draft / _STEPS).write_text(json.dumps(told), encoding="utf-8")
            flush_folder(draft)
            place = self.folder / f"{len(steps):08d}"
            shutil.rmtree(place, ignore_errors=True)
            draft.rename(place)
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"restart point in {self.folder} can't be written: {reason}; make room and run again with --resume, "
                "or set save_minutes: null."
            ) from None
        finally:
            if draft is not None:
                shutil.rmtree(draft, ignore_errors=True)
        for old in self._places()[self.kept :]:
            shutil.rmtree(old, ignore_errors=True)
        self._last = time.monotonic()

    def restore(self, model: Any, optimizer: Any) -> list[Step]:
        """Puts model and optimiser where the newest point has them; the steps so far, none where there is no point."""
        steps, state = ([], {}) if self.group.rank else self._newest(model)
        steps = self.group.agreed(steps)
        if steps:
            _put(model, optimizer, state, self.group)
        return steps

    def _newest(self, model: Any) -> tuple[list[Step], dict[str, Any]]:
        """The steps and the state of the newest point that is whole and of this training; none of either."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from zephyr_bench.training_runs.step import Step

        for place in self._places():
            try:
                told = json.loads((place / _STEPS).read_text(encoding="utf-8"))
                if told["fingerprint"] != self.fingerprint:
                    continue
                steps = [Step(**step) for step in told["steps"]]
                state = load_file(place / _STATE)
            except (OSError, ValueError, KeyError, TypeError, SafetensorError):
                continue  # spoiled: an older one will do
            if {f"weight/{name}" for name in _learned(model)} <= state.keys():
                return steps, state
        return [], {}

    def clear(self) -> None:
        """Nobody goes on from here any more."""
        if self.group.rank == 0:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _places(self) -> list[Path]:
        """The newest first."""
        return sorted((place for place in self.folder.glob("[0-9]*") if place.is_dir()), reverse=True)


def _state(model: Any, optimizer: Any, group: Group) -> Iterator[tuple[str, Any]]:
    """On rank 0; the others take part."""
    import torch

    for name, part in _learned(model).items():
        yield f"weight/{name}", group.whole(part.detach())
        for key, value in state_of(optimizer, part).items():
            yield f"optimizer/{name}/{key}", group.whole(value)
    for rank, random in enumerate(group.all(torch.get_rng_state())):
        yield _of_rank("random/cpu", rank), random
    if torch.cuda.is_available():
        for rank, random in enumerate(group.all(torch.cuda.get_rng_state(model.device))):
            yield _of_rank("random/cuda", rank), random


def _of_rank(label: str, rank: int) -> str:
    return f"{label}/{rank}" if rank else label


def _learned(model: Any) -> dict[str, Any]:
    """What changes: all weights, or adapters."""
    return {name: part for name, part in model.named_parameters() if part.requires_grad}


def _put(model: Any, optimizer: Any, state: dict[str, Any], group: Group) -> None:
    """What rank 0 has read, into all processes."""
    import torch

    parts = _learned(model)
    kept: dict[str, dict[str, Any]] = {}
    with torch.no_grad():
        for label in group.agreed(list(state)):
            kind, _, rest = label.partition("/")
            if kind == "weight":
                parts[rest].copy_(group.received(state.get(label), parts[rest]))
            elif kind == "optimizer":
                name, _, key = rest.rpartition("/")
                kept.setdefault(name, {})[key] = group.received(state.get(label), parts[name])
    for name, values in kept.items():
        put_state(optimizer, parts[name], values)
    random = group.agreed({label: value for label, value in state.items() if label.startswith("random/")})
    if (own := random.get(_of_rank("random/cpu", group.rank))) is not None:
        torch.set_rng_state(own)
    if (own := random.get(_of_rank("random/cuda", group.rank))) is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(own, model.device)
