"""What every stage has: where it begins, and its end: go on from a restart point or begin, learn, write the checkpoint.

In: a model and what it learns. Out: the checkpoint. Knows no dialogues and no pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe, Training
from zephyr_bench.training_runs.checkpoint import StageRecord, load_for_training, restart_points, save
from zephyr_bench.training_runs.group import Group
from zephyr_bench.training_runs.watching import Observers, Watch

if TYPE_CHECKING:
    from zephyr_bench.trainers.loop import Task
    from zephyr_bench.training_runs.step import Step

Item = TypeVar("Item")


@dataclass(frozen=True)
class StageJob:
    """What is to be done, the same in all processes that train together."""

    settings: Training
    record: StageRecord
    recipe: Recipe
    out: Path
    device: str
    resume: bool  # go on from a restart point
    include: tuple[Path, ...] = ()  # where models' names are declared, too

    def load(self, group: Group) -> tuple[Any, Any]:
        """(model on this process's device, tokenizer)."""
        device = group.device(self.device)
        return load_for_training(
            self.record.parent, self.settings, recipe=self.recipe, device=device, include=self.include
        )


def learn(
    model: Any,
    tokenizer: Any,
    task: Task[Item],
    job: StageJob,
    *,
    group: Group,
    progress: Progress,
    observers: Observers,
    look: Callable[[], Mapping[str, float]] | None = None,
    check: Callable[[Step], None] = lambda _: None,
) -> ModelSource:
    """The checkpoint in the job's `out`. `look` measures held-out rows; `check` may raise on seeing a step."""
    from zephyr_bench.trainers.loop import train

    settings, record, out = job.settings, job.record, job.out
    restart = restart_points(out, record, settings, resume=job.resume, group=group)
    keep = partial(save, model, tokenizer, group=group)
    watched = Watch(
        settings, record, out=out, progress=progress, observers=observers, checkpoint=keep, look=look, group=group
    )
    with watched as watch:
        steps = train(
            model,
            task,
            settings,
            seed=record.seed,
            what=record.stage,
            progress=progress,
            watch=watch,
            check=check,
            restart=restart,
            group=group,
        )
    made = keep(out, record, steps)
    restart.clear()
    return made
