"""Conformance suite of the Benchmark protocol.

A plug-in's author calls `check_benchmark` in a test, with an engine and a judge that fit.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

from zephyr_bench.benchmarks.evaluate import Outcome, evaluate
from zephyr_bench.benchmarks.protocol import Benchmark, TellsQuestions
from zephyr_bench.engines.protocol import Engine, FollowUp
from zephyr_bench.errors import ZephyrBenchError
from zephyr_bench.fingerprint import canonical_json
from zephyr_bench.judges.protocol import Judge
from zephyr_bench.progress import Progress
from zephyr_bench.records import Judgment, Match
from zephyr_bench.store import Store

_PARTS_OF_A_SIZE = {"questions", "answers", "judgments", "max_new_tokens"}


def check_benchmark(
    benchmark: Benchmark, engine: Engine, *, judge: Judge | None, store: Store, limit: int = 2
) -> Outcome:
    """Raises AssertionError with what the protocol asks for and the benchmark doesn't do.

    Evaluates `limit` questions twice into `store`; the second time nothing may be made.
    """
    assert benchmark.missing() == [], f"the suite needs a benchmark that can run: {benchmark.missing()}"
    assert benchmark.judged == (judge is not None), "give a judge exactly where the benchmark is judged"
    canonical_json(benchmark.protocol(limit))  # plain data, or this raises
    assert benchmark.protocol(limit) == benchmark.protocol(limit), "protocol() differs from call to call"
    assert set(benchmark.size(limit)) == _PARTS_OF_A_SIZE, f"size() must have the keys {_PARTS_OF_A_SIZE}"
    if isinstance(benchmark, TellsQuestions):
        assert any(text.strip() for _, text in benchmark.question_texts()), "question_texts() tells none"
    quiet = Progress(quiet=True)
    first = evaluate(benchmark, engine, judge=judge, store=store, progress=quiet, limit=limit)
    assert first.scores, "no scores"
    assert first.scores[0].metric == benchmark.headline, "the headline metric comes first"
    samples = store.samples_of(first.run)
    assert samples, "no sample reached the store"
    shuffled = random.Random(0).sample(samples, len(samples))
    assert benchmark.aggregate(shuffled) == list(first.scores), "aggregate() must not depend on the samples' order"
    idle: Any = _Idle(engine)
    again = evaluate(
        benchmark, idle, judge=_IdleJudge(judge) if judge else None, store=store, progress=quiet, limit=limit
    )
    assert again.scores == first.scores, "the second run's scores differ from the first's"
    return first


class WorkDone(ZephyrBenchError):
    """Something was made that the store already has."""


class _Idle:
    """The engine, but it refuses to work."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, requests: Iterable[Any], *, then: FollowUp | None = None) -> Iterator[Any]:
        return _refuse(requests, "generate")

    def complete(self, requests: Iterable[Any]) -> Iterator[Any]:
        return _refuse(requests, "complete")

    def score(self, requests: Iterable[Any]) -> Iterator[Any]:
        return _refuse(requests, "score")


class _IdleJudge:
    """The judge, but it refuses to grade."""

    def __init__(self, judge: Judge) -> None:
        self.name, self.fingerprint = judge.name, judge.fingerprint
        self._judge = judge

    def missing(self) -> list[str]:
        return self._judge.missing()

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float | None:
        return self._judge.cost_usd(input_tokens, output_tokens)

    def grade(self, matches: Iterable[Match]) -> Iterator[Judgment]:
        return _refuse(matches, "grade")


def _refuse(requests: Iterable[Any], what: str) -> Iterator[Any]:
    for request in requests:
        raise WorkDone(f"{what} was asked for what the store has: {request}")
    return iter(())
