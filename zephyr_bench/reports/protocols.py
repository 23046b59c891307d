"""What two runs of one benchmark did differently, field by field, and whether they may be compared.

In: runs, or protocols as plain JSON data. Out: the fields that differ, by dotted name; UserError where they may not.
Which fields there are, and why: docs/design/fingerprints.md, "Like with like".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zephyr_bench import catalogue
from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.escaping import visible
from zephyr_bench.fingerprint import canonical_json, fingerprint, short
from zephyr_bench.store.run_info import MEANT, release

if TYPE_CHECKING:
    from zephyr_bench.store import RunInfo

_ABSENT, _UNTOLD, _IN_PARTS = object(), object(), object()  # not there; nobody knows; a mapping
_LONGEST = 40  # characters of a value shown whole
_WHOLE = "gen_kwargs"  # who tells it at all tells all of it, another harness, too
# told where the figures were at hand: a run without them has no metric that hangs on it
_OPTIONAL = "length_control"
_FEWER = "not_answered"  # answers that failed: no other protocol, and the gate has a limit of its own for them
# a part of the benchmark has fewer questions, too: where the first differs, the others only follow
_OF_QUESTIONS = ("questions", "baseline.outputs", "rival_answers")
_FOLLOW = {"limit": _OF_QUESTIONS, _FEWER: _OF_QUESTIONS, "only": ("tasks", "data")}
# what a run of each kind of benchmark tells that is made here, of which an import may tell nothing
TOLD_HERE: Mapping[str, tuple[str, ...]] = {
    "mt_bench": ("questions", "temperature", "max_new_tokens", "references", "judgments", "limit"),
    "mt_bench_pairwise": ("questions", "temperature", "max_new_tokens", "references", "judgments", "rivals", "limit"),
    "alpaca_eval": ("questions", "baseline", "sampling", "limit"),
    "open_llm": ("tasks", "data", "lm_eval", "chat_template", "fewshot_seed", "only", "limit"),
}


@dataclass(frozen=True)
class FieldDifference:
    field: str  # temperature.math
    base: str  # as people are shown it
    candidate: str

    def __str__(self) -> str:
        return f"{self.field}: {self.base} against {self.candidate}"


@dataclass(frozen=True)
class Alike:
    """Two runs that may be compared: what differs is allowed, what isn't told is taken as equal."""

    allowed: tuple[FieldDifference, ...] = ()
    unknown: tuple[str, ...] = ()  # fields that one of the runs doesn't tell, or both
    notes: tuple[str, ...] = ()  # what differs and needs no leave


def check_alike(base: RunInfo, candidate: RunInfo, allow: Collection[str] = ()) -> Alike:
    """Raises UserError for runs that differ in a field that isn't allowed; `temperature` allows temperature.math."""
    alike = compared_fields(base, candidate)
    refused = [entry for entry in alike.allowed if not _is_allowed(entry.field, allow)]
    if refused:
        told = ", ".join(visible(f"{entry.field} ({entry.base} against {entry.candidate})") for entry in refused)
        options = " ".join(f"--allow-different {visible(entry.field)}" for entry in refused)
        names = [f"run {run.id} of {visible(run.model)}" for run in (base, candidate)]
        raise UserError(
            f"{names[0]} and {names[1]} were not made alike: they differ in {told}; "
            f"evaluate one as the other was, or compare anyway by {options}."
        )
    return alike


def check_allowed(runs: Iterable[RunInfo], allow: Collection[str]) -> None:
    """Raises UserError for a name of --allow-different that no run has a field of."""
    runs = list(runs)
    known = {"version", "judge"}
    for run in runs:
        names = [*_fields(run, run), *MEANT, *_told_here(run.benchmark)]
        parts = [name.split(".") for name in names]
        known |= {".".join(part[: count + 1]) for part in parts for count in range(len(part))}
    for name in sorted(set(allow) - known) if runs else ():
        raise UserError(f"--allow-different {name}: no run here tells such a field.{did_you_mean(name, known)}")


def compared_fields(base: RunInfo, candidate: RunInfo) -> Alike:
    """All fields that differ, as if each were allowed, and those that one of the runs or both don't tell."""
    if base.id == candidate.id:
        return Alike()
    sides = _fields(base, candidate), _fields(candidate, base)
    differing, unknown = [], set()
    for name in sorted({*sides[0], *sides[1]}):
        left, right = (_value(name, side, run) for side, run in zip(sides, (base, candidate), strict=True))
        if _IN_PARTS in (left, right):  # the parts are fields of their own
            continue
        lacking = [run for value, run in ((left, base), (right, candidate)) if value is _UNTOLD]
        if lacking and _ABSENT not in (left, right):
            whole = name.partition(".")[0]
            unknown.add(name if all(whole in run.protocol for run in lacking) else whole)
        elif left is _ABSENT or right is _ABSENT or canonical_json(left) != canonical_json(right):
            differing.append((name, left, right))
    causes = {name for name, _, _ in differing} & _FOLLOW.keys()
    fewer = [run.protocol.get(_FEWER) or 0 for run in (base, candidate)]
    notes: tuple[str, ...] = ()
    if any(fewer):  # of as many on both sides it may be others
        notes = (f"instructions without an answer: {fewer[0]} against {fewer[1]}",)
        causes.add(_FEWER)
        differing = [entry for entry in differing if entry[0] != _FEWER]
    for cause in causes:
        differing = [entry for entry in differing if not _only_follows(*entry, _FOLLOW[cause])]
    if base.imported and candidate.imported:
        told = {"only", *(name.partition(".")[0] for side in sides for name in side)}
        unknown |= {name for name in _told_here(base.benchmark) if name not in told}
    if base.imported or candidate.imported or not (base.version and candidate.version):
        unknown.add("version")
    elif release(base.version) != release(candidate.version):
        differing.append(("version", base.version, candidate.version))
    found = [FieldDifference(name, *_both(left, right)) for name, left, right in differing]
    judge = _judge(base, candidate)
    if isinstance(judge, str):
        unknown.add(judge)
    elif judge:
        found.append(judge)
    return Alike(tuple(sorted(found, key=lambda entry: entry.field)), tuple(sorted(unknown)), notes)


def _is_allowed(field: str, allow: Collection[str]) -> bool:
    parts = field.split(".")
    return any(".".join(parts[: count + 1]) in allow for count in range(len(parts)))


def _fields(run: RunInfo, other: RunInfo) -> dict[str, Any]:
    """The protocol's, by dotted name; a task's by its own name. What isn't known is absent.

    An import has the tasks whose files were given: nobody chose them, so that those of both compare.
    """
    told = run.compared_protocol
    if told.get("references") is not None and run.references is None:  # of an old store, by a hash
        del told["references"]
    tasks = told.pop("tasks", None)
    if isinstance(tasks, list) and all(isinstance(entry, Mapping) and "task" in entry for entry in tasks):
        told["tasks"] = {entry["task"]: entry for entry in tasks}
        if run.imported or other.imported:
            told.pop("only", None)
            shared = {entry.get("task") for entry in other.protocol.get("tasks") or tasks if isinstance(entry, Mapping)}
            told["tasks"] = {name: entry for name, entry in told["tasks"].items() if name in shared}
    elif tasks is not None:
        told["tasks"] = tasks
    return dict(_flat(told, ""))


def _flat(value: Any, name: str) -> list[tuple[str, Any]]:
    """An empty mapping is a value, too."""
    if not isinstance(value, Mapping) or (not value and name):
        return [(name, value)]
    return [found for key, inner in value.items() for found in _flat(inner, f"{name}.{key}" if name else str(key))]


def _value(name: str, fields: Mapping[str, Any], run: RunInfo) -> Any:
    """A field's, or what a run of ours means that lacks it; _UNTOLD: nobody knows; _ABSENT: there is none."""
    whole = name.partition(".")[0]
    if name in fields:
        unhashed = whole == "data" and fields[name] is None  # straight from the hub: which rows it had nobody knows
        return _UNTOLD if unhashed else fields[name]
    if any(told.startswith(f"{name}.") for told in fields):
        return _IN_PARTS
    if whole in fields:
        return fields[whole] if fields[whole] is None else _ABSENT
    if whole in MEANT and whole not in run.protocol and not run.imported:
        return MEANT[whole]
    if whole == _WHOLE and whole in run.protocol:
        return _ABSENT
    elsewhere = run.imported or run.note == "imported"  # answers of another harness that were judged here
    references = whole == "references" and whole in run.protocol  # of an old store, by a hash
    return _UNTOLD if elsewhere or whole == _OPTIONAL or references else _ABSENT


def _only_follows(name: str, left: Any, right: Any, following: Collection[str]) -> bool:
    """Whether it is that one run has a part of the other's questions, tasks or data sets."""
    if not _is_allowed(name, following):
        return False
    if isinstance(left, list) and isinstance(right, list):
        few, many = sorted(({canonical_json(item) for item in side} for side in (left, right)), key=len)
        return few <= many
    return left is _ABSENT or right is _ABSENT or name in ("baseline.outputs", "rival_answers")


def _told_here(benchmark: str) -> tuple[str, ...]:
    """Fields that a run of it tells which is made here; none where the benchmark isn't one of the catalogue's."""
    from zephyr_bench.yaml_file import load_yaml

    path = catalogue.entries("benchmark").get(benchmark)
    return TOLD_HERE.get(str(load_yaml(path)[0].get("kind")), ()) if path else ()


def _judge(base: RunInfo, candidate: RunInfo) -> FieldDifference | str | None:
    """How the judges differ; the field's name where that isn't known: an import tells its judge's name at most."""
    named = {run.judge for run in (base, candidate) if run.judge is not None}
    if not named or (base.judge_fingerprint == candidate.judge_fingerprint and not base.imported):
        return None
    if (base.imported or candidate.imported) and len(named) == 1:
        return "judge"
    return FieldDifference("judge", *(_judge_told(run) for run in (base, candidate)))


def _judge_told(run: RunInfo) -> str:
    if run.judge is None:
        return "none"
    return run.judge if run.imported else f"{run.judge} {short(run.judge_fingerprint or 'unknown')}"


def _both(left: Any, right: Any) -> tuple[str, str]:
    """As people are shown them; long lists by their length and what they share."""
    names = [", ".join(value) if _are_words(value) else "" for value in (left, right)]
    if all(name and len(name) <= _LONGEST for name in names):
        return names[0], names[1]
    if isinstance(left, list) and isinstance(right, list):
        common = {canonical_json(item) for item in left} & {canonical_json(item) for item in right}
        return f"{len(left)} entries", f"{len(right)}, {len(common)} in common"
    return _shown(left), _shown(right)


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


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
    if value in (_ABSENT, _UNTOLD):
        return "not recorded"
    if value is None:
        return "none"
    text = value if isinstance(value, str) else canonical_json(value)
    return text if len(text) <= _LONGEST else short(fingerprint(value))
