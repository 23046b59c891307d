"""Did the judge move? It grades some of the baseline's answers again, beside what it gave them then.

In: the baseline, of the store or of a file with anchors; the candidate, whose night it is. Out: then and now, paired.
The anchors are the same each night, and each sitting's grades are new ones: their keys hold a replicate that belongs to
the candidate's run and the sitting. They are kept as a run of their own, which no leaderboard and no comparison counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from zephyr_bench.benchmarks.evaluate import recorded_run
from zephyr_bench.benchmarks.protocol import Benchmark, Calls, Given, Job, compares
from zephyr_bench.benchmarks.rejudge import (
    AnsweredModel,
    check_judge,
    questions_in,
    regrades,
)
from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.judges.protocol import Judge
from zephyr_bench.progress import Progress
from zephyr_bench.records import Answer, Match, Question, SampleScore
from zephyr_bench.reports.anchors import anchors_of, spread_out
from zephyr_bench.reports.drift import AnchorCheck
from zephyr_bench.reports.per_question import Key, of_questions, values_of
from zephyr_bench.reports.sides import Anchor, Side
from zephyr_bench.stats.drift import judge_drift
from zephyr_bench.stats.means import mean_stderr
from zephyr_bench.store import RunInfo, Store
from zephyr_bench.store.run_info import DRIFT

FIRST_REPLICATE = 1_000_000  # of anchors: far from those of an evaluation's own repeats
_REPLICATES = 2**31 - 2 * FIRST_REPLICATE  # so many: a database's integer holds them


def judge_anchors(
    store: Store,
    base: Side,
    candidate: RunInfo,
    benchmark: Benchmark,
    judge: Judge,
    *,
    number: int,
    metric: str,
    tolerance: float,
    confidence: float = 0.95,
    again: bool = False,
    progress: Progress,
) -> AnchorCheck:
    """`number` questions of the baseline, graded again by the judge of the candidate. `metric` is the one gated.

    What was graded for this candidate before isn't asked again, unless `again` opens a new sitting: anchors speak for
    judgments of their own sitting only. Raises UserError where the baseline's answers are not known, MissingParts, and
    what the judge raises once all that it said is stored.
    """
    regrading = regrades(base.run, benchmark)
    check_judge(judge, f"grading anchors of {benchmark.name} by {judge.name}", paired=compares(benchmark))
    given = anchors_given(store, base, number)
    then = values_of(benchmark, given.samples, metric)
    if not then:
        raise UserError(f"baseline {base.run.id}: none of its answers was graded, so that none can be an anchor.")
    sitting, replicate = _sitting(store, base.run, candidate, again=again)
    given = replace(given, matches=tuple(_graded_as(given.matches, replicate)), samples=())
    asked = [question.id for question in questions_in(given)]
    told = {"candidate": candidate.id, "baseline": base.run.id, "sitting": sitting, "replicate": replicate}
    told["questions"] = sorted(asked)
    engine = _engine(store, base.run)
    protocol = {**base.run.protocol, DRIFT: told}
    calls = Calls()
    with recorded_run(store, engine, judge, benchmark=base.run.benchmark, protocol=protocol, seed=base.run.seed) as run:
        run.add_answers(_answers(given.matches))
        job = Job(engine, judge, run, progress, seed=base.run.seed, calls=calls)
        samples = [sample for sample in regrading.regrade(job, given) if sample.question]
        run.add_samples(samples)
        run.finish("complete", ())  # without scores: it is no result of the model's
    kept = without_double(store, run.id, calls)
    return _compared(base, judge, benchmark, metric, then, samples, tolerance, confidence, kept, calls)


def _compared(
    base: Side,
    judge: Judge,
    benchmark: Benchmark,
    metric: str,
    then: dict[Key, float],
    samples: Sequence[SampleScore],
    tolerance: float,
    confidence: float,
    run: str,
    calls: Calls,
) -> AnchorCheck:
    now = values_of(benchmark, samples, metric)
    both = sorted(then.keys() & now.keys())
    before, after, questions = [then[key] for key in both], [now[key] for key in both], [key[0] for key in both]
    return AnchorCheck(
        benchmark=base.run.benchmark,
        judge=judge.name,
        metric=metric,
        questions=len(set(questions)),
        then=mean_stderr(before)[0],
        now=mean_stderr(after)[0],
        drift=judge_drift(before, after, questions, tolerance=tolerance, confidence=confidence),
        run=run,
        made=calls.made,
        stored=calls.stored,
    )


def anchors_given(store: Store, base: Side, number: int) -> Given:
    """So many questions of the baseline with all that was judged of them: the same ones each time.

    Raises UserError for a baseline file without anchors, and for answers whose texts are not known.
    """
    if base.place and not base.anchors:
        raise UserError(
            f"{base.place} holds no answers of run {base.run.id} that a judge could grade again; export it with "
            f"--anchors, or name a baseline of the store."
        )
    anchors = base.anchors if base.place else anchors_of(store, base.run, number)
    by_question: dict[str, list[Anchor]] = {}
    for anchor in anchors:
        by_question.setdefault(anchor.match.question.id, []).append(anchor)
    chosen = [anchor for of_one in spread_out(by_question.values())[:number] for anchor in of_one]
    questions = {anchor.match.question.id for anchor in chosen}
    samples = of_questions(base.samples, questions)
    return Given(base.run.model, tuple(anchor.match for anchor in chosen), tuple(samples))


def _sitting(store: Store, base: RunInfo, candidate: RunInfo, *, again: bool) -> tuple[int, int]:
    """(number, replicate) of the candidate's newest sitting; of a new one where there is none, or `again`."""
    told = [run.protocol[DRIFT] for run in store.runs() if DRIFT in run.protocol]
    own = [one for one in told if (one["candidate"], one["baseline"]) == (candidate.id, base.id)]
    newest = max(own, key=lambda one: int(one["sitting"]), default=None)
    if newest is not None and not again:
        return int(newest["sitting"]), int(newest["replicate"])
    number = 0 if newest is None else int(newest["sitting"]) + 1
    return number, replicate_of(candidate.id, base.id, number)


def replicate_of(candidate: str, baseline: str, sitting: int) -> int:
    """By hash, not counted: merged stores and two gates at once would count the same."""
    digest = hashlib.sha256(f"{candidate} {baseline} {sitting}".encode()).digest()
    return FIRST_REPLICATE + int.from_bytes(digest, "big") % _REPLICATES


def _graded_as(matches: Sequence[Match], replicate: int) -> Iterator[Match]:
    """Each once, however often it was judged then."""
    again = [replace(match, replicate=replicate) for match in matches]
    return iter({(m.question.id, m.turn, *_keys(m.answers), None, *_keys(m.rival or ())): m for m in again}.values())


def _keys(answers: Sequence[Answer]) -> tuple[str, ...]:
    return tuple(answer.key for answer in answers)


def _engine(store: Store, run: RunInfo) -> AnsweredModel:
    """A baseline file's model may not be known to the store; one that is keeps its name and place."""
    try:
        known = store.model(run.model_fingerprint)
    except UserError:
        return AnsweredModel(ModelSource(run.model, "", run.model_fingerprint, note=run.note), run.engine_fingerprint)
    model = ModelSource(known.name, known.location, known.fingerprint, known.lineage, known.note)
    return AnsweredModel(model, run.engine_fingerprint)


def _answers(matches: Sequence[Match]) -> list[tuple[Question, Answer]]:
    answers = ((m.question, answer) for m in matches for answer in (*m.answers, *(m.rival or ())))
    return list({answer.key: (question, answer) for question, answer in answers}.values())


def without_double(store: Store, id: str, calls: Calls) -> str:
    """The run, or where it asked nothing the earlier one that it repeats; then it is deleted."""
    made = store.run(id)
    if calls.made:
        return id
    for known in store.runs(benchmark=made.benchmark, model=made.model_fingerprint, status="complete"):
        same = known.protocol == made.protocol and known.judge_fingerprint == made.judge_fingerprint
        if same and known.id != made.id:
            store.delete(made.id)
            return known.id
    return id
