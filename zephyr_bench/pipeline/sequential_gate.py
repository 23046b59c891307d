"""The gate while the judge is still grading: it is asked in random order, and no longer than the verdict is open.

In: a baseline with its grades (of the store or of a file) or with answers alone; a candidate's stored answers. Out: how
far the bets of stats/sequential.py came, and the run that holds what was judged. Each judgment is stored before the
next decision, so that a run that was broken off, or a second one, asks only for what is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from zephyr_bench.benchmarks.evaluate import recorded_run
from zephyr_bench.benchmarks.protocol import Benchmark, Calls, Given, Job, Regrades, compares
from zephyr_bench.benchmarks.rejudge import (
    answered_model,
    check_judge,
    given_of,
    given_pairs,
    only,
    questions_in,
    regrades,
)
from zephyr_bench.errors import UserError
from zephyr_bench.judges.jury import JuryJudge
from zephyr_bench.judges.protocol import Judge
from zephyr_bench.pipeline.anchors import without_double
from zephyr_bench.progress import Progress
from zephyr_bench.records import Match, SampleScore
from zephyr_bench.reports.per_question import (
    Key,
    by_question,
    of_questions,
    swing_of,
    values_of,
    width_of,
    without_length_control,
)
from zephyr_bench.reports.sides import Side, side_of, texts_differ
from zephyr_bench.stats import sequential
from zephyr_bench.stats.sequential import Plan, judging_order
from zephyr_bench.store import RunInfo, RunWriter, Store
from zephyr_bench.store.run_info import SEQUENTIAL

AT_ONCE = 8  # judgments under way, where --concurrency doesn't say
_LOCAL_AT_ONCE = 64  # of a judge whose weights are loaded for each batch


@dataclass(frozen=True)
class Wanted:
    """What the gate is to tell of one benchmark. `level` is one-sided, of each claim."""

    metric: str
    margin: float
    level: float
    seed: int | None = None  # of the order; None: drawn from the candidate's run
    at_once: int | None = None  # judgments under way; None: AT_ONCE


@dataclass(frozen=True)
class Certain:
    """How the judging ended. `progress` is None where nothing was asked: every answer is the baseline's very text."""

    base: Side  # with the grades that there are now
    candidate: Side
    progress: sequential.Progress | None
    seed: int
    judged: int  # questions, those beyond the stop that were under way among them
    planned: int  # questions in all
    made: int  # judgments asked for this time
    calls: int  # judgments that the verdict took, those of earlier invocations and beyond the stop among them
    planned_calls: int  # that judging everything would have taken

    @property
    def saved(self) -> float:
        """Share of the judge's calls."""
        return 1 - self.calls / self.planned_calls if self.planned_calls else 0.0


def judge_until_certain(
    store: Store,
    base: Side,
    candidate: RunInfo,
    benchmark: Benchmark,
    judge: Judge,
    wanted: Wanted,
    progress: Progress,
) -> Certain:
    """Raises UserError where there are no answers to judge, MissingParts, and what the judge raises."""
    regrading = regrades(candidate, benchmark)
    seed = seed_of(candidate) if wanted.seed is None else wanted.seed
    other = side_of(store, candidate)
    if candidate.id == base.run.id or same_texts(base, other):
        return Certain(base, other, None, seed, 0, 0, 0, 0, 0)
    check_judge(judge, f"judging run {candidate.id} by {judge.name}", paired=compares(benchmark))
    graded = any(sample.value is not None for sample in base.samples)
    if not graded and base.place:
        raise UserError(f"{base.place}: run {base.run.id} has no grades, and a file's answers can't be judged.")
    wholes = [given_of(store, run) for run in ([candidate] if graded else [candidate, base.run])]
    givens = [given_pairs(benchmark, whole) for whole in wholes]
    known = values_of(benchmark, base.samples, wanted.metric) if graded else {}
    questions = _in_common(givens, known if graded else None)
    if not questions:
        raise UserError(f"runs {base.run.id} and {candidate.id} have no question in common: nothing to judge.")
    order = judging_order(questions, seed=seed)
    told = {"seed": seed, "baseline": base.run.id, "questions": len(order), "margin": wanted.margin}
    told["level"] = wanted.level
    with ExitStack() as stack:
        parts = []
        for run, whole, given in zip([candidate, base.run], wholes, givens, strict=False):
            protocol = {**run.protocol, **regrading.regrade_protocol(whole), SEQUENTIAL: told}
            parts.append(stack.enter_context(_part(store, run, judge, benchmark, protocol, given, progress)))
        planned_calls = sum(calls_planned(benchmark, judge, only(part.given, order)) for part in parts)
        batch = _batch(judge, wanted, planned_calls / len(order))
        asked = _walk(order, parts, known, wanted, batch, benchmark)
        for part in parts:
            part.finish()
    kept = [without_double(store, part.writer.id, part.job.calls) for part in parts]
    sides = [side_of(store, store.run(id)) for id in kept]
    calls = [part.job.calls for part in parts]
    return Certain(
        base=sides[1] if len(sides) == 2 else base,
        candidate=sides[0],
        progress=asked.found,
        seed=seed,
        judged=asked.judged,
        planned=len(order),
        made=sum(counted.made for counted in calls),
        calls=sum(counted.made + counted.stored for counted in calls),
        planned_calls=planned_calls,
    )


def judged_before(store: Store, base: RunInfo, candidate: RunInfo, judge: Judge, wanted: Wanted) -> bool:
    """Whether this gate came to its end once, so that it asks nothing again."""
    seed = seed_of(candidate) if wanted.seed is None else wanted.seed
    told = {"seed": seed, "baseline": base.id, "margin": wanted.margin, "level": wanted.level}
    return any(
        run.engine_fingerprint == candidate.engine_fingerprint
        and run.judge_fingerprint == judge.fingerprint
        and told.items() <= dict(run.protocol.get(SEQUENTIAL, {})).items()
        for run in store.runs(benchmark=candidate.benchmark, model=candidate.model_fingerprint, status="complete")
    )


def seed_of(candidate: RunInfo) -> int:
    """An order of the candidate's own: one for all nights would always trust the same questions first."""
    return int.from_bytes(hashlib.sha256(candidate.id.encode()).digest()[:4], "big")


def same_texts(base: Side, candidate: Side) -> bool:
    """Whether each answer is the very text of the baseline's."""
    return bool(base.said) and not texts_differ(base, candidate)


def calls_planned(benchmark: Benchmark, judge: Judge, given: Given) -> int:
    """Judgments that all of it takes; of two equal texts one that costs nothing may be among them."""
    judges = len(judge.members) if isinstance(judge, JuryJudge) else 1
    if not compares(benchmark):
        return judges * len(given.matches)
    size = benchmark.size(None)
    orders = 1 if size["judgments"] == size["questions"] else 2
    pairs = {(m.question.id, m.turn, m.replicate, frozenset((m.answers[-1].key, _rival(m)))) for m in given.matches}
    return judges * orders * len(pairs)


def _rival(match: Match) -> str:
    return match.rival[-1].key if match.rival else ""


@dataclass
class _Part:
    """One side's answers, judged as they are asked for, in a run of their own."""

    writer: RunWriter
    job: Job
    regrading: Regrades
    benchmark: Benchmark
    given: Given
    samples: list[SampleScore] = field(default_factory=list)

    def judge(self, questions: Sequence[str]) -> None:
        """Each judgment is stored as it comes, and with the last of them the samples."""
        found = [s for s in self.regrading.regrade(self.job, only(self.given, questions)) if s.question]
        self.writer.add_samples(found)
        self.samples += found

    def finish(self) -> None:
        told = without_length_control(self.benchmark, self.samples)
        told.sort(key=lambda s: (s.question, s.turn, s.metric, s.rival, s.replicate))
        self.writer.add_samples(sample for sample in told if not sample.question)
        self.writer.finish("complete", self.benchmark.aggregate(told))


@contextmanager
def _part(
    store: Store,
    run: RunInfo,
    judge: Judge,
    benchmark: Benchmark,
    protocol: Mapping[str, Any],
    given: Given,
    progress: Progress,
) -> Iterator[_Part]:
    engine = answered_model(store, run)
    with recorded_run(store, engine, judge, benchmark=run.benchmark, protocol=protocol, seed=run.seed) as writer:
        writer.use_answers([answer.key for answer in store.answers_of(run.id)])
        job = Job(engine, judge, writer, progress, seed=run.seed, calls=Calls())
        yield _Part(writer, job, regrades(run, benchmark), benchmark, given)


@dataclass(frozen=True)
class _Walked:
    found: sequential.Progress
    judged: int


def _walk(
    order: Sequence[str],
    parts: Sequence[_Part],
    known: Mapping[Key, float],
    wanted: Wanted,
    batch: int,
    benchmark: Benchmark,
) -> _Walked:
    """Batch by batch, looked at after each question in its order; `known` are the baseline's values, or none.

    A question without a verdict on one side is no question of the plan.
    """
    plan = Plan(len(order), width_of(benchmark), wanted.margin, wanted.level, swing_of(benchmark))
    differences: list[float] = []
    for start in range(0, len(order), batch):
        some = order[start : start + batch]
        for part in parts:
            part.judge(some)
        values = [values_of(benchmark, of_questions(part.samples, some), wanted.metric) for part in parts]
        new = by_question(known or values[1], values[0])
        for question in some:
            if question in new:
                differences.append(new[question])
            else:
                plan = replace(plan, planned=plan.planned - 1)
            found = sequential.progress(differences, plan) if differences else None
            if found is not None and found.verdict is not None:
                return _Walked(found, start + len(some))
    raise UserError("the judge gave no verdict on any question of either side; nothing can be told.")


def _batch(judge: Judge, wanted: Wanted, calls_each: float) -> int:
    """Questions judged at once: no more calls are under way beyond the stop than that."""
    usual = _LOCAL_AT_ONCE if getattr(judge, "local", False) else AT_ONCE
    return max(1, int((wanted.at_once or usual) // calls_each))


def _in_common(givens: Sequence[Given], known: Mapping[Key, float] | None) -> list[str]:
    """In order of id. `known` are the baseline's values, None where its answers are judged, too."""
    sides = [{question.id for question in questions_in(given)} for given in givens]
    if known is not None:
        sides.append({question for question, _, _ in known})
    return sorted(set.intersection(*sides))
