"""Restart points of a training: a killed run goes on from the newest, to the very bits of an unbroken one.

In: a model, its optimiser and the steps so far. Out: folders beside the stage's checkpoint, each there whole or not at
all. Data needs no place of its own: the order of batches hangs on the seed and the number of steps.
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
from zephyr_bench.written_file import flush_folder

if TYPE_CHECKING:
    from zephyr_bench.trainers.loop import Step

_KEPT = 2  # the newest may turn out to be on a broken disk
_STATE, _STEPS = "state.safetensors", "steps.json"


@dataclass
class RestartPoints:
    """Of one stage with one set of settings, data and parent: `fingerprint`. Others' are never gone on from."""

    folder: Path
    fingerprint: str
    minutes: float | None  # between two of them; 0: after each step, None: never

    def __post_init__(self) -> None:
        self._last = time.monotonic()

    def due(self) -> bool:
        return self.minutes is not None and time.monotonic() - self._last >= 60 * self.minutes

    def save(self, model: Any, optimizer: Any, steps: Sequence[Step]) -> None:
        """Raises UserError where it can't be written; the one before stays."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        draft = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self.folder))
            save_file(dict(_state(model, optimizer)), draft / _STATE)
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
        for old in self._places()[_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
        self._last = time.monotonic()

    def restore(self, model: Any, optimizer: Any) -> list[Step]:
        """Puts model and optimiser where the newest point has them; the steps so far, none where there is no point."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from zephyr_bench.trainers.loop import Step

        for place in self._places():
            try:
                told = json.loads((place / _STEPS).read_text(encoding="utf-8"))
                if told["fingerprint"] != self.fingerprint:
                    continue
                steps = [Step(**step) for step in told["steps"]]
                _put(model, optimizer, load_file(place / _STATE))
            except (OSError, ValueError, KeyError, TypeError, SafetensorError):
                continue  # spoiled: an older one will do
            return steps
        return []

    def clear(self) -> None:
        """Nobody goes on from here any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _places(self) -> list[Path]:
        """The newest first."""
        return sorted((place for place in self.folder.glob("[0-9]*") if place.is_dir()), reverse=True)


def _state(model: Any, optimizer: Any) -> Iterator[tuple[str, Any]]:
    import torch

    for name, part in model.named_parameters():
        yield f"weight/{name}", part.detach()
        for key, value in optimizer.state.get(part, {}).items():
            yield f"optimizer/{name}/{key}", value
    yield "random/cpu", torch.get_rng_state()
    if torch.cuda.is_available():
        yield "random/cuda", torch.cuda.get_rng_state(model.device)


def _put(model: Any, optimizer: Any, state: dict[str, Any]) -> None:
    """Raises KeyError, before anything is changed, where a weight is missing."""
    import torch

    parts = dict(model.named_parameters())
    found = {name: state[f"weight/{name}"] for name in parts}
    random = state["random/cpu"]
    with torch.no_grad():
        for name, part in parts.items():
            part.copy_(found[name])
    for label, value in state.items():
        kind, _, rest = label.partition("/")
        if kind == "optimizer":
            name, _, key = rest.rpartition("/")
            optimizer.state[parts[name]][key] = value.to(parts[name].device)
    torch.set_rng_state(random)
    if "random/cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["random/cuda"], model.device)
