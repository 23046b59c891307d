"""A gate that asks the judge: anchors first, then the candidate's answers in random order where that is wanted.

In: what reports/gate_plan.py pairs, and how the judge is reached. Out: entries for the gate's report. A benchmark
without a judge is compared as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.alpaca_eval import AlpacaEval
from zephyr_bench.benchmarks.protocol import Benchmark
from zephyr_bench.benchmarks.rejudge import answered_model
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import short
from zephyr_bench.judges import Judge, JudgeOptions, open_judge
from zephyr_bench.pipeline.anchors import judge_anchors
from zephyr_bench.pipeline.sequential_gate import (
    Certain,
    Wanted,
    judge_until_certain,
    judged_before,
    same_texts,
)
from zephyr_bench.progress import Progress
from zephyr_bench.reports.drift import AnchorCheck, drift_told
from zephyr_bench.reports.gate import Entry, JudgeCalls, Ungated
from zephyr_bench.reports.gate_plan import GatePlan, Pairing, entry_of
from zephyr_bench.reports.per_question import of_questions, without_length_control
from zephyr_bench.reports.protocols import check_alike
from zephyr_bench.reports.references import Found
from zephyr_bench.reports.sides import Side, side_of
from zephyr_bench.reports.standings import is_limited
from zephyr_bench.stats.gate import Reason
from zephyr_bench.store import RunInfo, Store
from zephyr_bench.store.run_info import DRIFT

_NEWEST = "@latest"
_OF_PAIRS = ("baseline", "rivals", "length_control", "order")  # of a protocol: with whom, and how, answers are compared


@dataclass(frozen=True)
class Judging:
    """What the user says of the judge. `tolerance`: a drift that doesn't matter; None: half of the margin."""

    anchors: int = 0
    sequential: bool = False
    judge: str | None = None  # None: the baseline's
    options: JudgeOptions = field(default_factory=JudgeOptions)
    tolerance: float | None = None
    seed: int | None = None  # of the order
    include: tuple[Path, ...] = ()
    data: Path | None = None


@dataclass(frozen=True)
class JudgedEntries:
    entries: tuple[Entry, ...]
    ungated: tuple[Ungated, ...] = ()  # the judge moved before a candidate without scores was judged
    notes: tuple[str, ...] = ()


def answers_to_judge(store: Store, word: str, base: Found) -> Found:
    """The candidate's runs whose answers can be judged, judged already or not, as they will be beside the baseline's.

    `word` is a run's id, a model or TAG@latest. Raises UserError where the store has none.
    """
    if word.endswith(".json"):
        raise UserError(f"--candidate {word}: a file's answers can't be judged; name a run, a model or TAG@latest.")
    meant = _meant(store, word)
    sides = []
    notes = _several(store, word, meant[0])
    for beside in base.sides:
        fitting = [run for run in meant if run.benchmark == beside.run.benchmark]
        if fitting:
            sides.append(_as_judged(store, _best(fitting, beside.run), beside.run))
    if not sides:
        has = ", ".join(sorted({run.benchmark for run in meant}))
        raise UserError(
            f"nothing to judge: {word} has answers to {has}, and {base.word} is of "
            f"{', '.join(sorted({side.run.benchmark for side in base.sides}))}."
        )
    by_grading = {(side.run.id, side.run.judge, side.run.rivals): side for side in sides}
    return Found(word, tuple(by_grading.values()), notes)


def _several(store: Store, word: str, chosen: RunInfo) -> tuple[str, ...]:
    """A note where a model's name has other checkpoints as well."""
    if len({run.model_fingerprint for run in store.runs(model=word) if DRIFT not in run.protocol}) < 2:
        return ()
    label = f"{chosen.model}@{short(chosen.model_fingerprint)}"
    return (f"{word} names several checkpoints; the newest, {label}, is compared",)


def _meant(store: Store, word: str) -> list[RunInfo]:
    """Newest first, of one checkpoint; never what a gate itself left."""
    runs = [run for run in store.runs() if not run.of_a_gate]
    if word.endswith(_NEWEST):
        named = [run for run in runs if word.removesuffix(_NEWEST) in run.tags]
        if not named:
            raise UserError(f"no run has the tag '{word.removesuffix(_NEWEST)}'; `zephyr-bench runs tag` gives one.")
    else:
        named = [run for run in runs if word in (run.model, f"{run.model}@{short(run.model_fingerprint)}")]
        if not named:
            return [_no_gates_own(store.run(word))]
    newest = named[0]  # whatever became of it: an older checkpoint must not pass in its place
    own = [run for run in named if run.model_fingerprint == newest.model_fingerprint]
    whole = [run for run in own if run.status == "complete"]
    if not whole:
        label = f"{newest.model}@{short(newest.model_fingerprint)}"
        raise UserError(
            f"{word} names {label}, which has no complete run; the newest, {newest.id}, is {newest.status}: take it up "
            f"again, or name another checkpoint."
        )
    return whole


def _no_gates_own(run: RunInfo) -> RunInfo:
    if run.of_a_gate:
        raise UserError(f"run {run.id} holds what a gate judged; name the run whose answers those are.")
    return run


def _best(runs: Sequence[RunInfo], base: RunInfo) -> RunInfo:
    """One that is judged as the baseline is, else answers alone, else any; of several the newest."""

    def rank(run: RunInfo) -> tuple[bool, bool, bool]:
        return is_limited(run) and not is_limited(base), run.judge != base.judge, run.judge is not None

    return min(runs, key=rank)


def _as_judged(store: Store, run: RunInfo, base: RunInfo) -> Side:
    """Its answers are graded as the baseline's were: answers alone were compared with nobody yet."""
    beside = {name: base.protocol[name] for name in _OF_PAIRS if name in base.protocol and run.judge is None}
    protocol = {**run.protocol, **beside}
    by = (base.judge, base.judge_fingerprint) if base.judge else (run.judge, run.judge_fingerprint)
    graded = replace(run, protocol=protocol, judge=by[0], judge_fingerprint=by[1])
    return replace(side_of(store, run), run=graded)


def judged_entries(
    store: Store,
    plan: GatePlan,
    judging: Judging,
    *,
    confidence: float,
    allow: Collection[str] = (),
    progress: Progress,
) -> JudgedEntries:
    """Raises UserError before the judge is asked where two protocols differ; later what the judge raises."""
    for pairing in plan.pairs:
        check_alike(pairing.base.run, pairing.candidate.run, allow)
    judges: dict[str, Judge] = {}  # one of a name, so that --max-cost holds for all
    entries: list[Entry] = []
    ungated: list[Ungated] = []
    notes: list[str] = []
    for pairing in plan.pairs:
        benchmark = _benchmark(store, pairing, judging)
        if not benchmark.judged:
            if judging.sequential:
                notes.append(f"{benchmark.name} has no judge that could be stopped early: all of it is compared")
            entries.append(entry_of(pairing, allow=allow))
            continue
        name = judging.judge or pairing.base.run.judge or benchmark.default_judge or ""
        judge = judges.setdefault(name, open_judge(name, include=judging.include, options=judging.options))
        _check_same_judge(judge, pairing.base.run, allow)
        gate = _Gate(store, pairing, benchmark, judge, judging, confidence, allow, progress)
        found = gate.sequential(len(plan.pairs)) if judging.sequential else gate.anchored()
        (entries if isinstance(found, Entry) else ungated).append(found)  # type: ignore[arg-type]
        notes += gate.notes
    return JudgedEntries(tuple(entries), tuple(ungated), tuple(notes))


def _benchmark(store: Store, pairing: Pairing, judging: Judging) -> Benchmark:
    run = pairing.base.run
    opened = open_benchmark(run.benchmark, include=judging.include, data=judging.data)
    if isinstance(opened, AlpacaEval) and run.rivals:  # whom lone answers are compared with
        chosen = open_benchmark(run.benchmark, include=judging.include, data=judging.data, baselines=list(run.rivals))
        assert isinstance(chosen, AlpacaEval)
        return chosen.with_answers(store, answered_model(store, pairing.candidate.run).model, None)
    return opened


def _check_same_judge(judge: Judge, base: RunInfo, allow: Collection[str]) -> None:
    """An import tells its judge's name alone."""
    if base.judge is None or "judge" in allow:
        return
    same = base.imported or judge.fingerprint == base.judge_fingerprint
    if judge.name != base.judge or not same:
        versions = "" if judge.name != base.judge else ", of another version (prompt, model, server or sampling)"
        raise UserError(
            f"baseline {base.id} was judged by {base.judge}, and the gate would ask {judge.name}{versions}; name the "
            f"same judge and server by --judge and --judge-url, or compare anyway by --allow-different judge."
        )


@dataclass
class _Gate:
    """One benchmark's."""

    store: Store
    pairing: Pairing
    benchmark: Benchmark
    judge: Judge
    judging: Judging
    confidence: float
    allow: Collection[str]
    progress: Progress
    notes: list[str] = field(default_factory=list)

    @property
    def metric(self) -> str:
        return self.pairing.chosen.metric or self.benchmark.headline

    def anchored(self) -> Entry:
        """What is judged already, with what the anchors say of the judge."""
        entry = entry_of(self.pairing, allow=self.allow)
        if entry.gated.same_answers or not self.judging.anchors:
            return entry
        check = self._anchors()
        calls = JudgeCalls(check.made + check.stored, check.made + check.stored)
        return replace(entry, gated=replace(entry.gated, drift=check.drift), anchors=check, calls=calls)

    def sequential(self, benchmarks: int) -> Entry | Ungated:
        pairing = self.pairing
        if pairing.candidate.seeds or pairing.base.seeds:
            raise UserError("--sequential judges one run against one; name one checkpoint on either side.")
        wanted = Wanted(
            metric=self.metric,
            margin=pairing.chosen.margin.value,
            level=(1 - self.confidence) / 2 / benchmarks,
            seed=self.judging.seed,
            at_once=self.judging.options.concurrency,
        )
        candidate = self.store.run(pairing.candidate.run.id)
        check = None
        if self.judging.anchors and self._texts_differ():
            known = judged_before(self.store, pairing.base.run, candidate, self.judge, wanted)
            check = self._anchors(again=not known)
            if check.drift.moved:
                return self._moved(check)
        found = judge_until_certain(
            self.store, pairing.base, candidate, self.benchmark, self.judge, wanted, self.progress
        )
        if check is not None and known and found.made:  # after all; those anchors are of another day
            check = self._anchors(again=True)
        if found.progress is None:  # the same texts have the same grades
            base = pairing.base
            self.notes.append(f"{self.benchmark.name}: the answers are the baseline's, so that no judge was asked")
            same = replace(pairing.candidate, samples=base.samples, scores=base.scores)
            return entry_of(replace(pairing, candidate=same), allow=self.allow)
        self.notes.append(_sequential_told(self.benchmark.name, found))
        anchors = check.made + check.stored if check else 0
        return entry_of(
            replace(pairing, base=_part_of(found.base, found, self.benchmark), candidate=found.candidate),
            allow=self.allow,
            anchors=check,
            progress=found.progress,
            calls=JudgeCalls(found.calls + anchors, found.planned_calls + anchors),
        )

    def _texts_differ(self) -> bool:
        return not same_texts(self.pairing.base, self.pairing.candidate)

    def _anchors(self, *, again: bool = False) -> AnchorCheck:
        tolerance = self.judging.tolerance
        return judge_anchors(
            self.store,
            self.pairing.base,
            self.pairing.candidate.run,
            self.benchmark,
            self.judge,
            number=self.judging.anchors,
            metric=self.metric,
            tolerance=self.pairing.chosen.margin.value / 2 if tolerance is None else tolerance,
            confidence=self.confidence,
            again=again,
            progress=self.progress,
        )

    def _moved(self, check: AnchorCheck) -> Ungated:
        told = f"judge drift, so the candidate's answers were not judged: {drift_told(check)}"
        return Ungated(self.benchmark.name, self.judge.name, Reason.JUDGE_DRIFT.value, told)


def _part_of(base: Side, found: Certain, benchmark: Benchmark) -> Side:
    """The baseline where the candidate was judged: what nobody was asked is not missing."""
    judged = {sample.question for sample in found.candidate.samples if sample.question}
    part = without_length_control(benchmark, of_questions(base.samples, judged))
    return replace(base, samples=part, scores=benchmark.aggregate(part))


def _sequential_told(benchmark: str, found: Certain) -> str:
    return (
        f"{benchmark}: judged {found.judged} of {found.planned} questions in random order (seed {found.seed}), "
        f"{found.calls} of {found.planned_calls} judgments, {found.made} of them now; {100 * found.saved:.0f} % saved; "
        f"run {found.candidate.run.id}"
    )
