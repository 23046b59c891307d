"""watch: a trainer's checkpoints on a recipe's benchmarks, each once, as they appear.

In: a folder of checkpoints (checkpoint_folders.py), or a model of the hub. Out: runs in the store, a curve. A model
is known by its fingerprint: what has a complete run of the same benchmark, protocol, judge and seed is not run again,
whoever ran it. What was asked and judged is stored at once, so a watch that is broken off goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

from zephyr_bench import __version__
from zephyr_bench.engines.locate import locate, locate_directory
from zephyr_bench.engines.model_files import read_lineage
from zephyr_bench.engines.protocol import Engine, EngineOptions, ModelSource
from zephyr_bench.errors import MissingParts, ServiceError, StoreError, UserError, first_line
from zephyr_bench.escaping import visible
from zephyr_bench.hub import offline, reachable
from zephyr_bench.judges.protocol import JudgeOptions
from zephyr_bench.pipeline.checkpoint_folders import (
    Folder,
    Settling,
    State,
    checkpoint_folders,
    lacking,
    newest_last,
    state_of,
)
from zephyr_bench.pipeline.curve import Part, Parts, fitting, protocol_of, run_part
from zephyr_bench.pipeline.engines import OpenEngines
from zephyr_bench.pipeline.plan import open_parts
from zephyr_bench.pipeline.requirements import benchmark_parts, judge_parts, unfit_judges
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe, packaged_models
from zephyr_bench.records import Score
from zephyr_bench.reports.curve import Point, write_curve
from zephyr_bench.reports.render import MISSING, render_records, render_table, with_error
from zephyr_bench.store import RunInfo, Store
from zephyr_bench.store.run_info import release

_LOOK_SECONDS = 1.0  # between two looks at folders that may be written just now
_PATIENCE_SECONDS = 30.0  # for those, where there is no next time
_FIELDS = ("model", "step", "benchmark", "metric", "value", "stderr", "n", "missing", "judge", "run")
_RETRY_SECONDS = 60.0  # after a first failure that may pass, then twice as long each time
_LONGEST_RUN = timedelta(hours=12)  # another host's process may have died without a word


@dataclass(frozen=True)
class Watched:
    """A checkpoint with its runs: benchmark -> run, in the recipe's order."""

    name: str
    step: int | None
    training: Path | None
    runs: Mapping[str, str]

    @property
    def place(self) -> tuple[Path | None, str, int | None]:
        return self.training, self.name, self.step


def prepare(
    recipe: Recipe, options: EngineOptions, *, data: Path | None = None, judging: JudgeOptions | None = None
) -> Parts:
    """Each evaluation's benchmark and judge. Raises MissingParts with all that they lack."""
    if not recipe.evaluate:
        raise UserError(f"recipe {recipe.name} evaluates nothing: add `evaluate:` with benchmarks to it.")
    alone = recipe.model_copy(update=dict.fromkeys(("dsft", "dsft2", "feedback", "ddpo")))
    parts, judges = open_parts(alone, options, data=data, judging=judging)
    missing = [*benchmark_parts([benchmark for _, benchmark, _ in parts]), *judge_parts(judges)]
    missing += unfit_judges((benchmark, judge) for _, benchmark, judge in parts)
    if missing:
        raise MissingParts(f"recipe {recipe.name}", missing)
    return parts


@dataclass
class Watch:
    """One watch of a folder, or of a model on the hub; `watched` is what it has seen through.

    StoreError and ServiceError end a watch; a checkpoint that can't be evaluated is told, and the others go on.
    """

    recipe: Recipe
    parts: Parts
    options: EngineOptions
    store: Store
    progress: Progress
    limit: int | None = None  # of questions, in place of the recipe's
    tags: Sequence[str] = ()  # of the runs
    newest: bool = False  # only the newest checkpoint
    plot: Path | None = None  # where the curve goes, without its ending
    wait: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic  # seconds
    watched: list[Watched] = field(default_factory=list)
    _settling: Settling = field(default_factory=Settling)
    _broken: dict[Path, str] = field(default_factory=dict)  # why
    _done: dict[Path, State] = field(default_factory=dict)  # evaluated or broken, as it was then
    _told: set[Path] = field(default_factory=set)
    _not_before: dict[Path, tuple[State, float]] = field(default_factory=dict)  # as it was then; by `clock`
    _failures: dict[Path, tuple[State, int]] = field(default_factory=dict)  # as it was then; how often
    _trainings: set[Path] = field(default_factory=set)

    def once(self, root: Path) -> None:
        """What is there. Raises UserError at the end where a checkpoint is broken, or none is finished."""
        folders = self._at_rest(root)
        for folder in reversed(self._newest_last(folders)) if self.newest else folders:
            if why := lacking(folder.path):
                self._refuse(folder, why)
                continue
            runs_elsewhere, taken = self._take(folder)
            if runs_elsewhere:
                self._refuse(folder, "another process evaluates it now; run the same command again when that is done")
            if self.newest and (taken or runs_elsewhere):
                break
        if self._broken:
            told = [visible(one) for one in self._broken.values()]
            what = f"{len(told)} of {len(folders)} checkpoints in {root} can't be evaluated"
            raise UserError(f"{what}: {told[0]}." if len(told) == 1 else what + "".join(f"\n  - {one}" for one in told))
        if not self.watched:
            raise UserError(
                f"{root}: no finished checkpoint there; expected folders such as checkpoint-200, with config, "
                "tokenizer and safetensors."
            )

    def on(self, root: Path, *, every: float) -> NoReturn:
        """What is there and what comes; looks again after that many seconds."""
        while True:
            folder = self._next(root, every)
            if folder is None:
                self.wait(every)
            elif self._take(folder, again=True)[0]:
                self._later(folder, every)

    def hub(self, repo: str) -> None:
        """Its newest revision. Raises UserError where there is none, and ServiceError where the hub does not answer."""
        unknown = repo not in packaged_models(self.options.include) and not reachable()
        if unknown and not offline():
            raise ServiceError(
                f"watch {repo}: the hub does not answer from here, so its newest revision isn't known; try again, "
                "or set HF_HUB_OFFLINE=1 to take the one that is here."
            )
        model = self._as_known(locate(repo, include=self.options.include))
        if unknown:
            self._warn(f"HF_HUB_OFFLINE forbids the hub; of {repo} the revision that is here is taken")
        runs = self._runs(model)
        self._tag(runs)
        self._add(Watched(model.name, None, None, runs))

    def _at_rest(self, root: Path) -> list[Folder]:
        """In their order, without those that are still being written after some patience."""
        looks = int(_PATIENCE_SECONDS / _LOOK_SECONDS)
        for left in reversed(range(looks)):
            folders = checkpoint_folders(root)
            growing = [f for f in folders if not self._settling.rests(f.path, state_of(f.path))]
            if not growing or not left:
                break
            self.wait(_LOOK_SECONDS)
        for folder in growing:
            self._say(f"{folder.name} is being written; it is left for the next time")
        self._trainings.update(folder.training for folder in folders)
        return [folder for folder in folders if folder not in growing]

    def _newest_last(self, folders: Sequence[Folder]) -> list[Folder]:
        """By when they were written, which is told where their steps say otherwise."""
        by_time = newest_last(folders)
        if folders and (newest := by_time[-1]) != folders[-1] and newest.path not in self._told:
            self._told.add(newest.path)
            self._warn(f"{newest.name} was written after {folders[-1].name}, so it is taken for the newest")
        return by_time

    def _next(self, root: Path, every: float) -> Folder | None:
        """The first to do now, if there is any."""
        folders = checkpoint_folders(root)
        self._trainings.update(folder.training for folder in folders)
        ready = [folder for folder in folders if self._is_ready(folder, every)]
        for folder in self._newest_last(ready)[-1:] if self.newest else ready:
            state = state_of(folder.path)
            before, when = self._not_before.get(folder.path, ({}, 0.0))
            if self._done.get(folder.path) != state and (before != state or self.clock() >= when):
                return folder
        return None

    def _is_ready(self, folder: Folder, every: float) -> bool:
        state = state_of(folder.path)
        if self._done.get(folder.path) == state:
            return True
        rests = self._settling.rests(folder.path, state)
        why = lacking(folder.path) or (None if rests else "it is being written")
        if why and folder.path not in self._told:
            self._told.add(folder.path)
            self._say(f"{folder.name} isn't ready ({why}); looked at again every {every:g} s")
        return why is None

    def _take(self, folder: Folder, *, again: bool = False) -> tuple[bool, bool]:
        """(another process is at it, it was evaluated): it may be broken or go away meanwhile, too.

        `again`: there will be another look, so what may pass is tried anew.
        """
        state = state_of(folder.path)
        try:
            found = self._found(folder)
            model = self._as_known(found)
            if self._is_running(model):
                return True, False
            runs = self._runs(model)
            after = state_of(folder.path)
            changed = after not in ({}, state) and self._found(folder).fingerprint != found.fingerprint
        except (StoreError, ServiceError):
            raise
        # a file may hold anything, and what libraries raise for it has many kinds
        except Exception as error:  # noqa: BLE001
            if lacking(folder.path):  # trainers that keep the last few delete the others
                self._say(f"{folder.name} went away while it was evaluated; it is left out")
                return False, False
            self._failed(folder, state, _why(error), again=again)
            return False, False
        if changed:
            why = "it changed while it was evaluated; its runs are of one or the other, and have no tag"
            self._failed(folder, state, why, again=again)
            return False, False
        self._tag(runs)
        self._done[folder.path] = state
        self._add(Watched(model.name, folder.step, folder.training, runs))
        return False, True

    def _found(self, folder: Folder) -> ModelSource:
        name = read_lineage(folder.path).get("name") or folder.name
        return locate_directory(folder.path, name=name, include=self.options.include)

    def _failed(self, folder: Folder, state: State, why: str, *, again: bool) -> None:
        """What may have come of a full disk or a hub that was away; told once."""
        if not again:
            self._refuse(folder, why)
            return
        before, times = self._failures.get(folder.path, ({}, 0))
        times = times + 1 if before == state else 1
        self._failures[folder.path] = state, times
        self._later(folder, _RETRY_SECONDS * 2 ** (times - 1), state)
        if times == 1:
            self._warn(f"{folder.name} can't be evaluated: {why}; it is tried again, each time after a longer while")

    def _later(self, folder: Folder, seconds: float, state: State | None = None) -> None:
        self._not_before[folder.path] = state or state_of(folder.path), self.clock() + seconds

    def _say(self, message: str) -> None:
        self.progress.say(visible(message))  # what a name says is no line of its own: CI obeys some

    def _warn(self, message: str) -> None:
        self.progress.warn(visible(message))

    def _as_known(self, model: ModelSource) -> ModelSource:
        """By the name that it has in the store: one checkpoint's runs are told apart from another's by both."""
        before = self.store.runs(model=model.fingerprint, limit=1)
        return replace(model, name=before[0].model) if before else model

    def _refuse(self, folder: Folder, why: str) -> None:
        self._broken[folder.path] = f"{folder.name}: {why}"
        self._done[folder.path] = state_of(folder.path)
        self._warn(f"{folder.name} can't be evaluated: {why}")

    def _add(self, watched: Watched) -> None:
        self.watched = [w for w in self.watched if w.place != watched.place]  # a file more in its folder, say
        self.watched.append(watched)
        scores = self.store.scores_of(watched.runs.values())
        told = [f"{name} {with_error(*_headline(scores[run]))}" for name, run in watched.runs.items()]
        self._say(f"{watched.name}: {', '.join(told)}")
        if self.plot:
            self._draw(self.plot, watched)

    def _draw(self, plot: Path, last: Watched) -> None:
        """The curve of its training; where there are several, each in a file by the training's name."""
        for training in {watched.training: watched for watched in self.watched}:
            place = training.name if training else last.name
            file = plot
            if training and len(self._trainings) > 1:
                same = [other for other in self._trainings if other.name == place]
                file = plot.with_name(f"{plot.name}-{place if len(same) == 1 else f'{training.parent.name}-{place}'}")
            if training == last.training or not file.with_name(f"{file.name}.png").exists():
                write_curve(self._points(training), file, title=f"{self.recipe.name}: {place}")

    def _points(self, training: Path | None) -> list[Point]:
        """Of one training, by benchmark and step."""
        seen = sorted((w for w in self.watched if w.training == training and w.step is not None), key=_step)
        scores = self.store.scores_of({run for watched in seen for run in watched.runs.values()})
        return [
            Point(benchmark.name, score.metric, _step(w), score.value, score.stderr, score.n, w.name, run)
            for _, benchmark, _ in self.parts
            for w in seen
            if (run := w.runs[benchmark.name]) and (score := scores[run][0])
        ]

    def _runs(self, model: ModelSource) -> dict[str, str]:
        """Benchmark -> run, those that the store lacks made now."""
        engines, runs = OpenEngines(self.options), {}
        try:
            for part in self.parts:
                engine = engines.get(model)
                runs[part[1].name] = self._known(part, engine) or self._made(part, engine)
        finally:
            engines.close()
        return runs

    def _tag(self, runs: Mapping[str, str]) -> None:
        for run in runs.values():
            for tag in self.tags:
                self.store.tag(run, tag)

    def _made(self, part: Part, engine: Engine) -> str:
        self._say(f"{part[1].name}: {engine.model.name}")
        store, progress = self.store, self.progress
        return run_part(part, engine, store=store, progress=progress, limit=self.limit, seed=self.recipe.seed)

    def _known(self, part: Part, engine: Engine) -> str | None:
        """The newest run that the evaluation would only repeat."""
        made = self.store.runs(benchmark=part[1].name, model=engine.model.fingerprint, status="complete")
        if not made:
            return None
        # a comparison refuses another release's runs; those made of what is stored cost nothing
        wanted = self.recipe.seed, release(__version__)
        alike = fitting(made, part, protocol_of(part, engine, store=self.store, limit=self.limit))
        same = [run for run in alike if (run.seed, release(run.version)) == wanted]
        return same[0].id if same and not (self.newest and self._is_behind(same[0])) else None

    def _is_behind(self, run: RunInfo) -> bool:
        """Whether another run would still be the newest of a tag; one made of what is stored costs nothing."""
        others = self.store.runs(benchmark=run.benchmark, status="complete")
        return any(set(self.tags) & set(other.tags) and other.created > run.created for other in others)

    def _is_running(self, model: ModelSource) -> bool:
        """Whether another process evaluates that model now, on benchmarks of ours."""
        names = {benchmark.name for _, benchmark, _ in self.parts}
        oldest = f"{datetime.now(UTC) - _LONGEST_RUN:%Y-%m-%dT%H:%M:%S}"
        running = self.store.runs(model=model.fingerprint, status="running")
        return any(run.benchmark in names and run.created > oldest for run in running)


def _why(error: Exception) -> str:
    expected = isinstance(error, (UserError, OSError))
    told = str(error) if expected else f"{type(error).__name__}: {first_line(error)}"
    return told.removesuffix(".")


def _step(watched: Watched) -> int:
    return watched.step or 0


def _headline(scores: Sequence[Score]) -> tuple[float | None, float | None]:
    return (scores[0].value, scores[0].stderr) if scores else (None, None)


def render_watched(watch: Watch, format: str) -> str:
    """The curve as text: a line a checkpoint with each benchmark's headline; as csv or json every score."""
    scores = watch.store.scores_of({run for watched in watch.watched for run in watched.runs.values()})
    if format in ("csv", "json"):
        judges = {benchmark.name: judge and judge.name for _, benchmark, judge in watch.parts}
        records = [
            {"model": w.name, "step": w.step, "benchmark": name, "judge": judges[name], "run": run, **asdict(score)}
            for w in watch.watched
            for name, run in w.runs.items()
            for score in scores[run]
        ]
        return render_records(records, _FIELDS, format)
    heads = ["step", "checkpoint", *(f"{b.name} {b.headline}" for _, b, _ in watch.parts)]
    cells = [
        [
            MISSING if w.step is None else str(w.step),
            w.name,
            *(with_error(*_headline(scores[r])) for r in w.runs.values()),
        ]
        for w in watch.watched
    ]
    numeric = [0, *range(2, len(heads))]
    return render_table(heads, cells, format, numeric=numeric, notes=["± standard error"])
