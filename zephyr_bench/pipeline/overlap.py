"""Two judges on one set of answers, for when a judge is retired: what the new one's figures mean on the old scale.

In: stored runs that the old judge graded, and the new judge. Out: both judges' values of each answer; the new judge's
are kept as runs of their own, as `judge` makes them. The old judge isn't asked: what it said is stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from zephyr_bench.benchmarks.protocol import Benchmark, compares
from zephyr_bench.benchmarks.rejudge import check_judge, judge_run, regrades
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import short
from zephyr_bench.judges.protocol import Judge
from zephyr_bench.progress import Progress
from zephyr_bench.reports.overlap import JudgedTwice, Overlap
from zephyr_bench.reports.per_question import values_of
from zephyr_bench.store import RunInfo, Store


def judge_overlap(
    store: Store,
    runs: Sequence[str],
    benchmark: Benchmark,
    judge: Judge,
    progress: Progress,
    *,
    limit: int | None = None,
) -> Overlap:
    """`limit`: so many questions of each run, spread over the categories; None: all of its answers.

    Raises UserError for runs that one old judge didn't grade, MissingParts, and what the judge raises.
    """
    infos = list({info.id: info for info in map(store.run, runs)}.values())
    _check_one_judge(infos, judge)
    for info in infos:
        regrades(info, benchmark)
    check_judge(judge, f"judging {len(infos)} runs by {judge.name}", paired=compares(benchmark))
    judged = [_judged(store, info, benchmark, judge, progress, limit) for info in infos]
    old, new = infos[0].judge or "", judge.name
    if old == new:  # another version of it
        old, new = f"{old}@{short(infos[0].judge_fingerprint or '')}", f"{new}@{short(judge.fingerprint)}"
    return Overlap(infos[0].benchmark, benchmark.headline, compares(benchmark), old, new, tuple(judged))


def _check_one_judge(infos: Sequence[RunInfo], judge: Judge) -> None:
    first = infos[0]
    for info in infos:
        if info.judge is None:
            raise UserError(f"run {info.id} was judged by nobody: --overlap needs runs that the old judge graded.")
        if info.judge_fingerprint == judge.fingerprint:
            raise UserError(
                f"run {info.id} was judged by {judge.name} itself: name runs that the old judge graded, and the new "
                f"judge by --judge."
            )
        told = [(run.benchmark, run.judge, run.judge_fingerprint, run.rivals) for run in (first, info)]
        if told[0] != told[1]:
            raise UserError(
                f"runs {first.id} and {info.id} are not of one scale: {_graded(first)} against {_graded(info)}; name "
                f"runs of one benchmark that one version of one judge graded."
            )


def _graded(info: RunInfo) -> str:
    return f"{info.benchmark} by {info.judge} {short(info.judge_fingerprint or '')}"


def _judged(
    store: Store, info: RunInfo, benchmark: Benchmark, judge: Judge, progress: Progress, limit: int | None
) -> JudgedTwice:
    outcome = judge_run(store, info.id, benchmark, judge, progress, limit=limit)
    old, new = store.samples_of(info.id), store.samples_of(outcome.run)
    asked = {sample.question for sample in new}
    return JudgedTwice(
        model=info.model,
        old_run=info.id,
        new_run=outcome.run,
        old=values_of(benchmark, [sample for sample in old if sample.question in asked], benchmark.headline),
        new=values_of(benchmark, new, benchmark.headline),
        categories={sample.question: sample.category for sample in new if sample.question},
    )
