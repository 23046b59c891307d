"""Judges by name: the catalogue's YAML, joined to the class of its kind (ours or a plug-in's)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zephyr_bench import catalogue
from zephyr_bench.judges.openai_judge import OpenAiJudge
from zephyr_bench.judges.protocol import Judge
from zephyr_bench.judges.rubric import RubricJudge
from zephyr_bench.plug_in import class_of
from zephyr_bench.yaml_file import check_mapping, load_yaml

__all__ = ["Judge", "open_judge"]

_BUILT_IN: dict[str, Any] = {"rubric": RubricJudge, "openai": OpenAiJudge}


def open_judge(name: str, *, include: Sequence[Path] = (), base_url: str | None = None) -> Judge:
    """The judge of that name (or YAML path); `base_url` is of a server in place of the YAML's.

    Raises UserError for an unknown name or kind, or a YAML that doesn't fit.
    """
    path = catalogue.find("judge", name, include)
    value, lines = load_yaml(path)
    place = f"{path} line {lines.get(('kind',), 1)}"
    kind = class_of(value.get("kind"), built_in=_BUILT_IN, group="zephyr_bench.judges", place=place)
    spec = check_mapping(kind.Spec, value, lines, str(path))
    judge: Judge = kind(spec, name=path.stem, folder=path.parent, base_url=base_url)
    return judge
