"""Judges by name: the catalogue's YAML, joined to the class of its kind (ours or a plug-in's)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from zephyr_bench import catalogue
from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.judges.openai_judge import OpenAiJudge
from zephyr_bench.judges.protocol import Judge
from zephyr_bench.judges.rubric import RubricJudge
from zephyr_bench.yaml_file import check_mapping, load_yaml

__all__ = ["Judge", "open_judge"]

_BUILT_IN: dict[str, Any] = {"rubric": RubricJudge, "openai": OpenAiJudge}


def open_judge(name: str, *, include: Sequence[Path] = (), base_url: str | None = None) -> Judge:
    """The judge of that name (or YAML path); `base_url` is of a server in place of the YAML's.

    Raises UserError for an unknown name or kind, or a YAML that doesn't fit.
    """
    path = catalogue.find("judge", name, include)
    value, lines = load_yaml(path)
    kind = _kind(value.get("kind"), f"{path} line {lines.get(('kind',), 1)}")
    spec = check_mapping(kind.Spec, value, lines, str(path))
    judge: Judge = kind(spec, name=path.stem, folder=path.parent, base_url=base_url)
    return judge


def _kind(kind: Any, place: str) -> Any:
    if not isinstance(kind, str):
        raise UserError(f"{place}: kind must be a name, such as {', '.join(_BUILT_IN)}.")
    if kind in _BUILT_IN:
        return _BUILT_IN[kind]
    plug_ins = {point.name: point for point in entry_points(group="zephyr_bench.judges")}
    if kind in plug_ins:
        return plug_ins[kind].load()
    raise UserError(f"{place}: unknown kind '{kind}'.{did_you_mean(str(kind), [*_BUILT_IN, *plug_ins])}")
