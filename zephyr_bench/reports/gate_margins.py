"""Which metric of a benchmark is gated, and how large a loss is accepted: by option, else recipe, else its YAML.

In: what the user typed, a recipe, the catalogue. Out: metric, margin and where the margin comes from. Reads YAML files.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zephyr_bench import catalogue
from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.protocol import HELD_OUT
from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.recipe import Recipe
from zephyr_bench.yaml_file import load_yaml

_OF_TEN = ("mt_bench",)  # kinds whose scores are grades; those of all others are per cent


@dataclass(frozen=True)
class Margin:
    value: float  # largest loss that is accepted, in the metric's units; 0 or more
    source: str  # "--margin", "recipe smol", "benchmark mt-bench"


@dataclass(frozen=True)
class Chosen:
    """What is gated of one benchmark."""

    metric: str | None  # None: the headline of its runs, where the catalogue knows no benchmark of that name
    margin: Margin


@dataclass(frozen=True)
class Margins:
    """What the user says of all benchmarks."""

    for_all: float | None = None  # --margin 0.5
    by_benchmark: Mapping[str, float] = field(default_factory=dict)  # --margin mt-bench=0.2
    metrics: Mapping[str, str] = field(default_factory=dict)  # --metric mt-bench=turn-1
    recipe: Recipe | None = None
    include: tuple[Path, ...] = ()

    def check(self, benchmarks: Collection[str]) -> None:
        """Raises UserError for an option that names a benchmark which is not gated."""
        for option, named in (("--margin", self.by_benchmark), ("--metric", self.metrics)):
            for name in named:
                if name not in benchmarks:
                    raise UserError(f"{option} {name}=…: {name} is not gated here.{did_you_mean(name, benchmarks)}")

    def check_recipe(self, benchmarks: Collection[str]) -> None:
        """Raises UserError for a margin of the recipe that names no benchmark of the catalogue, nor of these."""
        known = {*catalogue.entries("benchmark", self.include), *benchmarks, HELD_OUT}
        for name in self.recipe.gate.margins if self.recipe and self.recipe.gate else ():
            if self.recipe and name not in known:
                raise UserError(
                    f"recipe {self.recipe.name}: gate.margins.{name}: there is no benchmark {name}."
                    f"{did_you_mean(name, known)}"
                )

    def check_units(self, benchmarks: Collection[str]) -> None:
        """Raises UserError where one --margin would be so many points of ten here and per cent there."""
        if self.for_all is None:
            return
        paths = catalogue.entries("benchmark", self.include)
        named = sorted(name for name in benchmarks if name in paths and name not in self.by_benchmark)
        points = {name: load_yaml(paths[name])[0].get("kind") in _OF_TEN for name in named}
        if len(set(points.values())) > 1:
            told = ", ".join(f"{name} ({'points of 10' if points[name] else 'per cent'})" for name in named)
            raise UserError(
                f"--margin {self.for_all:g} would be for benchmarks in different units, {told}; "
                f"give each its own, by --margin BENCHMARK=M."
            )

    def left_alone(self, benchmark: str) -> bool:
        """Whether it is a recipe's own pairs and nothing tells their margin. All others need one, or --benchmark."""
        told = self.recipe.gate.margins if self.recipe and self.recipe.gate else {}
        by_option = self.for_all is not None or benchmark in self.by_benchmark or benchmark in self.metrics
        return benchmark == HELD_OUT and not by_option and benchmark not in told

    def default_judge(self, benchmark: str) -> str | None:
        """Of the catalogue's benchmark; None where it has none, or the catalogue doesn't know it."""
        if benchmark not in catalogue.entries("benchmark", self.include):
            return None
        return open_benchmark(benchmark, include=self.include).default_judge

    def of(self, benchmark: str) -> Chosen:
        """Raises UserError where nothing tells the margin."""
        declared = declared_of(benchmark, self.include)
        metric = self.metrics.get(benchmark, declared[0] if declared else None)
        if (value := self.by_benchmark.get(benchmark, self.for_all)) is not None:
            return Chosen(metric, Margin(value, "--margin"))
        if declared and metric != declared[0]:
            raise UserError(
                f"--metric {benchmark}={metric}: the margins of recipes and of the catalogue are for {declared[0]}; "
                f"give --margin {benchmark}=M, in {metric}'s units."
            )
        told = self.recipe.gate.margins if self.recipe and self.recipe.gate else {}
        if self.recipe and benchmark in told:
            return Chosen(metric, Margin(told[benchmark], f"recipe {self.recipe.name}"))
        if declared is None or declared[1] is None:
            lacks = "has no margin in its YAML" if declared else "is not in the catalogue, so has no margin of its own"
            folder = "" if declared else ", name the folder that has its YAML by --include"
            raise UserError(
                f"benchmark {benchmark} {lacks}: say how large a loss is accepted, by --margin {benchmark}=M (in its "
                f"headline metric's units){folder}, or gate others only, by --benchmark."
            )
        return Chosen(metric, Margin(declared[1], f"benchmark {benchmark}"))


def declared_of(benchmark: str, include: Sequence[Path]) -> tuple[str, float | None] | None:
    """Headline metric and margin of the benchmark's YAML; None where the catalogue has none."""
    path = catalogue.entries("benchmark", include).get(benchmark)
    if path is None:
        return None
    opened = open_benchmark(benchmark, include=include)  # checks the YAML, and a kind has its own headline
    margin = load_yaml(path)[0].get("margin")
    return opened.headline, None if margin is None else float(margin)


def read_margins(
    margins: Sequence[str], metrics: Sequence[str], recipe: Recipe | None = None, include: Sequence[Path] = ()
) -> Margins:
    """The values of --margin (M or BENCHMARK=M) and --metric (BENCHMARK=METRIC). Raises UserError."""
    for_all: float | None = None
    by_benchmark: dict[str, float] = {}
    for word in margins:
        benchmark, equals, value = word.rpartition("=")
        if equals:
            if not benchmark or benchmark in by_benchmark:
                raise UserError(f"--margin {word}: expected M or BENCHMARK=M, once for each benchmark.")
            by_benchmark[benchmark] = _margin(word, value)
        elif for_all is not None:
            raise UserError(f"--margin {word}: a margin for all benchmarks is given already; expected BENCHMARK=M.")
        else:
            for_all = _margin(word, value)
    named: dict[str, str] = {}
    for word in metrics:
        benchmark, equals, metric = word.partition("=")
        if not equals or not benchmark or not metric or benchmark in named:
            raise UserError(f"--metric {word}: expected BENCHMARK=METRIC, once for each benchmark.")
        named[benchmark] = metric
    return Margins(for_all, by_benchmark, named, recipe, tuple(include))


def _margin(word: str, text: str) -> float:
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UserError(f"--margin {word}: expected 0 or more, in the benchmark's units, such as mt-bench=0.2.")
    return value
