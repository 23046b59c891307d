"""A stage's training while it goes on: what each step showed, looks at held-out rows, evaluations in between.

In: the loop's steps. Out: a live line, values in the store and where the recipe reports to. None of it changes the
training: a look draws no random numbers, and those that an evaluation draws are put back. Knows no loss or benchmark.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.progress import Part, Progress, clock
from zephyr_bench.recipe import Training
from zephyr_bench.store import Store
from zephyr_bench.training_runs.checkpoint import StageRecord
from zephyr_bench.training_runs.group import ALONE, Group
from zephyr_bench.training_runs.reporting import Report, ReportName, open_reports

if TYPE_CHECKING:
    from zephyr_bench.training_runs.step import Step

_RECENT = 10  # steps that the rate is told of


class Evaluations(Protocol):
    """What is done with a model in the midst of its training."""

    def missing(self, stage: str, step: int) -> bool:
        """Whether the model of that step of the stage with that fingerprint is still to be evaluated."""
        ...

    def run(self, model: ModelSource) -> None:
        """Evaluates it; what is known already is not asked again."""
        ...


@dataclass(frozen=True)
class Observers:
    """Who sees a training beside the people in front of it."""

    store: Store | None = None
    report_to: Sequence[ReportName] = ()
    evaluations: Evaluations | None = None


Checkpoint = Callable[[Path, StageRecord, Sequence["Step"]], ModelSource]


class Watch:
    """One stage's training; use it with `with`, around the loop."""

    def __init__(
        self,
        settings: Training,
        record: StageRecord,
        *,
        out: Path,
        progress: Progress,
        observers: Observers,
        checkpoint: Checkpoint,
        look: Callable[[], Mapping[str, float]] | None = None,
        group: Group = ALONE,
    ) -> None:
        """`checkpoint` writes the model as it stands, `look` measures held-out rows by it."""
        self._settings, self._record, self._progress, self._out = settings, record, progress, out
        self._look, self._checkpoint, self._group = look, checkpoint, group
        self._evaluations = observers.evaluations
        store, folder = observers.store, out.parent
        self._open = partial(open_reports, observers.report_to, record, folder=folder, store=store, warn=progress.warn)
        self._reports: Sequence[Report] = ()
        self._line = progress.line()
        self._last: Step | None = None
        self._recent: deque[tuple[int, float]] = deque(maxlen=_RECENT)  # (tokens, seconds)
        self._seen: Mapping[str, float] = {}  # at the last look
        self._first, self._total = 0, 0
        self._began = self._since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.hide()
        for report in self._reports:
            report.close()
        if error is None and self._last:
            took = clock(time.monotonic() - self._began)
            shown = _told(self._parts(self._last, time.monotonic())[2:])
            self._progress.say(f"{self._record.stage}: {self._total} steps in {took}; at the last {shown}")

    def began(self, steps: Sequence[Step], *, total: int) -> None:
        """Those done before, which a restart point kept; `total` with them."""
        self._reports = self._open(done=len(steps), total=total)
        self._first, self._total = len(steps), total
        self._seen = next((step.look for step in reversed(steps) if step.look), {})
        self.evaluate(steps)
        self._began = self._since = time.monotonic()

    def stepped(self, step: Step) -> Step:
        """The step with what a look at held-out rows showed after it, where one was due."""
        seconds = time.monotonic() - self._since
        self._last = step
        self._recent.append((step.tokens, seconds))
        told = {
            "loss": step.loss,
            "learning_rate": step.learning_rate,
            "grad_norm": step.grad_norm,
            "tokens": step.tokens,
            "seconds": seconds,
            **step.watched,
        }
        if self._look and (step.step == self._total or _due(step.step, self._settings.held_out_every)):
            self._seen = self._look()
            step = replace(step, look=self._seen)
            told |= self._seen
        for report in self._reports:
            report.add(step.step, told)
        self._line.show(partial(self._parts, step, time.monotonic()))
        if step.look:
            self._progress.say(f"{self._record.stage}, step {step.step}: {_told(_look_parts(step.look))}")
        return step

    def evaluates(self, step: int) -> bool:
        """Whether `evaluate` will have something to do after that step: what rank 0 says."""
        found = self._evaluations
        return self._midway(step) and self._group.agreed(bool(found and found.missing(self._record.fingerprint, step)))

    def _midway(self, step: int) -> bool:
        """The end is evaluated as the stage's own checkpoint."""
        return 0 < step < self._total and _due(step, self._settings.evaluate_every)

    def evaluate(self, steps: Sequence[Step]) -> None:
        """Has the model as it stands evaluated, where that is due; its checkpoint goes again unless it is to stay."""
        place = self._out.with_name(f"{self._out.name}@{len(steps)}")
        if self.evaluates(len(steps)):
            import torch

            self._line.hide()
            made = self._checkpoint(place, replace(self._record, name=f"{self._record.name}@{len(steps)}"), steps)
            if self._evaluations:
                with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
                    self._evaluations.run(made)
        if self._evaluations and self._midway(len(steps)) and not self._settings.keep_evaluated:
            shutil.rmtree(place, ignore_errors=True)  # a kill may have left it, too
        self._since = time.monotonic()  # neither that nor a restart point's writing is the next step's time

    def _parts(self, step: Step, at: float) -> list[Part]:
        """The most important first. `at`: when the step was done."""
        done, watched = step.step, step.watched
        left = (at - self._began) / max(1, done - self._first) * (self._total - done) - (time.monotonic() - at)
        tokens, seconds = map(sum, zip(*self._recent, strict=True))
        signed = {name: f"{watched[name]:+.3f}" for name in ("margin", "log_ratio") if name in watched}
        return [
            (self._record.stage, f"{done}/{self._total} {100 * done // self._total}%"),
            ("ETA", clock(left)),
            ("loss", f"{step.loss:.4f}"),
            *([("margin", signed["margin"])] if "margin" in signed else []),
            *([("acc", f"{watched['accuracy']:.0%}")] if "accuracy" in watched else []),
            ("tok/s", _rounded(tokens / max(seconds, 1e-9))),
            ("grad", f"{step.grad_norm:.3g}"),
            ("lr", f"{step.learning_rate:.2g}"),
            *_look_parts(self._seen),
            *([("log ratio", signed["log_ratio"])] if "log_ratio" in signed else []),
        ]


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _look_parts(values: Mapping[str, float]) -> list[Part]:
    shown = {"loss": ".4f", "margin": "+.3f", "accuracy": ".0%"}
    found = {name: values.get(f"held_out/{name}") for name in shown}
    parts = [(name, format(value, shown[name])) for name, value in found.items() if value is not None]
    parts[:1] = [(f"held-out {name}", value) for name, value in parts[:1]]
    return [*parts, *([("KL", f"{values['kl']:.4f}")] if "kl" in values else [])]


def _told(parts: Sequence[Part]) -> str:
    return ", ".join(f"{label} {value}".strip() for label, value in parts)


def _rounded(rate: float) -> str:
    return f"{rate / 1000:.1f}k" if rate >= 1000 else f"{rate:.0f}"
