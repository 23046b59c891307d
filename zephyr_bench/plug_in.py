"""The class of a kind that a YAML names: one of ours, or a plug-in's. Imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from zephyr_bench.errors import UserError, did_you_mean


def class_of(kind: Any, *, built_in: Mapping[str, str], group: str, place: str) -> Any:
    """`built_in` has a kind's `module:Class`, as an entry point does; `place` is where the YAML says the kind.

    Raises UserError with close matches.
    """
    if not isinstance(kind, str):
        raise UserError(f"{place}: kind must be a name, such as {', '.join(built_in)}.")
    if kind in built_in:
        return EntryPoint(kind, built_in[kind], group).load()
    plug_ins = {point.name: point for point in entry_points(group=group)}
    if kind in plug_ins:
        return plug_ins[kind].load()
    raise UserError(f"{place}: unknown kind '{kind}'.{did_you_mean(kind, [*built_in, *plug_ins])}")
