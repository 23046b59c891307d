"""Where the values of a training's steps go beside the screen: the store, and TensorBoard or W&B where a recipe asks.

A training that goes on after a restart point writes later steps again: store and TensorBoard forget what they had of
those, W&B keeps what it had first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

from zephyr_bench.errors import StoreError, UserError, first_line
from zephyr_bench.store import Store, TrainingWriter
from zephyr_bench.training_runs.checkpoint import StageRecord

ReportName = Literal["tensorboard", "wandb"]
_PROJECT = "zephyr-bench"  # W&B's, unless WANDB_PROJECT names one


class Report(Protocol):
    def add(self, step: int, values: Mapping[str, float]) -> None:
        """`step` counts from 1."""
        ...

    def close(self) -> None: ...


def missing_reports(names: Iterable[ReportName]) -> Iterator[str]:
    """What the recipe's `report_to` lacks here, a sentence each."""
    for name in names:
        if find_spec(name) is None:
            yield f"{name}, for the recipe's report_to: run `pip install 'zephyr-bench[{name}]'`"
        elif name == "wandb" and os.environ.get("WANDB_MODE", "online") == "online":
            import wandb

            if not wandb.login(prompt=False, verify=False):
                yield "a login of W&B, for the recipe's report_to: run `wandb login`, or set WANDB_MODE=offline"


def open_reports(
    names: Sequence[ReportName],
    record: StageRecord,
    *,
    folder: Path,
    store: Store | None,
    done: int,
    total: int,
    warn: Callable[[str], None],
) -> list[Report]:
    """For the steps after `done` of `total`; what is written in files goes to `folder`/tensorboard and /wandb.

    `warn` is told, once, that the store can't be written.
    """
    reports: list[Report] = []
    if store is not None:
        training = store.start_training(fingerprint=record.fingerprint, name=record.name, steps=total, done=done)
        reports.append(_InStore(training, warn))
    if "tensorboard" in names:
        reports.append(_TensorBoard(folder / "tensorboard" / f"{record.stage}-{_short(record)}", done=done))
    if "wandb" in names:
        reports.append(_WandB(record, folder))
    return reports


def _short(record: StageRecord) -> str:
    return record.fingerprint.removeprefix("sha256:")[:8]


class _InStore:
    """A store that can't be written ends no training: what it lacks is tried again with later steps.

    Tries that fail may wait for a lock, so they take a tenth of the time at most.
    """

    def __init__(self, training: TrainingWriter, warn: Callable[[str], None]) -> None:
        self._training, self._warn = training, warn
        self._lacking: list[tuple[int, Mapping[str, float]]] = []
        self._again = 0.0  # time.monotonic() of the next try
        self._warned = False

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._lacking.append((step, dict(values)))
        began = time.monotonic()
        if began < self._again:
            return
        if (error := self._try()) is not None:
            self._again = time.monotonic() + 10 * (time.monotonic() - began)
            if not self._warned:
                self._warn(f"{error} The training goes on, and what it sees is kept once the store can be written.")
            self._warned = True

    def close(self) -> None:
        if self._lacking and (error := self._try()) is not None:
            self._warn(f"{error} What was seen of the training in {len(self._lacking)} steps was not kept.")

    def _try(self) -> StoreError | None:
        try:
            self._training.add_all(self._lacking)
        except StoreError as error:
            return error
        self._lacking.clear()
        return None


class _TensorBoard:
    def __init__(self, folder: Path, *, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        try:
            self._writer = SummaryWriter(str(folder), purge_step=done + 1)
        except OSError as error:
            raise UserError(f"report_to tensorboard: {folder} can't be written: {error.strerror}.") from None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name if "/" in name else f"train/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


class _WandB:
    """One run of W&B for each stage; taken up again under the same id."""

    def __init__(self, record: StageRecord, folder: Path) -> None:
        import wandb

        settings: dict[str, Any] = dict(record.settings) | {"recipe": record.recipe, "parent": record.parent.name}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", _PROJECT),
                name=record.name,
                id=f"{record.stage}-{_short(record)}",
                resume="allow",
                dir=str(folder),
                config=settings,
            )
        except (wandb.errors.Error, OSError) as error:
            raise UserError(f"report_to wandb: {first_line(error)}; or set WANDB_MODE=offline.") from None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({name if "/" in name else f"train/{name}": value for name, value in values.items()}, step=step)

    def close(self) -> None:
        self._run.finish()
