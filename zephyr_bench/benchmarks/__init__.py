"""Benchmarks by name: the catalogue's YAML, joined to the class of its kind (ours or a plug-in's)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_bench import catalogue
from zephyr_bench.errors import UserError
from zephyr_bench.plug_in import class_of
from zephyr_bench.yaml_file import check_mapping, load_yaml

if TYPE_CHECKING:
    from zephyr_bench.benchmarks.protocol import Benchmark

__all__ = ["headlines", "open_benchmark"]

_GROUP = "zephyr_bench.benchmarks"
_BUILT_IN = {
    "mt_bench": "zephyr_bench.benchmarks.mt_bench:MtBench",
    "mt_bench_pairwise": "zephyr_bench.benchmarks.mt_bench_pairwise:MtBenchPairwise",
    "alpaca_eval": "zephyr_bench.benchmarks.alpaca_eval:AlpacaEval",
    "open_llm": "zephyr_bench.benchmarks.open_llm:OpenLlm",
}


def open_benchmark(name: str, *, include: Sequence[Path] = (), data: Path | None = None, **options: Any) -> Benchmark:
    """The benchmark of that name (or YAML path). `options` go to its class (OpenLlm: tasks, …).

    `data` is a folder of data sets for kinds that load any. Raises UserError for an unknown name or kind, a YAML
    that doesn't fit, or an option that the kind doesn't know.
    """
    path = catalogue.find("benchmark", name, include)
    value, lines = load_yaml(path)
    place = f"{path} line {lines.get(('kind',), 1)}"
    kind = class_of(value.get("kind"), built_in=_BUILT_IN, group=_GROUP, place=place)
    spec = check_mapping(kind.Spec, value, lines, str(path))
    known = inspect.signature(kind).parameters
    if "data" in known:
        options["data"] = data
    for option in options:
        if option not in known:
            ours = {name: class_of(name, built_in=_BUILT_IN, group=_GROUP, place=place) for name in _BUILT_IN}
            known_by = [name for name, maker in ours.items() if option in inspect.signature(maker).parameters]
            raise UserError(
                f"benchmark {name} is of kind {value['kind']}, which knows no {option.replace('_', ' ')} "
                f"(kinds that do: {', '.join(known_by)})."
            )
    benchmark: Benchmark = kind(spec, name=path.stem, folder=path.parent, **options)
    return benchmark


def headlines(include: Sequence[Path] = ()) -> dict[str, str]:
    """Benchmark -> its headline metric, for all of the catalogue."""
    return {name: open_benchmark(name, include=include).headline for name in catalogue.entries("benchmark", include)}
