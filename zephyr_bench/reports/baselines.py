"""Baseline files: what `compare` and the gate need of runs, so that CI needs no database. reports/baselines/*.json.

The same runs give the same bytes; a question has a line of its own, so that git shows which one changed. The file
carries a version and the hash of its content. It holds scores, samples and a fingerprint of each answer, and of a few
anchor questions the texts as well, with the grades that they got.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from zephyr_bench import catalogue
from zephyr_bench.errors import UserError, did_you_mean, first_line
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Answer, Match, Question, SampleScore, Score
from zephyr_bench.reports.sides import Anchor, Side, side_of
from zephyr_bench.store.run_info import RunInfo
from zephyr_bench.written_file import write_text

if TYPE_CHECKING:
    from zephyr_bench.store import Store

VERSION = 1
FOLDER = "baselines"  # below the catalogue's reports/
_AGAIN = "write it anew by `zephyr-bench export baseline RUN -o"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Protocol(BaseModel):
    """What the reports read of a protocol without looking at what it is."""

    model_config = ConfigDict(extra="allow")
    rivals: list[str] | None = None


class _Run(_Part):
    """A RunInfo but for its tags, which are the store's."""

    id: str
    benchmark: str
    model: str
    model_fingerprint: str
    engine_fingerprint: str
    judge: str | None
    judge_fingerprint: str | None
    status: str
    created: str
    finished: str | None
    protocol: dict[str, Any]
    seed: int
    note: str
    environment: dict[str, Any]
    version: str

    @field_validator("protocol")
    @classmethod
    def _readable(cls, told: dict[str, Any]) -> dict[str, Any]:
        _Protocol.model_validate(told)
        return told


_Value = tuple[str, int, str, int, float | None, str | None]  # metric, turn, rival, replicate, value, reason
_Told = tuple[int, int, str]  # turn, replicate, fingerprint


class _Question(_Part):
    id: str
    category: str
    turns: tuple[str, ...]
    reference: tuple[str, ...]
    checks: tuple[tuple[dict[str, Any], ...], ...]


class _Answer(_Part):
    key: str
    model: str
    turn: int
    text: str | None
    finish_reason: str | None
    replicate: int


class _Judged(_Part):
    """Answers and rival's are places in the anchor's list, of turns 1 to `turn`."""

    turn: int
    replicate: int
    answers: tuple[int, ...]
    rival: tuple[int, ...] | None
    score: float | None


class _Anchor(_Part):
    question: _Question
    answers: tuple[_Answer, ...]
    judged: tuple[_Judged, ...]

    @model_validator(mode="after")
    def _within(self) -> Self:
        for judged in self.judged:
            if not all(0 <= place < len(self.answers) for place in (*judged.answers, *(judged.rival or ()))):
                raise ValueError("a judgment of an answer that is not there")
        return self


class _Entry(_Part):
    """`seed_of`: id of the run in the file that this one repeats with another seed of the training."""

    run: _Run
    seed_of: str | None = None
    weighed: bool
    lineage: dict[str, Any]
    scores: tuple[tuple[str, float | None, float | None, int, int], ...]
    samples: tuple[tuple[str, str, tuple[_Value, ...]], ...]  # question, category, values
    said: tuple[tuple[str, tuple[_Told, ...]], ...] | None
    anchors: tuple[_Anchor, ...]


def baseline_files(include: Sequence[Path] = ()) -> dict[str, Path]:
    """Name -> file of each baseline of the catalogue, those of --include first; sorted by name."""
    found: dict[str, Path] = {}
    for base in catalogue.roots(include):
        for path in sorted((base / catalogue.FOLDERS["report"] / FOLDER).glob("*.json")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def read_baseline(path: Path, include: Sequence[Path] = ()) -> list[Side]:
    """The runs of a baseline file. Raises UserError for a file that is none, is newer, or was changed by hand."""
    entries = _entries(path, include)
    sides = {entry.run.id: _side(entry, str(path)) for entry in entries if entry.seed_of is None}
    if len({entry.run.id for entry in entries}) < len(entries):
        raise UserError(f"baseline file {path} lists a run twice; {_AGAIN} {path}`.")
    for entry in entries:
        if entry.seed_of is None:
            continue
        if entry.seed_of not in sides:
            raise UserError(f"baseline file {path} lacks run {entry.seed_of}, of another seed; {_AGAIN} {path}`.")
        first = sides[entry.seed_of]
        sides[entry.seed_of] = replace(first, seeds=(*first.seeds, _side(entry, str(path))))
    if twice := _graded_twice([side.run for side in sides.values()]):
        raise UserError(f"baseline file {path}: {_twice_told(*twice)}; {_AGAIN} {path}`.")
    return list(sides.values())


def write_baseline(
    store: Store, runs: Iterable[RunInfo | Sequence[RunInfo]], path: Path, anchors: int = 0
) -> dict[str, int]:
    """The runs into a file, with that many anchor questions each; what was written, counted.

    Several of one recipe's seeds are one entry of `runs`, and have the anchors of the first. Raises UserError for a
    run that isn't complete or has no scores, for two of one benchmark that were graded alike and are no seeds, and
    for a file that can't be written.
    """
    from zephyr_bench.reports.anchors import anchors_of

    groups = {tuple(run.id for run in group): group for one in runs for group in [_group(one)]}
    chosen = sorted(groups.values(), key=lambda group: _order(group[0]))
    if twice := _graded_twice([group[0] for group in chosen]):
        raise UserError(
            f"{_twice_told(*twice)}; write a file of each, or name seeds of one recipe with commas between."
        )
    entries = []
    for group in chosen:
        for run in group:
            if run.status != "complete":
                raise UserError(f"run {run.id} is {run.status}; a baseline is of complete runs.")
            side = side_of(store, run)
            if not side.scores:
                raise UserError(f"run {run.id} has answers and no scores: judge it before it is a baseline.")
            first = run is group[0]
            entry = _entry_of(side, anchors_of(store, run, anchors) if first else ())
            entries.append(entry if first else {"seed_of": group[0].id, **entry})
    write_text(path, "".join(_lines(entries)))
    return {
        "runs": len(entries),
        "questions": sum(len({line[0] for line in entry["samples"] if line[0]}) for entry in entries),
        "anchors": sum(len(entry["anchors"]) for entry in entries),
    }


def _group(one: RunInfo | Sequence[RunInfo]) -> tuple[RunInfo, ...]:
    return (one,) if isinstance(one, RunInfo) else tuple(one)


def _order(run: RunInfo) -> tuple[str, str, str, str]:
    return run.benchmark, run.judge or "", run.model, run.id


def _graded_twice(runs: Sequence[RunInfo]) -> tuple[RunInfo, RunInfo] | None:
    """Two that a gate could not tell apart by what they are of."""
    found: dict[tuple[Any, ...], RunInfo] = {}
    for run in runs:
        first = found.setdefault(run.grading, run)
        if first is not run:
            return first, run
    return None


def _twice_told(first: RunInfo, second: RunInfo) -> str:
    by = f" by {first.judge}" if first.judge else ""
    return (
        f"runs {first.id} of {first.model} and {second.id} of {second.model} are both of {first.benchmark}{by}, and a "
        f"baseline has one of each"
    )


def _entries(path: Path, include: Sequence[Path]) -> list[_Entry]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        known = baseline_files(include)
        raise UserError(f"baseline file {path} does not exist.{did_you_mean(path.stem, known)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"baseline file {path} can't be read: {error}.") from None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"baseline file {path} is no JSON ({first_line(error)}); {_AGAIN} {path}`.") from None
    version = found.get("zephyr_bench_baseline") if isinstance(found, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise UserError(f"{path} is no baseline file: it has no zephyr_bench_baseline; {_AGAIN} {path}`.")
    if version > VERSION:
        raise UserError(
            f"baseline file {path} is of version {version}, this zephyr-bench reads up to {VERSION}; "
            f"upgrade, or {_AGAIN} {path}` with this one."
        )
    runs = found.get("runs")
    digest = _digest_or_none(runs)
    if digest is None or found.get("sha256") != digest:
        raise UserError(
            f"baseline file {path} was changed or cut: its content isn't what its sha256 says; {_AGAIN} {path}`."
        )
    try:
        return [_Entry.model_validate(entry) for entry in runs]
    except (ValidationError, TypeError) as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else "runs"
        raise UserError(
            f"baseline file {path}: {where} is not what version {version} has there; {_AGAIN} {path}`."
        ) from None


def _digest_or_none(runs: Any) -> str | None:
    """None of what we never write: NaN, a number beyond all bounds, half a character, lists too deep."""
    try:
        return _digest(runs)
    except (ValueError, RecursionError):
        return None


def _digest(runs: Any) -> str:
    return fingerprint(runs).removeprefix("sha256:")


def _entry_of(side: Side, anchors: Sequence[Anchor]) -> dict[str, Any]:
    run = asdict(side.run)
    del run["tags"]
    said = side.said or {}
    told: dict[str, list[tuple[int, int, str]]] = {}
    for question, turn, replicate in sorted(said):
        told.setdefault(question, []).append((turn, replicate, said[question, turn, replicate]))
    return {
        "run": run,
        "weighed": side.weighed,
        "lineage": dict(side.lineage),
        "scores": [[s.metric, s.value, s.stderr, s.n, s.missing] for s in side.scores],
        "samples": _sample_lines(side.samples),
        "said": [[question, told[question]] for question in sorted(told, key=in_order)] or None,
        "anchors": _anchor_lines(anchors),
    }


def in_order(question: str) -> tuple[int, str]:
    """So that question 9 comes before question 10."""
    return len(question), question


def _sample_lines(samples: Sequence[SampleScore]) -> list[list[Any]]:
    """A line a question and category."""
    found: dict[tuple[str, str], list[_Value]] = {}
    for s in samples:
        found.setdefault((s.question, s.category), []).append(
            (s.metric, s.turn, s.rival, s.replicate, s.value, s.reason)
        )
    keys = sorted(found, key=lambda key: (in_order(key[0]), key[1]))
    return [[*key, sorted(found[key], key=lambda value: value[:4])] for key in keys]


def _anchor_lines(anchors: Sequence[Anchor]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    places: dict[str, dict[str, int]] = {}
    for anchor in anchors:
        match, question = anchor.match, anchor.match.question
        entry = found.setdefault(question.id, {"question": asdict(question), "answers": [], "judged": []})
        known = places.setdefault(question.id, {})
        for answer in (*match.answers, *(match.rival or ())):
            if answer.key not in known:
                known[answer.key] = len(known)
                entry["answers"].append({name: getattr(answer, name) for name in _Answer.model_fields})
        entry["judged"].append(
            {
                "turn": match.turn,
                "replicate": match.replicate,
                "answers": [known[answer.key] for answer in match.answers],
                "rival": None if match.rival is None else [known[answer.key] for answer in match.rival],
                "score": anchor.score,
            }
        )
    return list(found.values())


def _lines(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """JSON, a line for each member of each list."""
    yield f'{{"zephyr_bench_baseline": {VERSION},\n"sha256": "{_digest(entries)}",\n"runs": ['
    for number, entry in enumerate(entries):
        yield ",\n{" if number else "\n{"
        for place, (name, value) in enumerate(entry.items()):
            yield (",\n" if place else "\n") + f'  "{name}": '
            if isinstance(value, list) and value:
                yield "[\n" + ",\n".join(f"    {_json(item)}" for item in value) + "\n  ]"
            else:
                yield _json(value)
        yield "\n}"
    yield "\n]}\n"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ": "))


def _side(entry: _Entry, place: str) -> Side:
    said = {(question, *told[:2]): told[2] for question, by_turn in entry.said or () for told in by_turn}
    return Side(
        RunInfo(**entry.run.model_dump()),
        samples=[
            SampleScore(question, category, metric, value, turn, reason, rival, replicate)
            for question, category, values in entry.samples
            for metric, turn, rival, replicate, value, reason in values
        ],
        scores=[Score(*score) for score in entry.scores],
        said=said or None,
        place=place,
        weighed=entry.weighed,
        lineage=entry.lineage,
        anchors=tuple(anchor for kept in entry.anchors for anchor in _anchors(kept)),
    )


def _anchors(kept: _Anchor) -> Iterator[Anchor]:
    question = Question(**dict(kept.question))
    answers = [Answer(question=question.id, **dict(answer)) for answer in kept.answers]
    for judged in kept.judged:
        rival = None if judged.rival is None else tuple(answers[place] for place in judged.rival)
        match = Match(question, judged.turn, tuple(answers[p] for p in judged.answers), rival, judged.replicate)
        yield Anchor(match, judged.score)
