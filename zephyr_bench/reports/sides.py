"""One run as a comparison sees it: of the store, or of a baseline file. Reads what it needs, when it is needed.

A side of the store is good while the store is open.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Answer, Match, SampleScore, Score

if TYPE_CHECKING:
    from zephyr_bench.store import RunInfo, Store

Item = TypeVar("Item")
Said = tuple[str, int, int]  # question, turn, replicate
UNKNOWN = ""  # in place of a fingerprint: that answer's text is missing
_DIGITS = 32  # of SHA-256, hex, that tell a text: 128 bits


@dataclass(frozen=True)
class Anchor:
    """What the judge was asked once, and how it graded then: asked again, it tells whether the judge moved."""

    match: Match
    score: float | None  # on the judge's scale; None: the reply held no verdict


@dataclass(frozen=True)
class Side:
    """One run, or several of one recipe's checkpoints: `seeds` are the others, whose values are averaged with its own.

    `said` has a fingerprint of each answer's text, UNKNOWN where the text is missing; None: nothing is known of them.
    """

    run: RunInfo
    samples: Sequence[SampleScore]
    scores: Sequence[Score]  # headline first
    said: Mapping[Said, str] | None = None
    place: str = ""  # "reports/baselines/release.json" for one of a file, else ""
    weighed: bool = True  # the model's fingerprint is of its weights, not of a name or of a server's address
    lineage: Mapping[str, Any] = field(default_factory=dict, hash=False)  # what it was trained by
    anchors: Sequence[Anchor] = ()  # of a file that has some
    seeds: tuple[Side, ...] = ()

    @property
    def members(self) -> tuple[Side, ...]:
        return (self, *self.seeds)


def side_of(store: Store, run: RunInfo) -> Side:
    """Of a run of the store. Samples and answers are read when first looked at."""
    model = store.model(run.model_fingerprint)
    return Side(
        run,
        samples=_Later(lambda: store.samples_of(run.id)),
        scores=store.scores_of([run.id])[run.id],
        said=_LaterByKey(lambda: _said(store, run)),
        weighed=not run.imported and not model.location.startswith(("http://", "https://")),
        lineage=lineage_told(model.lineage),
    )


def text_fingerprint(text: str | None) -> str:
    """Of an answer; UNKNOWN where there is none."""
    return UNKNOWN if text is None else fingerprint(text).removeprefix("sha256:")[:_DIGITS]


def texts_differ(base: Side, candidate: Side) -> bool:
    """Also where one is missing, which may be another. Two sides without any don't differ."""
    said = dict(base.said or {})
    return said != dict(candidate.said or {}) or UNKNOWN in said.values()


def lineage_told(lineage: Mapping[str, Any]) -> dict[str, Any]:
    """What one line can say of it: its plain values, without the steps that led there."""
    return {key: value for key, value in sorted(lineage.items()) if isinstance(value, (str, int, float, bool))}


def own_answers(store: Store, run: RunInfo, questions: Collection[str] | None = None) -> list[Answer]:
    """A run's answers without its rivals', of all questions or a few.

    An answer is stored once, by what it was made of, under the name that said it first: a checkpoint that was renamed
    or copied finds its answers there. So a run's own are those of no rival's name. An import's are kept by name.
    """
    answers = store.answers_of(run.id, questions)
    if {answer.model for answer in answers} <= {run.model}:
        return answers
    others = _rivals(store, run)
    if run.imported or run.model in others:
        return [answer for answer in answers if answer.model == run.model]
    return [answer for answer in answers if answer.model not in others]


def _rivals(store: Store, run: RunInfo) -> set[str]:
    """Their names, without the checkpoint's digits: answers don't have those."""
    told = set(run.rivals)
    if "all" in told:
        told = {sample.rival for sample in store.samples_of(run.id) if sample.rival}
    baseline = run.protocol.get("baseline")
    if isinstance(baseline, Mapping) and isinstance(baseline.get("name"), str):
        told.add(baseline["name"])
    return {*told, *(name.rpartition("@")[0] for name in told if "@" in name)}


def _said(store: Store, run: RunInfo) -> dict[Said, str]:
    """Of the model's own answers. Two of one key and other texts (two checkpoints of one name) can't be told apart."""
    found: dict[Said, str] = {}
    for answer in own_answers(store, run):
        key = answer.question, answer.turn, answer.replicate
        told = text_fingerprint(answer.text)
        found[key] = told if found.get(key, told) == told else UNKNOWN
    return found


class _Later(Sequence[Item], Generic[Item]):
    """A list that is read when it is first looked at."""

    def __init__(self, read: Callable[[], Sequence[Item]]) -> None:
        self._read = read

    @cached_property
    def _items(self) -> Sequence[Item]:
        return self._read()

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)


class _LaterByKey(Mapping[Said, str]):
    """A dictionary that is read when it is first looked at."""

    def __init__(self, read: Callable[[], Mapping[Said, str]]) -> None:
        self._read = read

    @cached_property
    def _items(self) -> Mapping[Said, str]:
        return self._read()

    def __getitem__(self, key: Said) -> str:
        return self._items[key]

    def __iter__(self) -> Iterator[Said]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
