"""Runs lm-eval's tasks on one of our engines: its definitions unchanged but for the data's place and the shots.

In: tasks, an engine, where answers and scores are kept. Out: for each row, what lm-eval's metrics say of it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from zephyr_bench.benchmarks import punkt
from zephyr_bench.benchmarks.lm_eval_chance import (
    FEWSHOT_SEED,
    draw_apart,
    lm_evals_chance,
    repeatable_language_detection,
)
from zephyr_bench.benchmarks.lm_eval_index import Leaf
from zephyr_bench.benchmarks.lm_eval_rows import Source, tell_of_rows, told_as, try_grading


@dataclass(frozen=True)
class Row:
    """What a metric says of one row: a number, or one for each of its parts (IFEval's instructions)."""

    leaf: str
    number: int
    metric: str
    filter: str
    values: tuple[float, ...]
    whole: bool  # one number for the row; else one a part


def evaluated(
    model: Any, tasks: Any, *, name: str, limit: int | None, chat_template: bool
) -> Iterator[tuple[Row, Mapping[str, float]]]:
    """Each row, with lm-eval's own scores of its task by `metric,filter`. `tasks` are of `loaded`."""
    from lm_eval.evaluator import evaluate

    with lm_evals_chance():
        found = evaluate(
            lm=model,
            task_dict=tasks,
            limit=limit,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=chat_template,
            fewshot_as_multiturn=chat_template,
        )
    for leaf, records in found["samples"].items():
        own = {key: value for key, value in found["results"][leaf].items() if isinstance(value, int | float)}
        for record in records:
            for metric in record["metrics"]:
                parts = record[metric] if isinstance(record[metric], list) else [record[metric]]
                if all(isinstance(part, int | float | np.number | np.bool_) for part in parts):
                    numbers = tuple(map(float, parts))
                    whole = parts is not record[metric]
                    yield Row(leaf, record["doc_id"], metric, record["filter"], numbers, whole), own


def loaded(
    leaves: Sequence[tuple[Leaf, int | None]],
    *,
    name: str,
    place: Callable[[str], tuple[Path, str] | None],
    tried: Collection[str] = (),
) -> dict[str, Any]:
    """lm-eval's task objects, with their data: each leaf with its shots, None where lm-eval's own.

    `place` is where a data set lies, with the fingerprint of what it holds; None where on the hub. Of the leaves
    `tried` an empty reply is graded. Raises UserError for data that can't be loaded or isn't as a task expects.
    """
    _hush()
    punkt.let_nltk_find_it()
    repeatable_language_detection()
    found: dict[str, Any] = {"tasks": {}, "groups": {}, "group_map": {}}
    for leaf, shots in leaves:
        wanted: dict[str, Any] = {**leaf.overrides, "task": leaf.name}
        if shots is not None:
            wanted["num_fewshot"] = shots
        at, advice = f"{leaf.data} of the hub", "name a folder in the hub's layout that has it by --data"
        if (found_at := place(leaf.data or "")) is not None:
            folder, content = found_at
            at, advice = str(folder), ""
            own = leaf.declared.get("dataset_kwargs") or {}
            wanted |= {"dataset_path": str(folder), "dataset_kwargs": {**own, "cache_dir": _datasets_cache(content)}}
        source = Source(f"{name}: {leaf.name}", at)
        # a group of ours: the one public way to load lm-eval's tasks with keys of theirs overridden
        with told_as(source.no_data, advice=advice), lm_evals_chance():
            made = leaf.manager.load([{"group": name, "task": [wanted]}])
        for task in made["tasks"].values():
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=FEWSHOT_SEED)
            if leaf.name in tried:
                with lm_evals_chance():
                    try_grading(task, source)
            draw_apart(task)
            tell_of_rows(task, source)
        found["tasks"] |= made["tasks"]
    return found


def _datasets_cache(content: str) -> str:
    """Our own cache of prepared data sets, a folder for each content: the same from any working directory.

    Offline, datasets knows files by their names, and would give another folder's rows for those of the same names.
    """
    from platformdirs import user_cache_path

    return str(user_cache_path("zephyr-bench") / "datasets" / content.removeprefix("sha256:"))


def _hush() -> None:
    """lm-eval and datasets draw bars and log at length on stderr; ours says how far it is."""
    import datasets
    import lm_eval.api.task
    from tqdm import tqdm

    datasets.disable_progress_bars()
    lm_eval.api.task.tqdm = partial(tqdm, disable=True)  # it has no switch, and TQDM_DISABLE is read too early
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    logging.getLogger("datasets").setLevel(logging.CRITICAL)  # of what it raises we tell
    warnings.filterwarnings("ignore", module="lm_eval")
