"""Which benchmark lm-eval's results are of: a version of the Open LLM Leaderboard, told by tasks and shots, or a named
one of that kind.

In: results, or names of tasks. Out: the benchmark with the owner of each task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.open_llm import OpenLlm
from zephyr_bench.benchmarks.open_llm_spec import TaskSpec
from zephyr_bench.errors import UserError
from zephyr_bench.interop.lm_eval_names import NO_FILTER, Label
from zephyr_bench.interop.lm_eval_results import LeafResults, Results

_VERSIONS = ("open-llm-1", "open-llm-2")


@dataclass(frozen=True)
class Suite:
    """A benchmark whose tasks are lm-eval's."""

    benchmark: OpenLlm

    @property
    def name(self) -> str:
        return self.benchmark.name

    @property
    def tasks(self) -> Sequence[TaskSpec]:
        return self.benchmark.tasks

    @cached_property
    def leaves(self) -> Mapping[str, tuple[str, ...]]:
        """What lm-eval runs for each task."""
        return {task.task: tuple(leaf.name for leaf in task.declared()) for task in self.tasks}

    @cached_property
    def owners(self) -> Mapping[str, TaskSpec]:
        return {leaf: task for task in self.tasks for leaf in self.leaves[task.task]}

    def labels(self, leaf: str) -> tuple[Label, ...]:
        """Whose values count there."""
        task = self.owners[leaf]
        return tuple((metric, task.filter) for metric in task.metrics)

    def beside(self, leaf: str) -> dict[Label, str]:
        """Further metrics, with their names among our samples."""
        found = {}
        for name in self.owners[leaf].beside:
            metric, _, extraction = name.partition(",")
            found[metric, extraction or NO_FILTER] = name
        return found

    def other_shots(self, leaves: Mapping[str, LeafResults]) -> str | None:
        """Which task was run with another number of shots than it has here, as far as the files tell."""
        for leaf, found in leaves.items():
            wanted = self.owners[leaf].shots if leaf in self.owners else None
            if wanted is not None and found.shots not in (None, wanted):
                return f"{found.name} was run with {found.shots} shots, and {self.name} asks it with {wanted}"
        return None


@dataclass(frozen=True)
class Choice:
    """How the benchmark is found: the one that was named, or by content."""

    named: str | None
    include: tuple[Path, ...] = ()

    def of_results(self, results: Results) -> Suite:
        """Raises UserError for tasks, or shots, that no version has, or the named benchmark doesn't."""
        named = self.named or results.file.fields.zephyr_bench.get("benchmark")
        if named is not None:
            return self._as_named(str(named), results)
        versions = [self._suite(name) for name in _VERSIONS]
        nearest = max(versions, key=lambda suite: len(suite.owners.keys() & results.leaves.keys()))
        strangers = [leaf.name for name, leaf in results.leaves.items() if name not in nearest.owners]
        if strangers:
            some = len(strangers) < len(results.leaves)
            way = f"--benchmark {nearest.name} reads the others" if some else "name its benchmark with --benchmark"
            raise UserError(f"{results.path}: {strangers[0]} is no task of {nearest.name}; {way}.")
        if other := nearest.other_shots(results.leaves):
            raise UserError(f"{results.path}: {other}; name one that asks so with --benchmark.")
        if unknown := [leaf.name for leaf in results.leaves.values() if leaf.shots is None]:
            raise UserError(
                f"{results.path}: tells no number of shots of {unknown[0]}; name its benchmark with --benchmark."
            )
        return nearest

    def of_samples(self, path: Path) -> Suite:
        """Of samples without results. Raises UserError where none is named."""
        if self.named is None:
            raise UserError(
                f"{path}: samples alone don't tell how many shots a task had; give their results file, too, or name "
                f"their benchmark with --benchmark, such as {_VERSIONS[0]}."
            )
        return self._suite(self.named)

    def _as_named(self, name: str, results: Results) -> Suite:
        suite = self._suite(name)
        if not suite.owners.keys() & results.leaves.keys():
            found = ", ".join(leaf.name for leaf in results.leaves.values())
            raise UserError(f"{results.path}: has none of {name}'s tasks; found {found}.")
        if other := suite.other_shots(results.leaves):
            raise UserError(f"{results.path}: {other}; a YAML of your own (--include) can ask it so.")
        return suite

    def _suite(self, name: str) -> Suite:
        if name not in self._opened:
            benchmark = open_benchmark(name, include=self.include)
            if not isinstance(benchmark, OpenLlm):
                raise UserError(f"--benchmark {name}: lm-eval's files are of the kind of {' and '.join(_VERSIONS)}.")
            self._opened[name] = Suite(benchmark)
        return self._opened[name]

    @cached_property
    def _opened(self) -> dict[str, Suite]:
        return {}


def find_suites(*, benchmark: str | None, include: Iterable[Path] = ()) -> Choice:
    """Raises UserError for an unknown benchmark, or one of another kind."""
    choice = Choice(benchmark, tuple(include))
    if benchmark is not None:
        choice._suite(benchmark)
    return choice
