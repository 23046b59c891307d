"""What the frozen reference thinks of each answer, computed once and kept by content.

In: the model that training starts from, and pairs. Out: log-probabilities, those known from a file of the user's cache,
the others as they are made, so that a broken-off run or another beta on the same pairs does not pay twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

from platformdirs import user_cache_path

from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.progress import Progress
from zephyr_bench.training_data.tokens import PairExample
from zephyr_bench.training_runs.group import ALONE, Group

_VERSION = 1  # raise it when the same model would give other numbers


class ReferenceLogProbs:
    """log p(answer | prompt) of one model, in a file that only grows."""

    def __init__(self, model: ModelSource, *, dtype: str, folder: Path | None = None, group: Group = ALONE) -> None:
        """All of the group know what rank 0 has read; it alone writes."""
        place = folder or user_cache_path("zephyr-bench") / "reference-log-probs"
        by = [version("torch"), version("transformers"), _VERSION]
        name = fingerprint({"model": model.fingerprint, "dtype": dtype, "by": by})
        self._path = place / f"{name.removeprefix('sha256:')[:32]}.jsonl"
        self.group = group
        self._known = group.agreed({} if group.rank else dict(_read(self._path)))
        self.trouble = ""  # why what is made isn't kept

    def missing(self, examples: Sequence[PairExample]) -> list[PairExample]:
        return [example for example in examples if any(key not in self._known for key in keys_of(example))]

    def add(self, examples: Sequence[PairExample], log_probs: Sequence[Sequence[float]]) -> None:
        """A batch is one line: one that a kill cuts is made again whole, in the same batch, to the same bits."""
        made = {
            key: value
            for example, values in zip(examples, log_probs, strict=True)
            for key, value in zip(keys_of(example), values, strict=True)
        }
        self._known |= made
        if self.group.rank:
            return
        line = json.dumps({key: value for key, value in made.items() if math.isfinite(value)})
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a+b") as file:
                whole = file.tell() == 0 or _last_byte(file) == b"\n"  # else a kill cut the line before
                file.write((b"" if whole else b"\n") + line.encode() + b"\n")
        except OSError as error:
            self.trouble = f"{self._path} can't be written ({error.strerror}): the reference is asked again next time"

    def of(self, example: PairExample) -> tuple[float, ...]:
        """Of each answer, in their order."""
        return tuple(self._known[key] for key in keys_of(example))


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, 2)
    return file.read(1)


def keys_of(example: PairExample) -> list[str]:
    return [fingerprint([before, answer])[-32:] for before, answer in example.sides]


def _read(path: Path) -> Iterator[tuple[str, float]]:
    """A line that was cut by a kill, or that someone spoiled, is computed again."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        try:
            made = json.loads(line)
        except ValueError:
            continue
        if isinstance(made, dict):
            yield from ((key, value) for key, value in made.items() if isinstance(value, float))


def reference_log_probs(
    predictor: Any, examples: Sequence[PairExample], known: ReferenceLogProbs, *, rows: int, progress: Progress
) -> list[tuple[float, ...]]:
    """Of each example's answers. `predictor` runs the reference; each process `rows` examples at a time."""
    import torch

    group = known.group
    missing = sorted(known.missing(examples), key=lambda example: example.tree.size)
    starts = range(0, len(missing), rows * group.world)
    for first in progress.track(starts, what="ddpo: reference", total=len(starts), unit="batches"):
        parts = [missing[first + rank * rows :][:rows] for rank in range(group.world)]
        own = parts[group.rank] or missing[:1]  # whoever has nothing left keeps step
        with torch.no_grad():
            sums = predictor([example.tree for example in own]).sums
        for batch, made in zip(parts, group.all(sums.view(len(own), -1).tolist()), strict=True):
            if batch:
                known.add(batch, made)
    if known.trouble:
        progress.warn(f"ddpo: {known.trouble}")
    return [known.of(example) for example in examples]
