"""Folders that a trainer writes checkpoints into: which are there, in which order, and whether one is whole.

In: a folder that is a checkpoint, or holds some, or folders with some. Out: their places and steps. Looks at names,
sizes and headers; hashes and loads nothing. Ours appear whole, by a rename; transformers' checkpoint-N grow in their
place, with trainer_state.json written last.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_bench.engines.model_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    INDEX,
    LINEAGE,
    SMALL_FILES,
    is_adapter,
    need_small_files,
    weight_files,
)
from zephyr_bench.errors import UserError

SETTLED_SECONDS = 5.0  # without a change, where no trainer's last file tells that the folder is done
_OLD_SECONDS = 600.0  # by the disk's clock, which may be another host's and some minutes off
_LAST_WRITTEN = {"trainer_state.json": "global_step", LINEAGE: "steps"}  # file -> where it tells the step
_STEP = re.compile(r"(?:.*[-_.])?(?:checkpoint|ckpt|global_?step|step|iter)[-_]?(\d+)", re.IGNORECASE)
_OUR_STEP = re.compile(r"(.+)@(\d+)")  # ddpo@200 is in the midst of ddpo
_UNFINISHED = (".", "tmp-")  # our drafts and restart points; transformers 4.36 renamed tmp-checkpoint-N at the end
_MATTERS = (".json", ".safetensors", ".jinja", ".model", ".txt", ".py")  # a log in the folder may never rest
_LONGEST_HEADER = 100_000_000  # bytes, as safetensors allows

State = Mapping[str, tuple[int, int]]
"""A folder's files that matter: name -> (bytes, last change in nanoseconds since 1970)."""


@dataclass(frozen=True)
class Folder:
    """A checkpoint's, finished or not. `step` is None where neither its name nor a file in it tells."""

    path: Path
    name: str
    step: int | None
    training: Path  # where the training it belongs to leaves its final model
    written: int = 0  # when its weights were, in nanoseconds since 1970

    @property
    def is_final(self) -> bool:
        return self.path == self.training


def checkpoint_folders(root: Path) -> list[Folder]:
    """In their order: the training that wrote last at the end, and in it the highest step, or its final model.

    A final model that is older than a checkpoint of its training is of an earlier run; it stands by its step, or first.
    """
    places = [path for path in _folders(root) if _is_checkpoint(path)]
    names = Counter(path.name for path in places)
    found = [Folder(path, _name(path, names), *_step(path), _written(path)) for path in places]
    wrote = Counter[Path]()
    for folder in found:
        wrote[folder.training] = max(wrote[folder.training], folder.written)

    def order(folder: Folder) -> tuple[int, str, bool, int, str]:
        last = (folder.is_final or folder.step is None) and folder.written >= wrote[folder.training]
        return wrote[folder.training], str(folder.training), last, folder.step or 0, folder.name

    return sorted(found, key=order)


def newest_last(folders: Iterable[Folder]) -> list[Folder]:
    """By when their weights were written, and of one time in the order they have.

    A training that began anew leaves the old one's checkpoint-500 beside its own checkpoint-100.
    """
    return sorted(folders, key=lambda folder: folder.written)


def lacking(path: Path) -> str | None:
    """What keeps a checkpoint from being read, by its files alone; None where they are whole."""
    try:
        if is_adapter(path):
            weights = [ADAPTER_WEIGHTS]
        else:
            need_small_files(path)
            weights = weight_files(path)
        for name in (*SMALL_FILES, *_LAST_WRITTEN, ADAPTER_CONFIG):
            if name.endswith(".json") and (path / name).is_file():
                _read_json(path / name)
        for name in weights:
            _check_length(path / name)
    except FileNotFoundError as error:
        return f"{error.filename} is missing"
    except OSError as error:
        return f"{error.filename} can't be read: {error.strerror}"
    except UserError as error:
        return str(error).removesuffix(".")
    return None


def state_of(path: Path) -> State:
    """Empty where the folder is gone."""
    found = {}
    for file in _entries(path):
        if file.name.endswith(_MATTERS):
            try:
                told = file.stat()
            except OSError:  # deleted since
                continue
            # not the time of modification: a copy may keep that of the original
            found[file.name] = (told.st_size, told.st_ctime_ns)
    return found


class Settling:
    """Tells folders that rest from those that are being written, over several looks."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since 1970."""
        self._clock = clock
        self._seen: dict[Path, tuple[State | None, float]] = {}

    def rests(self, path: Path, state: State) -> bool:
        """Whether nothing has changed for a while, or nothing after the file that its trainer writes last."""
        now = self._clock()
        before, since = self._seen.get(path, (None, now))
        if state != before:
            self._seen[path], since = (state, now), now
        if not state:  # made a moment ago, for all that is known
            return now - since >= SETTLED_SECONDS
        newest = max(changed for _, changed in state.values())
        # a disk's clock ticks in milliseconds: what has the same time may have been written after it
        ended = any(
            [name for name, (_, changed) in state.items() if changed == newest] == [last] for last in _LAST_WRITTEN
        )
        return ended or now - since >= SETTLED_SECONDS or now - newest / 1e9 >= _OLD_SECONDS


def _folders(root: Path) -> Iterator[Path]:
    """The root and two levels below it, each once: a link such as `latest` is its target.

    What lies in a step's own folder is a part of it, as DeepSpeed's checkpoint-500/global_step500.
    """
    below = _below(root.resolve())
    deeper = [path for folder in below for path in _below(folder)]
    yield from dict.fromkeys(path.resolve() for path in (root, *below, *deeper))


def _below(folder: Path) -> list[Path]:
    entries = _entries(folder)
    if _STEP.fullmatch(folder.name) and any(file.name.endswith(_MATTERS) for file in entries):
        return []
    return [path for path in entries if _may_hold(path)]


def _name(path: Path, names: Mapping[str, int]) -> str:
    return path.name if names[path.name] == 1 else f"{path.parent.name}/{path.name}"


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # gone since, or nobody may look
        return []


def _may_hold(path: Path) -> bool:
    return not path.name.startswith(_UNFINISHED) and path.is_dir()


def _is_checkpoint(path: Path) -> bool:
    """By its name, or by weights in it; a config alone may be written long before."""
    if _STEP.fullmatch(path.name):
        return True
    names = [file.name for file in _entries(path)]
    return any(name.endswith(".safetensors") or name == INDEX or _is_pickled(name) for name in names)


def _is_pickled(name: str) -> bool:
    """Weights that can't be taken, which is worth saying; training_args.bin is none."""
    return name.startswith("pytorch_model") and name.endswith(".bin")


def _step(path: Path) -> tuple[int | None, Path]:
    """(the step, the place of its training's final model)"""
    if ours := _OUR_STEP.fullmatch(path.name):
        return int(ours[2]), path.with_name(ours[1])
    if theirs := _STEP.fullmatch(path.name):
        return int(theirs[1]), path.parent
    for name, key in _LAST_WRITTEN.items():
        try:
            told = _read_json(path / name)
        except (OSError, UserError):  # not there, or not yet
            continue
        step = told.get(key) if isinstance(told, dict) else None
        if isinstance(step, int):
            return step, path
    return None, path


def _written(path: Path) -> int:
    """When its weights were, in nanoseconds since 1970; a copy may keep the original's time, which is what is meant."""
    times = [0]
    for file in _entries(path):
        if file.suffix == ".safetensors":
            try:
                times.append(file.stat().st_mtime_ns)
            except OSError:
                continue
    return max(times)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON, or only the beginning of it: {error}.") from None


def _check_length(path: Path) -> None:
    """Raises UserError for a safetensors file that is shorter or longer than its header says, or has none."""
    length = path.stat().st_size
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
        if not 0 < header <= min(_LONGEST_HEADER, length - 8):
            raise UserError(f"{path} ends before its header does, or is no safetensors file.")
        try:
            tensors = json.loads(file.read(header))
            ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
            told = 8 + header + max(ends, default=0)
        except (ValueError, RecursionError, AttributeError, LookupError, TypeError):
            raise UserError(f"{path} has a header that is none of safetensors.") from None
    if length != told:
        raise UserError(f"{path} has {length:,} bytes, and its header says {told:,}.")
