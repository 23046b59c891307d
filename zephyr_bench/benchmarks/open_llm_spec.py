"""What an Open LLM suite's YAML declares, and which tasks `--tasks` chooses: its own, or any of lm-eval's.

A name of the suite keeps its shots and metric; so does a part of one of its groups. Another name of lm-eval's comes
with lm-eval's own shots and all its metrics, the first of them in front.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from zephyr_bench.benchmarks.lm_eval_index import Leaf, Named, declared_in, look_up, suggestion
from zephyr_bench.benchmarks.open_llm_scores import TaskRule
from zephyr_bench.benchmarks.spec import BenchmarkSpec
from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.recipe import Entry


class TaskSpec(Entry):
    task: str  # lm-eval's name of a task or group
    shots: int | None = Field(ge=0)  # None, of lm-eval's own: as each of its tasks declares
    metric: str | tuple[str, ...]  # several: their mean
    filter: str = "none"  # lm-eval's name of the answer's extraction
    subtasks: tuple[str, ...] = ()  # the tasks of a group to run; empty: all of them
    # answers to choose from, for scores that count from chance; of a group where its subtasks differ, by subtask
    choices: int | dict[str, int] | None = None
    data: str | tuple[str, ...]  # hub id of the data set the task loads
    folder: str | None = None  # of lm_eval/tasks that declares it; saves reading all 14,000 declarations
    tried: bool = False  # an empty reply is graded first, so that a column which only grading reads is missed in time
    rows: int = Field(0, ge=0)  # test rows in all, for the plan
    leaves: int = Field(1, gt=0)  # tasks in a group that is run whole, for the plan
    beside: tuple[str, ...] = ()  # of lm-eval's own: the other metrics, `metric` or `metric,filter`
    pooled: bool = False  # of lm-eval's own groups: the mean over rows, as there

    @model_validator(mode="after")
    def _choices_of_each(self) -> TaskSpec:
        if isinstance(self.choices, dict) and self.subtasks and set(self.subtasks) != set(self.choices):
            raise ValueError(f"choices of {self.task} are not those of its subtasks")
        if any(number < 2 for number in self._numbers()):
            raise ValueError(f"choices of {self.task}: at least 2, or none at all")
        return self

    def _numbers(self) -> list[int]:
        if isinstance(self.choices, dict):
            return list(self.choices.values())
        return [] if self.choices is None else [self.choices]

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.metric,) if isinstance(self.metric, str) else self.metric

    @property
    def data_sets(self) -> tuple[str, ...]:
        return (self.data,) if isinstance(self.data, str) else self.data

    @property
    def own_leaves(self) -> tuple[str, ...]:
        """The tasks of a group that are named here; empty: the whole of it."""
        return self.subtasks or (tuple(self.choices) if isinstance(self.choices, dict) else ())

    def protocol(self) -> dict[str, Any]:
        """What makes two runs of it comparable; `open_llm_scores.TaskRule` reads it."""
        told: dict[str, Any] = {
            "task": self.task,
            "shots": self.shots,
            "metric": self.metric if isinstance(self.metric, str) else list(self.metric),
            "filter": self.filter,
            "subtasks": list(self.own_leaves),
        }
        further = {"choices": self.choices, "beside": list(self.beside), "pooled": self.pooled}
        return told | {key: value for key, value in further.items() if value}

    @property
    def rule(self) -> TaskRule:
        return TaskRule.read(self.protocol())

    def declared(self) -> tuple[Leaf, ...]:
        """What lm-eval runs for it. Raises UserError for a name that lm-eval doesn't have."""
        known = declared_in([self.folder]) if self.folder else look_up(self.task)
        if known is None or self.task not in known.names:
            raise UserError(f"lm-eval has no task '{self.task}'.{suggestion(self.task, [])}")
        found = known.leaves(self.task)
        wanted = self.own_leaves
        if unknown := set(wanted) - {leaf.name for leaf in found}:
            name = min(unknown)
            raise UserError(
                f"task {self.task} has no subtask '{name}'.{did_you_mean(name, [leaf.name for leaf in found])}"
            )
        return tuple(leaf for leaf in found if not wanted or leaf.name in wanted)


class OpenLlmSpec(BenchmarkSpec):
    kind: Literal["open_llm"]
    headline: str = "average"
    chat_template: bool = False  # asked as chats where the tokenizer has a template; --[no-]chat-template goes before
    tasks: tuple[TaskSpec, ...] = Field(min_length=1)
    data: Path | None = None  # a folder in the hub's layout beside the YAML

    @model_validator(mode="after")
    def _names_differ(self) -> OpenLlmSpec:
        if len({task.task for task in self.tasks}) < len(self.tasks):
            raise ValueError("a task stands twice")
        return self


def chosen(declared: Sequence[TaskSpec], names: Sequence[str], benchmark: str) -> tuple[TaskSpec, ...]:
    """The declared tasks, or those of `names`, its own first. Raises UserError for a name that nobody knows."""
    if not names:
        return tuple(declared)
    if "" in names:
        raise UserError("--tasks: a name is empty; separate the names by single commas, as in ifeval,piqa.")
    found: dict[str, TaskSpec] = {}
    for name in names:
        for task in _of_the_suite(declared, name) or _of_lm_eval(declared, name, benchmark):
            earlier = found.get(task.task)
            found[task.task] = task if earlier is None else _both(earlier, task)
    own = [found.pop(task.task) for task in declared if task.task in found]
    return (*own, *found.values())


def _of_the_suite(declared: Sequence[TaskSpec], name: str) -> list[TaskSpec]:
    """A declared task, or the part of a declared group of that name."""
    for task in declared:
        if task.task == name:
            return [task]
        if name in task.own_leaves:
            return [_part(task, (name,), task)]
    for task in declared:
        if task.own_leaves or not name.startswith(f"{task.task}_"):  # parts of whole groups are named after them
            continue
        known = declared_in([task.folder]) if task.folder else look_up(task.task)
        if known is not None and name in known.names:
            inner, outer = ({leaf.name for leaf in known.leaves(part)} for part in (name, task.task))
            if inner < outer:
                return [_part(task, tuple(leaf.name for leaf in known.leaves(name)), task)]
    return []


def _both(one: TaskSpec, other: TaskSpec) -> TaskSpec:
    """Two parts of a group, or a part and the whole."""
    if not one.own_leaves or not other.own_leaves:
        return one if not one.own_leaves else other
    return _part(other, tuple(dict.fromkeys((*one.own_leaves, *other.own_leaves))), one)


def _part(task: TaskSpec, leaves: tuple[str, ...], whole: TaskSpec) -> TaskSpec:
    """The task, run for these of its subtasks."""
    choices = task.choices
    if isinstance(choices, dict):
        other = whole.choices if isinstance(whole.choices, dict) else {}
        choices = {leaf: {**other, **choices}[leaf] for leaf in leaves}
    return task.model_copy(update={"subtasks": leaves, "choices": choices})


def _of_lm_eval(declared: Sequence[TaskSpec], name: str, benchmark: str) -> Iterator[TaskSpec]:
    known = look_up(name)
    if known is None:
        told = suggestion(name, [task.task for task in declared])
        raise UserError(f"--tasks: {benchmark} and lm-eval have no task '{name}'.{told}")
    for found in known.found(name):
        yield from _of_the_suite(declared, found.name) or [_as_lm_eval_runs_it(found)]


def _as_lm_eval_runs_it(found: Named) -> TaskSpec:
    first = found.leaves[0]
    labels = list(dict.fromkeys(label for leaf in found.leaves for label in _labels(leaf)))
    if not labels:
        raise UserError(f"--tasks: lm-eval's '{first.name}' has no metric of which more is better.")
    (metric, extraction), *others = labels
    data = tuple(dict.fromkeys(leaf.data for leaf in found.leaves if leaf.data))
    shots = {leaf.shots for leaf in found.leaves}
    names = tuple(leaf.name for leaf in found.leaves)
    return TaskSpec(
        task=found.name,
        shots=shots.pop() if len(shots) == 1 else None,
        metric=metric,
        filter=extraction,
        subtasks=() if names == (found.name,) else names,
        data=data,
        folder=None,
        leaves=len(names),
        beside=tuple(other if told == "none" else f"{other},{told}" for other, told in others),
        pooled=found.pooled,
    )


def _labels(leaf: Leaf) -> Iterator[tuple[str, str]]:
    for metric in leaf.metrics:
        for extraction in leaf.filters:
            yield metric, extraction


def leaves_by_task(tasks: Sequence[TaskSpec]) -> Mapping[str, tuple[Leaf, ...]]:
    return {task.task: task.declared() for task in tasks}
