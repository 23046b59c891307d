"""What lm-eval declares under a name: its tasks, their metrics, data sets and code. Runs and downloads nothing.

In: a name, and where it is known the folder of lm_eval/tasks that declares it. Out: declarations as plain mappings,
functions in them as strings. Reading all folders takes seconds, so a folder that a name points to is tried first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from zephyr_bench.errors import UserError, did_you_mean

# what a task without a metric_list is measured by, and what is averaged over rows where it doesn't say
# (lm_eval/api/registry.py and metrics.py, 0.4.13)
_DEFAULT_METRICS = {
    "multiple_choice": ("acc", "acc_norm"),
    "loglikelihood": ("acc",),
    "generate_until": ("exact_match",),
}
_DECLARES = re.compile(r"""^["']?(?:task|group)["']? *: *["']?([^\s"'\[#]+)""", re.MULTILINE)
_PACKAGED_READERS = {"json", "csv", "parquet", "text", "arrow", "pandas"}  # of datasets: no names on the hub


@dataclass(frozen=True)
class Leaf:
    """One task that lm-eval runs. `declared` are its keys, with those that a group above it sets."""

    name: str
    declared: Mapping[str, Any]
    overrides: Mapping[str, Any]  # those of groups alone
    manager: Any  # lm-eval's TaskManager that knows it

    @property
    def scored(self) -> bool:
        """Whether it reads log-probabilities; the others read a text."""
        return self.declared.get("output_type", "generate_until") != "generate_until"

    @property
    def data(self) -> str | None:
        """The hub id of its data set."""
        path = self.declared.get("dataset_path")
        return path if isinstance(path, str) and "://" not in path and path not in _PACKAGED_READERS else None

    @property
    def shots(self) -> int:
        return int(self.declared.get("num_fewshot") or 0)

    @property
    def filters(self) -> tuple[str, ...]:
        return tuple(entry["name"] for entry in self.declared.get("filter_list") or ()) or ("none",)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those of which more is better: means over rows before those that code of the task aggregates.

        What is neither (F1 over all rows, perplexity) tells nothing of a single row.
        """
        given = self.declared.get("metric_list")
        if given is None:
            return _DEFAULT_METRICS.get(self.declared.get("output_type", "generate_until"), ())
        wanted = [m for m in given if m.get("higher_is_better", True) and "/" not in str(m["metric"])]
        means = [metric for metric in wanted if _is_mean(metric)]
        others = [metric for metric in wanted if "/" in str(metric.get("aggregation"))]  # a function's file
        return tuple(str(metric["metric"]) for metric in (*means, *others))


@dataclass(frozen=True)
class Named:
    """What a name stands for: a task, or a group that has a score of its own."""

    name: str
    leaves: tuple[Leaf, ...]
    pooled: bool  # the group's score is the mean over all rows, not over its tasks


class Declarations:
    """Those of some folders, or of all."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager  # lm-eval's TaskManager
        self._groups, self._tags = set(manager.all_groups), set(manager.all_tags)

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(self.manager.all_tasks)

    def tagged(self, name: str) -> bool:
        return name in self._tags

    def leaves(self, name: str) -> tuple[Leaf, ...]:
        """A task itself, or the tasks of a group or tag, each once. Raises UserError for what can't be told apart."""
        return tuple({leaf.name: leaf for leaf in self._leaves(name, {})}.values())

    def found(self, name: str) -> tuple[Named, ...]:
        """A group that lm-eval gives no score of its own, or a tag, stands for its members."""
        if name in self._tags:
            members = sorted(self.manager.task_index[name].tags)
            return tuple(found for member in members for found in self.found(member))
        if name not in self._groups:
            return (Named(name, self.leaves(name), pooled=False),)
        declared = self.manager.task_index[name].cfg
        aggregated = declared.get("aggregate_metric_list") or []
        if not aggregated or name == "leaderboard":  # its suite is no task: version 2 declares it
            return tuple(found for item in declared["task"] for found in self._parts(name, item))
        first = aggregated[0] if isinstance(aggregated, list) else aggregated
        return (Named(name, self.leaves(name), pooled=bool(first.get("weight_by_size", True))),)

    def _parts(self, group: str, item: str | Mapping[str, Any]) -> tuple[Named, ...]:
        if isinstance(item, str):
            return self.found(item)
        leaves = self._members({"group": group, "task": [item]}, {})
        return tuple(Named(leaf.name, (leaf,), pooled=False) for leaf in leaves)

    def _leaves(self, name: str | None, overrides: Mapping[str, Any]) -> Iterator[Leaf]:
        entry = self.manager.task_index.get(name)
        if name is None or entry is None:
            raise UserError(
                f"--tasks: a group of lm-eval's has a part{f' {name}' if name else ''} that no file declares; "
                "name the tasks you want."
            )
        if name in self._tags:
            for member in sorted(entry.tags):
                yield from self._leaves(member, overrides)
        elif name in self._groups:
            yield from self._members(entry.cfg, overrides)
        elif "class" in entry.cfg:
            raise UserError(
                f"--tasks: lm-eval's '{name}' is a Python class, which declares neither data nor metrics; "
                "name one that a YAML declares."
            )
        else:
            yield Leaf(name, {**entry.cfg, **overrides}, overrides, self.manager)

    def _members(self, group: Mapping[str, Any], overrides: Mapping[str, Any]) -> Iterator[Leaf]:
        own = {key: value for key, value in group.items() if key not in _group_keys()}
        for item in group["task"]:
            if isinstance(item, str):
                yield from self._leaves(item, {**own, **overrides})
                continue
            inner = {key: value for key, value in item.items() if key not in _group_keys()}
            if isinstance(item.get("task"), list):  # a group declared within a group
                yield from self._members(item, {**own, **overrides})
            else:
                yield from self._leaves(item.get("task") or item.get("group"), {**own, **inner, **overrides})


def declared_in(folders: Sequence[str]) -> Declarations:
    """Of these folders of lm_eval/tasks; of all where one of them is empty."""
    return _declared_in(tuple(sorted(set(folders))))


def look_up(name: str) -> Declarations | None:
    """Where a name is declared, with all that it stands for; None where it is none of lm-eval's."""
    folder = _likely_folder(name) or _written_names().get(name)
    if folder is not None:
        near = declared_in([folder])
        if name in near.names and not near.tagged(name):  # a tag's tasks stand in any folder
            try:
                near.found(name)
            except UserError:  # a part of it is declared elsewhere
                return declared_in([""])
            return near
    if name not in _written_names() and not _is_written(name):
        return None
    everything = declared_in([""])
    return everything if name in everything.names else None


def suggestion(name: str, declared: Sequence[str]) -> str:
    """The closest of the benchmark's own names, else of lm-eval's; where none is close, all of its own."""
    own, theirs = (did_you_mean(name, names) for names in (declared, _written_names()))
    return next((told for told in (own, theirs) if "Did you mean" in told), own)


def _likely_folder(name: str) -> str | None:
    """The folder that is named as the task is, or begins."""
    words = name.split("_")
    folders = ("_".join(words[:count]) for count in range(len(words), 0, -1))
    return next((folder for folder in folders if folder and (_home() / folder).is_dir()), None)


@cache
def _written_names() -> Mapping[str, str]:
    """Task or group -> the folder whose YAML declares it, read off its lines: a tenth of the time of parsing them."""
    found: dict[str, str] = {}
    for file in sorted(_home().glob("**/*.yaml")):
        for line in _DECLARES.finditer(file.read_text(encoding="utf-8", errors="replace")):
            found.setdefault(line[1], file.relative_to(_home()).parts[0])
    return found


def _is_written(word: str) -> bool:
    """Whether some declaration has the word in it: it may be a tag."""
    return any(word in file.read_text(encoding="utf-8", errors="replace") for file in _home().glob("**/*.yaml"))


@cache
def _declared_in(folders: tuple[str, ...]) -> Declarations:
    from lm_eval.tasks import TaskManager

    if not all(folders):
        return Declarations(TaskManager())
    return Declarations(TaskManager(include_path=[str(_home() / name) for name in folders], include_defaults=False))


@cache
def _group_keys() -> frozenset[str]:
    from lm_eval.config.group import GroupConfig

    return frozenset(field.name for field in fields(GroupConfig))


@cache
def _home() -> Path:
    import lm_eval.tasks

    return Path(lm_eval.tasks.__file__).parent


def _is_mean(metric: Mapping[str, Any]) -> bool:
    from lm_eval.api.metrics import mean
    from lm_eval.api.registry import get_metric_aggregation

    given = metric.get("aggregation")
    return given == "mean" if given is not None else get_metric_aggregation(str(metric["metric"])) is mean
