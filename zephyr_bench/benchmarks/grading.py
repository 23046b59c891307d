"""Have a judge grade matches, and keep every judgment the moment it exists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from zephyr_bench.benchmarks.protocol import Job
from zephyr_bench.errors import ServiceError, UserError
from zephyr_bench.judges.jury import JuryJudge
from zephyr_bench.judges.protocol import Judge
from zephyr_bench.records import Judgment, Match


def judge_of(job: Job) -> Judge:
    """Raises UserError where the job has none."""
    if job.judge is None:
        raise UserError("this benchmark needs a judge: name one with --judge.")
    return job.judge


def grade(job: Job, matches: Sequence[Match]) -> Iterator[tuple[Match, Judgment]]:
    """(match, judgment) of every match: the store's first, then new ones as the judge finishes them.

    Raises what the judge raises, after everything that was judged has been stored.
    """
    judge = judge_of(job)
    if isinstance(judge, JuryJudge):
        yield from _grade_by_jury(job, judge, matches)
        return
    alike: dict[str, list[Match]] = {}  # two questions of the same content share a judgment
    for match in matches:
        alike.setdefault(match.key(judge.fingerprint), []).append(match)
    stored = job.run.judgments(list(alike))
    job.run.use_judgments(stored)
    job.calls.stored += len(stored)
    for key, judgment in stored.items():
        yield from ((match, judgment) for match in alike[key])
    missing = {key: same[0] for key, same in alike.items() if key not in stored}
    if not missing:
        return
    if getattr(judge, "local", False):  # two models' weights may be more than the memory holds
        job.engine.close()
    what = f"{job.engine.model.name}: judged by {judge.name}"
    verdicts = judge.grade(missing.values())
    for judgment in job.progress.track(verdicts, what=what, total=len(missing), unit="judgments"):
        kept = _kept(job, missing[judgment.key], judgment)
        job.calls.made += 1
        yield from ((match, kept) for match in alike[judgment.key])


def _kept(job: Job, match: Match, judgment: Judgment) -> Judgment:
    """What the store holds after the write: where two processes judge one match, the first one's."""
    job.run.add_judgments([(match, judgment)])
    return job.run.judgments([judgment.key]).get(judgment.key, judgment)


def _grade_by_jury(job: Job, jury: JuryJudge, matches: Sequence[Match]) -> Iterator[tuple[Match, Judgment]]:
    """Each member in turn, its judgments kept as its own; then one verdict of all on each match.

    Where a member's calls fail for good, the others judge first; no verdict of the jury is given then.
    """
    told: dict[str, dict[str, Judgment]] = {}  # by the jury's key, then by member
    failure: ServiceError | None = None
    for member in jury.members:
        try:
            for match, judgment in grade(replace(job, judge=member), matches):
                told.setdefault(match.key(jury.fingerprint), {})[member.fingerprint] = judgment
        except ServiceError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    for match in matches:
        judgment = jury.combine(match, list(told[match.key(jury.fingerprint)].values()))
        yield match, _kept(job, match, judgment)
