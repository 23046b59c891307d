"""Evaluations of a recipe's models, at the end of a stage and in the midst of one, and the curve of the latter.

In: benchmarks with their judges, and models. Out: runs in the store like any others, and STAGE-curve.png and .csv
beside the checkpoints. What the store has is not evaluated again, so a killed training goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zephyr_bench.benchmarks.evaluate import asked_protocol, evaluate, ready_for
from zephyr_bench.benchmarks.protocol import Benchmark, FitsEngine, NeedsAnswers
from zephyr_bench.engines.protocol import Engine, EngineOptions, ModelSource
from zephyr_bench.fingerprint import canonical_json
from zephyr_bench.judges.protocol import Judge
from zephyr_bench.pipeline.engines import OpenEngines
from zephyr_bench.pipeline.training import Timings
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Evaluation, Recipe
from zephyr_bench.reports.curve import Point, write_curve
from zephyr_bench.reports.kept_terms import keep_terms
from zephyr_bench.store import RunInfo, Store

Part = tuple[Evaluation, Benchmark, Judge | None]
Parts = Sequence[Part]


def run_part(part: Part, engine: Engine, *, store: Store, progress: Progress, limit: int | None, seed: int) -> str:
    """Its run, made now. `limit` is of questions, in place of the recipe's."""
    evaluation, benchmark, judge = part
    limit = limit or evaluation.limit
    outcome = evaluate(benchmark, engine, judge=judge, store=store, progress=progress, limit=limit, seed=seed)
    keep_terms(store, [outcome.run])
    return outcome.run


def protocol_of(part: Part, engine: Engine | None, *, store: Store, limit: int | None) -> str:
    """All that makes two runs of it comparable, as that engine is asked; `limit` as in `run_part`."""
    evaluation, benchmark, judge = part
    limit = limit or evaluation.limit
    if engine is not None:
        benchmark = ready_for(benchmark, engine, judge, store, limit)
    return canonical_json(asked_protocol(benchmark, limit))


def fitting(runs: Sequence[RunInfo], part: Part, protocol: str) -> list[RunInfo]:
    """Those of the benchmark by that protocol and the judge as it is now, in their order."""
    _, benchmark, judge = part
    wanted = benchmark.name, judge.fingerprint if judge else None, protocol
    return [run for run in runs if (run.benchmark, run.judge_fingerprint, canonical_json(dict(run.protocol))) == wanted]


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

    def evaluated(self, model: ModelSource, engines: OpenEngines, parts: Parts | None = None) -> dict[str, str]:
        """Benchmark -> run; of all the parts by default."""
        runs: dict[str, str] = {}
        for evaluation, benchmark, judge in self.parts if parts is None else parts:
            with self.timings.stage(benchmark.name, evaluation.budget_minutes):
                self.progress.say(f"{benchmark.name}: {model.name}")
                runs[benchmark.name] = run_part(
                    (evaluation, benchmark, judge),
                    engines.get(model),
                    store=self.store,
                    progress=self.progress,
                    limit=self.limit,
                    seed=self.recipe.seed,
                )
        return runs

    def missing(self, stage: str, step: int) -> bool:
        """Also where only the model, which is not written yet, can tell how it is asked: `run` then looks again."""
        made = self._of_step(stage, step)
        asked_of_model = (FitsEngine, NeedsAnswers)
        return any(
            isinstance(part[1], asked_of_model) or not fitting(made, part, self._protocol(part)) for part in self.parts
        )

    def run(self, model: ModelSource) -> None:
        engines = OpenEngines(self.options)
        try:
            made = self._of_step(model.lineage["stage_fingerprint"], model.lineage["steps"])
            engine = engines.get(model)
            new = [part for part in self.parts if not fitting(made, part, self._protocol(part, engine))]
            self.evaluated(model, engines, new)
            points = self._curve(model, engine)
        finally:
            engines.close()
        self._write(model, points)

    def finish(self, model: ModelSource, engine: Engine) -> None:
        """The curve with its end, of a stage that was evaluated in its midst."""
        points = self._curve(model, engine)
        if any(0 < point.step < model.lineage["steps"] for point in points):
            self._write(model, points)

    def _write(self, model: ModelSource, points: Sequence[Point]) -> None:
        stage = model.lineage["stage"]
        write_curve(points, self.out / f"{stage}-curve", title=f"{self.recipe.name}: {stage}")

    def _curve(self, model: ModelSource, engine: Engine) -> list[Point]:
        """Of the stage that made the model, so far, of runs asked as it is; step 0 is what it started from."""
        stage, start = model.lineage["stage_fingerprint"], model.lineage["parent"]["fingerprint"]
        return [
            point for part in self.parts for point in self._points(part, self._protocol(part, engine), stage, start)
        ]

    def _points(self, part: Part, protocol: str, stage: str, start: str) -> Iterator[Point]:
        """By step, ascending; of several runs of a step the newest."""
        before = fitting(self.store.runs(model=start, status="complete"), part, protocol)
        made = fitting(self.store.runs(trained_by=stage, status="complete"), part, protocol)
        runs = dict([*((0, run) for run in before[:1]), *((self._step(run), run) for run in reversed(made))])
        scores = self.store.scores_of([run.id for run in runs.values()])
        for step, run in sorted(runs.items()):
            score = scores[run.id][0]
            yield Point(run.benchmark, score.metric, step, score.value, score.stderr, score.n, run.model, run.id)

    def _protocol(self, part: Part, engine: Engine | None = None) -> str:
        return protocol_of(part, engine, store=self.store, limit=self.limit)

    def _of_step(self, stage: str, step: int) -> list[RunInfo]:
        return [run for run in self.store.runs(trained_by=stage, status="complete") if self._step(run) == step]

    def _step(self, run: RunInfo) -> int:
        return int(self.store.model(run.model_fingerprint).lineage["steps"])
