"""Finds the catalogue's entries: recipes, judges, benchmarks, models, published figures.

The one place that knows where the catalogue lies: folders named by --include come first, then the
checkout (an editable install) or the wheel's own copy. Reads no entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zephyr_bench.errors import UserError, did_you_mean

# kind -> folder below the catalogue's root
FOLDERS = {
    "recipe": "trainers",
    "judge": "judges",
    "benchmark": "benchmarks",
    "model": "trainers/models",
    "report": "reports",
}


def root() -> Path:
    """The folder that holds benchmarks/, judges/, trainers/ and reports/."""
    package = Path(__file__).resolve().parent
    inside_wheel = package / "_catalogue"
    return inside_wheel if inside_wheel.is_dir() else package.parent


def roots(include: Sequence[Path] = ()) -> list[Path]:
    """Where entries are looked for, first match first. Raises UserError for a missing folder."""
    for folder in include:
        if not folder.is_dir():
            raise UserError(
                f"--include {folder}: no such folder; it should hold benchmarks/, judges/, trainers/ or reports/."
            )
    return [*(folder.resolve() for folder in include), root()]


def entries(kind: str, include: Sequence[Path] = ()) -> dict[str, Path]:
    """Name -> YAML file of every entry of a kind, sorted by name."""
    found: dict[str, Path] = {}
    for base in roots(include):
        for path in sorted((base / FOLDERS[kind]).glob("*.yaml")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def find(kind: str, name: str, include: Sequence[Path] = (), *, also: Mapping[str, Path] | None = None) -> Path:
    """The YAML file of an entry, by its name or its own path. Raises UserError with close matches.

    `also` are others' entries by name, which the catalogue's own go before.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if path.is_file():
            return path
        raise UserError(f"{kind} file {name} does not exist.")
    known = {**(also or {}), **entries(kind, include)}
    if name not in known:
        raise UserError(f"unknown {kind} '{name}'.{did_you_mean(name, known)}")
    return known[name]
