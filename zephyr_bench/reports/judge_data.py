"""What the store has of judges: the judgments of each, paired where two answers were compared in both orders.

In: a store. Out: a `Judged` for each version of a judge, and the answers they judged. A judgment counts once, in
however many runs it is and whatever became of them; two versions of a judge (fingerprints under one name) are two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING

from zephyr_bench.benchmarks.pairing import of_both
from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.fingerprint import short
from zephyr_bench.records import Judgment
from zephyr_bench.store.run_info import DRIFT

if TYPE_CHECKING:
    from zephyr_bench.store import Store
    from zephyr_bench.store.run_info import Verdict


@dataclass(frozen=True)
class Answered:
    """What is known of an answer that was judged."""

    question: str  # its id
    asked: tuple[str, ...]  # the question's turns, as other benchmarks may have another question of that id
    turn: int
    model: str | None  # None of a baseline's that the store doesn't hold
    length: int | None  # characters; None where the text isn't known


@dataclass(frozen=True)
class Pair:
    """Two answers in both orders: `first` judged `answer` before `rival`, `second` the other way round."""

    answer: str
    rival: str
    first: Judgment
    second: Judgment


@dataclass(frozen=True)
class Judged:
    """All that one version of a judge said, oldest first. Answers go by their keys."""

    judge: str
    label: str  # the name, with @ and 8 hex digits where several versions share it
    is_jury: bool  # its verdicts are made of other judges'
    verdicts: Sequence[Verdict]

    @cached_property
    def scores(self) -> dict[tuple[str, str | None], list[float]]:
        """By answer and rival as shown; several where it judged the same again."""
        found: dict[tuple[str, str | None], list[float]] = {}
        for verdict in self.verdicts:
            if verdict.judgment.score is not None:
                found.setdefault((verdict.answer, verdict.rival), []).append(verdict.judgment.score)
        return found

    @cached_property
    def grades(self) -> dict[str, float]:
        """By answer judged alone; the mean of several."""
        return {answer: fmean(scores) for (answer, rival), scores in self.scores.items() if rival is None}

    @cached_property
    def pairs(self) -> list[Pair]:
        shown: dict[tuple[str, str, int], list[Judgment]] = {}
        for verdict in self.verdicts:
            if verdict.rival is not None:
                shown.setdefault((verdict.answer, verdict.rival, verdict.replicate), []).append(verdict.judgment)
        return [
            Pair(answer, rival, first, second)
            for (answer, rival, replicate), given in shown.items()
            if answer < rival
            for first, second in zip(given, shown.get((rival, answer, replicate), ()), strict=False)
        ]

    @cached_property
    def leads(self) -> dict[tuple[str, str], float]:
        """(answer, rival) -> above 0 where both orders together prefer the answer, 0 for a tie; the mean of several."""
        found: dict[tuple[str, str], list[float]] = {}
        for pair in self.pairs:
            preference = of_both(pair.first, pair.second).value
            if preference is not None:
                found.setdefault((pair.answer, pair.rival), []).append(preference - 0.5)
        return {pair: fmean(leads) for pair, leads in found.items()}

    @cached_property
    def winners(self) -> dict[tuple[str, str], int]:
        """As `leads`, but 1 for the answer, 0 for a tie, -1 for the rival."""
        return {pair: sign(lead) for pair, lead in self.leads.items()}


def read_judges(store: Store, benchmark: str | None) -> tuple[list[Judged], dict[str, Answered]]:
    """The judges in order of their labels, and the answers that they judged, by key."""
    said: dict[str, Verdict] = {}  # by the judgment's key
    versions: dict[str, str] = {}  # likewise: fingerprint of the judge, where the run is its own and not a jury's
    juries: set[str] = set()  # fingerprints
    answered: dict[str, Answered] = {}
    runs = store.runs()
    for run in runs:
        if benchmark not in (None, run.benchmark) or DRIFT in run.protocol:  # of another day: no repeats
            continue
        verdicts = store.verdicts_of(run.id)
        asked = {question.id: question.turns for question in store.questions_of(run.id)}
        judged = {key: verdict for verdict in verdicts for key in (verdict.answer, verdict.rival) if key is not None}
        new = judged.keys() - answered.keys()
        stored = store.answers(new)
        for key in new:
            answer, id = stored.get(key), judged[key].question
            model = None if answer is None else answer.model
            length = None if answer is None or answer.text is None else len(answer.text)
            answered[key] = Answered(id, asked.get(id, (id,)), judged[key].turn, model, length)
        for verdict in verdicts:
            judgment = replace(verdict.judgment, reply="", origin=None)  # a whole store's would fill the memory
            said.setdefault(judgment.key, replace(verdict, judgment=judgment))
            if judgment.judge == run.judge:
                versions[judgment.key] = run.judge_fingerprint or ""
            elif run.judge_fingerprint:
                juries.add(run.judge_fingerprint)
    known = {run.benchmark for run in runs}
    if benchmark is not None and benchmark not in known:
        raise UserError(f"the store has no run of '{benchmark}'.{did_you_mean(benchmark, known)}")
    return _by_judge(said, versions, juries), answered


def _by_judge(said: Mapping[str, Verdict], versions: Mapping[str, str], juries: Set[str]) -> list[Judged]:
    """A version that no run tells (of a jury's member) is the only one of that name, or one by itself."""
    known: dict[str, set[str]] = {}
    for key, version in versions.items():
        known.setdefault(said[key].judgment.judge, set()).add(version)
    found: dict[tuple[str, str], list[Verdict]] = {}
    for key, verdict in said.items():
        name = verdict.judgment.judge
        only = next(iter(known[name])) if len(known.get(name, ())) == 1 else ""
        found.setdefault((name, versions.get(key, only)), []).append(verdict)
    times = Counter(name for name, _ in found)
    judges = [
        Judged(
            judge=name,
            label=f"{name}@{short(version) or 'unknown'}" if times[name] > 1 else name,
            is_jury=version in juries,
            verdicts=sorted(own, key=lambda verdict: (verdict.created, verdict.judgment.key)),
        )
        for (name, version), own in found.items()
    ]
    return sorted(judges, key=lambda judged: judged.label)


def sign(value: float) -> int:
    return (value > 0) - (value < 0)
