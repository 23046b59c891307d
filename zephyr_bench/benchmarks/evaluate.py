"""One evaluation from start to end: a run in the store, its samples and its scores.

One call is one run. Whatever was asked and judged before, by any run, is read and not made again.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from zephyr_bench import __version__
from zephyr_bench.benchmarks.protocol import AnswersAlone, Benchmark, FitsEngine, Job, NeedsAnswers, compares
from zephyr_bench.engines.protocol import Engine
from zephyr_bench.errors import MissingParts, ServiceError, UserError
from zephyr_bench.judges.protocol import Judge, unfit_for
from zephyr_bench.progress import Progress
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.store import RunStart, RunWriter, Store

_SAMPLES_PER_COMMIT = 64


@dataclass(frozen=True)
class Outcome:
    run: str
    benchmark: str
    scores: tuple[Score, ...]  # headline first


def evaluate(
    benchmark: Benchmark,
    engine: Engine,
    *,
    judge: Judge | None,
    store: Store,
    progress: Progress,
    limit: int | None = None,
    seed: int = 0,
) -> Outcome:
    """Ask, judge, score and store. Raises MissingParts before any work, ServiceError after storing what was done."""
    benchmark = ready_for(benchmark, engine, judge, store, limit)
    protocol = asked_protocol(benchmark, limit)
    with recorded_run(store, engine, judge, benchmark=benchmark.name, protocol=protocol, seed=seed) as run:
        job = Job(engine=engine, judge=judge, run=run, progress=progress, limit=limit, seed=seed)
        return completed(run, benchmark, benchmark.samples(job))


def answer_alone(
    benchmark: Benchmark,
    engine: Engine,
    *,
    store: Store,
    progress: Progress,
    limit: int | None = None,
    seed: int = 0,
) -> Outcome:
    """Ask and store; a judge may grade the run later. Raises UserError for a benchmark without answers to grade."""
    if not isinstance(benchmark, AnswersAlone):
        raise UserError(f"{benchmark.name} has no answers that a judge could grade later.")
    ready = ready_for(benchmark, engine, None, store, limit)
    protocol = asked_protocol(ready, limit)
    with recorded_run(store, engine, None, benchmark=ready.name, protocol=protocol, seed=seed) as run:
        job = Job(engine=engine, judge=None, run=run, progress=progress, limit=limit, seed=seed)
        assert isinstance(ready, AnswersAlone)
        ready.answer(job)
        run.finish("complete", ())
    return Outcome(run.id, ready.name, ())


def asked_protocol(benchmark: Benchmark, limit: int | None) -> dict[str, Any]:
    """A run's protocol, of a benchmark that is ready for its engine."""
    return {**benchmark.protocol(limit), "limit": limit}


def ready_for(benchmark: Benchmark, engine: Engine, judge: Judge | None, store: Store, limit: int | None) -> Benchmark:
    """As this engine is asked, with the answers that it compares with. Raises MissingParts."""
    lacking = [*benchmark.missing(), *(judge.missing() if judge else [])]
    lacking += unfit_for(judge, paired=compares(benchmark)) if judge else []
    lacking += benchmark.unfit(engine) if isinstance(benchmark, FitsEngine) else []
    if lacking:
        raise MissingParts(f"{benchmark.name} on {engine.model.name}", lacking)
    if isinstance(benchmark, FitsEngine):
        benchmark = benchmark.fitted(engine)
    if isinstance(benchmark, NeedsAnswers):
        benchmark = benchmark.with_answers(store, engine.model, limit)
    return benchmark


def completed(run: RunWriter, benchmark: Benchmark, found: Iterable[SampleScore]) -> Outcome:
    """Stores the samples as they come, then the scores made of them all."""
    samples = list(_stored(run, found))
    # in an order of their own: a run that was broken off and taken up again gives the same to the last bit
    samples.sort(key=lambda s: (s.question, s.turn, s.metric, s.rival, s.replicate))
    scores = benchmark.aggregate(samples)
    run.finish("complete", scores)
    return Outcome(run.id, benchmark.name, tuple(scores))


@contextmanager
def recorded_run(
    store: Store, engine: Engine, judge: Judge | None, *, benchmark: str, protocol: Mapping[str, Any], seed: int
) -> Iterator[RunWriter]:
    """A new run of the engine's model. What breaks it off is written down as its status; the caller completes it."""
    model = engine.model
    store.put_model(
        fingerprint=model.fingerprint,
        name=model.name,
        location=model.location,
        note=model.note,
        lineage=dict(model.lineage),
    )
    run = store.start_run(
        RunStart(
            benchmark=benchmark,
            model=model.name,
            model_fingerprint=model.fingerprint,
            engine_fingerprint=engine.fingerprint,
            judge=judge.name if judge else None,
            judge_fingerprint=judge.fingerprint if judge else None,
            protocol=protocol,
            seed=seed,
            environment=environment(),
        )
    )
    try:
        yield run
    except KeyboardInterrupt:
        run.finish("interrupted", [])
        raise
    except ServiceError:
        run.finish("incomplete", [])
        raise
    except BaseException:
        run.finish("failed", [])
        raise


def _stored(run: RunWriter, samples: Iterable[SampleScore]) -> Iterator[SampleScore]:
    """The samples, in the store in small batches before the next is asked for."""
    batch: list[SampleScore] = []
    try:
        for sample in samples:
            batch.append(_finite(sample))
            if len(batch) == _SAMPLES_PER_COMMIT:
                run.add_samples(batch)
                yield from batch
                batch = []
    finally:
        run.add_samples(batch)
    yield from batch


def _finite(sample: SampleScore) -> SampleScore:
    """A NaN is a missing value with a reason, not a number."""
    if sample.value is not None and sample.value != sample.value:
        return replace(sample, value=None, reason=sample.reason or "the metric is not a number")
    return sample


def environment() -> dict[str, str]:
    """What the numbers were made with: our version, Python, the libraries, the processor."""
    found = {"zephyr-bench": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for package in ("torch", "transformers", "lm_eval", "openai"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
