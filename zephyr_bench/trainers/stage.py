"""The end that every stage has: go on from a restart point or begin, learn, write the checkpoint.

In: a model and what it learns. Out: the checkpoint. Knows no dialogues and no pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Training
from zephyr_bench.training_runs.checkpoint import StageRecord, restart_points, save
from zephyr_bench.training_runs.parallel import Group
from zephyr_bench.training_runs.watching import Observers, Watch

if TYPE_CHECKING:
    from zephyr_bench.trainers.loop import Task
    from zephyr_bench.training_runs.step import Step

Item = TypeVar("Item")


def learn(
    model: Any,
    tokenizer: Any,
    task: Task[Item],
    stage: Training,
    record: StageRecord,
    *,
    out: Path,
    resume: bool,
    group: Group,
    progress: Progress,
    observers: Observers,
    look: Callable[[], Mapping[str, float]] | None = None,
    check: Callable[[Step], None] = lambda _: None,
) -> ModelSource:
    """The checkpoint in `out`. `look` measures held-out rows; `check` may raise on seeing a step."""
    from zephyr_bench.trainers.loop import train

    restart = restart_points(out, record, stage, resume=resume, group=group)
    keep = partial(save, model, tokenizer, group=group)
    watched = Watch(
        stage, record, out=out, progress=progress, observers=observers, checkpoint=keep, look=look, group=group
    )
    with watched as watch:
        steps = train(
            model,
            task,
            stage,
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
