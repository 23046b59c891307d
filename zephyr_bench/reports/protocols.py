"""What two runs of one benchmark did differently: the fields of their protocols, by dotted name.

In: protocols as plain JSON data. Out: sentences. Says what differs, judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zephyr_bench.fingerprint import canonical_json, fingerprint, short

_ABSENT = object()
_LONGEST = 40  # characters of a value shown whole


def differing_fields(base: Mapping[str, Any], candidate: Mapping[str, Any]) -> list[str]:
    """`temperature.math: 0.0 against 0.7`, a line for each field that differs, in order of name.

    What one side doesn't tell at all (an imported run knows little) is not known to differ: see `fields_of_one`.
    """
    unknown = set(fields_of_one(base, candidate))
    left, right = ({key: value for key, value in side.items() if key not in unknown} for side in (base, candidate))
    return [f"{name}: {told}" for name, told in _differences(left, right, "")]


def fields_of_one(base: Mapping[str, Any], candidate: Mapping[str, Any]) -> list[str]:
    """The fields that only one side tells, in order of name."""
    return sorted(base.keys() ^ candidate.keys())


def _differences(base: Any, candidate: Any, where: str) -> list[tuple[str, str]]:
    if isinstance(base, Mapping) and isinstance(candidate, Mapping):
        found = []
        for key in sorted({*base, *candidate}):
            name = f"{where}.{key}" if where else str(key)
            found += _differences(base.get(key, _ABSENT), candidate.get(key, _ABSENT), name)
        return found
    if base is not _ABSENT and candidate is not _ABSENT and canonical_json(base) == canonical_json(candidate):
        return []
    if isinstance(base, list) and isinstance(candidate, list):
        left, right = ({canonical_json(item) for item in side} for side in (base, candidate))
        return [(where, f"{len(base)} against {len(candidate)} entries, {len(left & right)} in common")]
    return [(where, f"{_shown(base)} against {_shown(candidate)}")]


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "not recorded"
    if value is None:
        return "none"
    text = value if isinstance(value, str) else canonical_json(value)
    return text if len(text) <= _LONGEST else short(fingerprint(value))
