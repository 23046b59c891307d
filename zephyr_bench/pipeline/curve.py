"""Evaluations of a recipe's models, at the end of a stage and in the midst of one, and the curve of the latter.

In: benchmarks with their judges, and models. Out: runs in the store like any others, and STAGE-curve.png and .csv
beside the checkpoints. What the store has is not evaluated again, so a killed training goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zephyr_bench.benchmarks.evaluate import evaluate
from zephyr_bench.benchmarks.protocol import Benchmark
from zephyr_bench.engines.protocol import EngineOptions, ModelSource
from zephyr_bench.judges.protocol import Judge
from zephyr_bench.pipeline.engines import OpenEngines
from zephyr_bench.pipeline.training import Timings
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Evaluation, Recipe
from zephyr_bench.reports.curve import Point, write_curve
from zephyr_bench.store import RunInfo, Store

Parts = Sequence[tuple[Evaluation, Benchmark, Judge | None]]


@dataclass(frozen=True)
class Evaluator:
    """A recipe's benchmarks, run on one model after the other; during training it is the trainers' `Evaluations`."""

    recipe: Recipe
    parts: Parts
    options: EngineOptions
    store: Store
    out: Path
    progress: Progress
    timings: Timings
    limit: int | None = None

    def evaluated(self, model: ModelSource, engines: OpenEngines) -> dict[str, str]:
        """Benchmark -> run."""
        runs: dict[str, str] = {}
        for evaluation, benchmark, judge in self.parts:
            with self.timings.stage(benchmark.name, evaluation.budget_minutes):
                self.progress.say(f"{benchmark.name}: {model.name}")
                outcome = evaluate(
                    benchmark,
                    engines.get(model),
                    judge=judge,
                    store=self.store,
                    progress=self.progress,
                    limit=self.limit or evaluation.limit,
                    seed=self.recipe.seed,
                )
            runs[benchmark.name] = outcome.run
        return runs

    def missing(self, stage: str, step: int) -> bool:
        made = self.store.runs(trained_by=stage, status="complete")
        return not all(any(self._step(run) == step for run in self._fitting(made, part)) for part in self.parts)

    def run(self, model: ModelSource) -> None:
        engines = OpenEngines(self.options)
        try:
            self.evaluated(model, engines)
        finally:
            engines.close()
        self._write(model, self._curve(model))

    def finish(self, model: ModelSource) -> None:
        """The curve with its end, of a stage that was evaluated in its midst."""
        points = self._curve(model)
        if any(0 < point.step < model.lineage["steps"] for point in points):
            self._write(model, points)

    def _write(self, model: ModelSource, points: Sequence[Point]) -> None:
        stage = model.lineage["stage"]
        write_curve(points, self.out / f"{stage}-curve", title=f"{self.recipe.name}: {stage}")

    def _curve(self, model: ModelSource) -> list[Point]:
        """Of the stage that made the model, so far; step 0 is what it started from."""
        stage, start = model.lineage["stage_fingerprint"], model.lineage["parent"]["fingerprint"]
        return [point for part in self.parts for point in self._points(part, stage, start)]

    def _points(self, part: tuple[Evaluation, Benchmark, Judge | None], stage: str, start: str) -> Iterator[Point]:
        """By step, ascending; of several runs of a step the newest."""
        before = self._fitting(self.store.runs(model=start, status="complete"), part)
        made = self._fitting(self.store.runs(trained_by=stage, status="complete"), part)
        runs = dict([*((0, run) for run in before[:1]), *((self._step(run), run) for run in reversed(made))])
        scores = self.store.scores_of([run.id for run in runs.values()])
        for step, run in sorted(runs.items()):
            score = scores[run.id][0]
            yield Point(run.benchmark, score.metric, step, score.value, score.stderr, score.n, run.model, run.id)

    def _fitting(self, runs: Sequence[RunInfo], part: tuple[Evaluation, Benchmark, Judge | None]) -> list[RunInfo]:
        """Those of the benchmark as it is set now, with the same judge and number of questions, in their order."""
        evaluation, benchmark, judge = part
        judged_by, limit = judge.fingerprint if judge else None, self.limit or evaluation.limit
        return [
            run
            for run in runs
            if (run.benchmark, run.judge_fingerprint, run.protocol.get("limit")) == (benchmark.name, judged_by, limit)
        ]

    def _step(self, run: RunInfo) -> int:
        return int(self.store.model(run.model_fingerprint).lineage["steps"])
