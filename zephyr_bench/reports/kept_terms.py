"""What each question adds to a run's headline, as arrays that the store keeps: read at once, where samples take long.

In: finished runs with their scores. Out: their values, and the questions that they are of, which runs that answered
the same ones share. An entry is used only where its checksum holds and it was derived by this version of the code from
the scores that the run has now; else it is derived from the samples again. docs/design/leaderboard.md tells why.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zephyr_bench.errors import StoreError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Score
from zephyr_bench.reports.contributions import Contribution, Key, by_key, contributions

if TYPE_CHECKING:
    from zephyr_bench.store import RunInfo, Store

_VERSION = 1  # to be raised with any change of what is derived, or of how it is written
_CHECKSUM = 32  # bytes of SHA-256


@dataclass(frozen=True)
class Shape:
    """The questions of a metric's values, in the order of their keys, and the nested means that they stand in."""

    keys: tuple[Key, ...]
    paths: tuple[tuple[str, ...], ...]
    swings: tuple[float | None, ...]


@dataclass(frozen=True)
class Terms:
    """A metric of one run: a value a question, turn and rival, repeats averaged."""

    values: NDArray[np.float64]  # in the order of the shape's keys; empty: the metric is no mean over questions
    shape: str  # fingerprint

    @property
    def paired(self) -> bool:
        return len(self.values) > 0


@dataclass(frozen=True)
class TermsOfRuns:
    """By run id, of one metric; and the shapes that these have, by fingerprint."""

    terms: Mapping[str, Terms]
    shapes: Mapping[str, Shape]


def terms_of(store: Store, runs: Sequence[RunInfo], scores: Mapping[str, Sequence[Score]], metric: str) -> TermsOfRuns:
    """Of complete runs. What the store doesn't have is derived, and kept for the next time."""
    sources = {run.id: _source(run, scores[run.id]) for run in runs}
    found: dict[str, Terms] = {}
    for id, content in store.kept(sources, _name("terms", metric)).items():
        if terms := _unpacked_terms(content, sources[id]):
            found[id] = terms
    shapes: dict[str, Shape] = {}
    first = {found[run.id].shape: run.id for run in reversed(runs) if run.id in found and found[run.id].paired}
    for id, content in store.kept(first.values(), _name("shape", metric)).items():
        if shape := _unpacked_shape(content, found[id].shape):
            shapes[found[id].shape] = shape
    derived: list[tuple[RunInfo, dict[str, bytes]]] = []
    for run in runs:
        kept = found.get(run.id)
        if kept is None or (kept.paired and kept.shape not in shapes):
            found[run.id], shape = _derived(store, run, scores[run.id], metric)
            shapes[found[run.id].shape] = shape
            derived.append((run, _entries(metric, sources[run.id], found[run.id], shape)))
    if derived:
        with suppress(StoreError):  # one that is locked or can't be written is read all the same: kept another time
            store.keep(derived)
    return TermsOfRuns(found, shapes)


def keep_terms(store: Store, run_ids: Sequence[str]) -> None:
    """Of runs that have just ended, so that the first leaderboard needn't; nothing of one that isn't complete."""
    scores = store.scores_of(run_ids)
    for id, own in scores.items():
        run = store.run(id)
        if run.status == "complete" and own:
            terms_of(store, [run], scores, own[0].metric)


def as_arrays(values: Sequence[Contribution]) -> tuple[Shape, NDArray[np.float64]]:
    """Repeats averaged."""
    found = by_key(values)
    keys = sorted(found)
    told = [found[key] for key in keys]
    shape = Shape(tuple(keys), tuple(value.path for value in told), tuple(value.swing for value in told))
    return shape, np.array([value.value for value in told], dtype=np.float64)


def _derived(store: Store, run: RunInfo, scores: Sequence[Score], metric: str) -> tuple[Terms, Shape]:
    read = contributions(store.samples_of(run.id), scores, run.protocol)
    shape, values = as_arrays(read.get(metric, []))
    return Terms(values, _fingerprint(shape)), shape


def _entries(metric: str, source: str, terms: Terms, shape: Shape) -> dict[str, bytes]:
    return {_name("terms", metric): _packed_terms(terms, source), _name("shape", metric): _packed_shape(shape)}


def _name(what: str, metric: str) -> str:
    return f"{what}-{_VERSION}/{metric}"


def _source(run: RunInfo, scores: Sequence[Score]) -> str:
    """Changes when the run was written to again."""
    told = [[s.metric, s.value, s.stderr, s.n, s.missing] for s in scores]
    return hashlib.sha256(repr([run.id, run.finished, told]).encode()).hexdigest()


def _packed_terms(terms: Terms, source: str) -> bytes:
    head = json.dumps({"source": source, "shape": terms.shape}).encode()
    return _sealed(head + b"\n" + terms.values.astype("<f8").tobytes())


def _unpacked_terms(content: bytes, source: str) -> Terms | None:
    body = _opened(content)
    if body is None:
        return None
    head, _, data = body.partition(b"\n")
    told = json.loads(head)
    return Terms(np.frombuffer(data, dtype="<f8"), told["shape"]) if told["source"] == source else None


def _packed_shape(shape: Shape) -> bytes:
    return _sealed(zlib.compress(json.dumps(_told(shape)).encode("ascii")))


def _unpacked_shape(content: bytes, expected: str) -> Shape | None:
    body = _opened(content)
    if body is None:
        return None
    told = json.loads(zlib.decompress(body))
    paths = [tuple(path) for path in told["paths"]]
    places = told["places"]
    shape = Shape(
        tuple(zip(told["questions"], told["turns"], told["rivals"], strict=True)),
        tuple(paths[place] for place in places),
        tuple(told["swings"][place] for place in places),
    )
    return shape if told["fingerprint"] == expected else None


def _told(shape: Shape) -> dict[str, Any]:
    kinds: dict[tuple[tuple[str, ...], float | None], int] = {}
    for kind in zip(shape.paths, shape.swings, strict=True):
        kinds.setdefault(kind, len(kinds))
    questions, turns, rivals = zip(*shape.keys, strict=True) if shape.keys else ((), (), ())
    return {
        "questions": questions,
        "turns": turns,
        "rivals": rivals,
        "paths": [path for path, _ in kinds],
        "swings": [swing for _, swing in kinds],
        "places": [kinds[kind] for kind in zip(shape.paths, shape.swings, strict=True)],
        "fingerprint": _fingerprint(shape),
    }


def _fingerprint(shape: Shape) -> str:
    return fingerprint([[list(key) for key in shape.keys], [list(path) for path in shape.paths], list(shape.swings)])


def _sealed(body: bytes) -> bytes:
    return hashlib.sha256(body).digest() + body


def _opened(content: bytes) -> bytes | None:
    """None for what isn't as it was written."""
    seal, body = content[:_CHECKSUM], content[_CHECKSUM:]
    return body if hashlib.sha256(body).digest() == seal else None
