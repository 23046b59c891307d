"""Have a judge grade matches, and keep every judgment the moment it exists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zephyr_bench.benchmarks.protocol import Job
from zephyr_bench.errors import UserError
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
    alike: dict[str, list[Match]] = {}  # two questions of the same content share a judgment
    for match in matches:
        alike.setdefault(match.key(judge.fingerprint), []).append(match)
    stored = job.run.judgments(list(alike))
    job.run.use_judgments(stored)
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
        job.run.add_judgments([(missing[judgment.key], judgment)])
        yield from ((match, judgment) for match in alike[judgment.key])
