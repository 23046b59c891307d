"""Open LLM Leaderboard suites: lm-eval's own task definitions, run by lm-eval on our engine.

Tasks, few-shot selection, prompts and metrics are lm-eval's. Ours are the model underneath, the data's
place, the store, and the average. Scores are in per cent.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from zephyr_bench.benchmarks.protocol import Job
from zephyr_bench.benchmarks.spec import BenchmarkSpec
from zephyr_bench.engines.protocol import ScoringEngine
from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.fingerprint import file_sha256, fingerprint
from zephyr_bench.hub import cached
from zephyr_bench.recipe import Entry
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.stats.means import mean_of_means, mean_stderr

# lm-eval's default for the few-shot order (lm_eval/defaults.py, DEFAULT_OTHER_SEED)
_FEWSHOT_SEED = 1234


class TaskSpec(Entry):
    task: str  # lm-eval's name of a task or group
    shots: int = Field(ge=0)
    metric: str
    filter: str = "none"  # lm-eval's name of the answer's extraction
    subtasks: tuple[str, ...] = ()  # the tasks of a group to run; empty: all of them
    data: str  # hub id of the data set the task loads
    folder: str | None = None  # of lm_eval/tasks that declares it; saves reading all 14,000 declarations
    rows: int = Field(0, ge=0)  # test rows in all, for the plan
    leaves: int = Field(1, gt=0)  # tasks in a group that is run whole, for the plan


class OpenLlmSpec(BenchmarkSpec):
    kind: Literal["open_llm"]
    headline: str = "average"
    tasks: tuple[TaskSpec, ...] = Field(min_length=1)
    data: Path | None = None  # a folder in the hub's layout beside the YAML

    @model_validator(mode="after")
    def _names_differ(self) -> OpenLlmSpec:
        if len({task.task for task in self.tasks}) < len(self.tasks):
            raise ValueError("a task stands twice")
        return self


class OpenLlm:
    """Multiple-choice and short-answer tasks, averaged."""

    Spec = OpenLlmSpec
    judged = False
    default_judge: str | None = None

    def __init__(
        self,
        spec: OpenLlmSpec,
        *,
        name: str,
        folder: Path,
        data: Path | None = None,
        tasks: Sequence[str] = (),
        chat_template: bool = False,
    ) -> None:
        self.name = name
        self.headline = spec.headline
        self.margin = spec.margin
        self.tasks = _chosen(spec.tasks, tasks, name)
        self._spec = spec
        self._chat_template = chat_template
        own = [folder / spec.data] if spec.data else []
        self._data = [*([data] if data else []), *own]

    def missing(self) -> list[str]:
        return [f"data folder {folder} does not exist" for folder in self._data if not folder.is_dir()]

    def hub_data(self) -> list[str]:
        absent = {task.data for task in self.tasks if self._local(task.data) is None}
        return sorted(name for name in absent if not cached(name, "dataset"))

    def protocol(self, limit: int | None) -> Mapping[str, Any]:
        return {
            "tasks": [
                task.model_dump(mode="json", exclude={"data", "folder", "rows", "leaves"}) for task in self.tasks
            ],
            "data": {task.data: self._data_fingerprint(task.data) for task in self.tasks},
            "lm_eval": version("lm_eval"),
            "chat_template": self._chat_template,
            "fewshot_seed": _FEWSHOT_SEED,
        }

    def size(self, limit: int | None) -> Mapping[str, int]:
        rows = [(task.rows, limit * (len(task.subtasks) or task.leaves) if limit else task.rows) for task in self.tasks]
        return {"questions": sum(map(min, rows)), "answers": 0, "judgments": 0, "max_new_tokens": 0}

    def samples(self, job: Job) -> Iterator[SampleScore]:
        if not isinstance(job.engine, ScoringEngine):
            raise UserError(
                f"{self.name} reads log-probabilities, which engine {type(job.engine).__name__} can't tell."
            )
        _hush()
        from lm_eval.evaluator import evaluate

        from zephyr_bench.engines.lm_eval_model import EngineLM

        model = EngineLM(job.engine, job.run, progress=job.progress)
        found = evaluate(
            lm=model,
            task_dict=self._lm_eval_tasks(),
            limit=job.limit,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=self._chat_template,
            fewshot_as_multiturn=self._chat_template,
        )
        for leaf, records in found["samples"].items():
            task = self._task_of(leaf)
            if not any(record["filter"] == task.filter for record in records):
                known = {record["filter"] for record in records}
                raise UserError(
                    f"{self.name}: task {leaf} has no filter '{task.filter}'.{did_you_mean(task.filter, known)}"
                )
            for record in records:
                if record["filter"] == task.filter:
                    yield SampleScore(f"{leaf}/{record['doc_id']}", leaf, task.metric, float(record[task.metric]))

    def aggregate(self, samples: Sequence[SampleScore]) -> list[Score]:
        """A task's score is the mean over its rows; a group's, the mean over its tasks, each counted alike."""
        rows: dict[str, dict[str, list[float]]] = {task.task: {} for task in self.tasks}
        for sample in samples:
            if sample.value is not None:
                leaves = rows[self._task_of(sample.category).task]
                leaves.setdefault(sample.category, []).append(100 * sample.value)
        scores = []
        for task, leaves in rows.items():
            means = [mean_stderr(values) for values in leaves.values()]
            mean, stderr = mean_of_means(means)
            scores.append(Score(task, mean, stderr, sum(len(values) for values in leaves.values())))
        mean, stderr = mean_of_means([(score.value, score.stderr) for score in scores])
        return [Score("average", mean, stderr, sum(score.n for score in scores)), *scores]

    def _task_of(self, leaf: str) -> TaskSpec:
        """The declared task that a leaf of lm-eval belongs to: itself, or the group whose name it extends."""
        owners = [task for task in self.tasks if leaf == task.task or leaf.startswith(f"{task.task}_")]
        return max(owners, key=lambda task: len(task.task))

    def _lm_eval_tasks(self) -> Any:
        """lm-eval's tasks, its definitions unchanged but for where the data lies and the number of shots."""
        manager = _task_manager(tuple(task.folder or "" for task in self.tasks))
        wanted: list[dict[str, Any]] = []
        for task in self.tasks:
            local = self._local(task.data)
            place = {"dataset_path": str(local), "dataset_kwargs": {"cache_dir": _datasets_cache()}} if local else {}
            wanted += [{"task": name, "num_fewshot": task.shots, **place} for name in task.subtasks or (task.task,)]
        try:
            # a group of ours: the one public way to load lm-eval's tasks with keys of theirs overridden
            loaded = manager.load([{"group": self.name, "task": wanted}])
        except (OSError, ValueError) as error:  # what datasets raises for absent or broken data
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"{self.name}: the data of its tasks can't be loaded ({reason}); "
                f"name a folder in the hub's layout with --data."
            ) from None
        for leaf, task_object in loaded["tasks"].items():
            metric, known = self._task_of(leaf).metric, task_object.aggregation()
            if metric not in known:
                raise UserError(f"{self.name}: task {leaf} has no metric '{metric}'.{did_you_mean(metric, known)}")
            task_object.set_fewshot_seed(seed=_FEWSHOT_SEED)
        return loaded

    def _local(self, name: str) -> Path | None:
        """The folder of a hub data set below one of the data folders."""
        return next((folder / name for folder in self._data if (folder / name).is_dir()), None)

    def _data_fingerprint(self, name: str) -> str | None:
        folder = self._local(name)
        if folder is None:
            return None
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return fingerprint({str(path.relative_to(folder)): file_sha256(path) for path in files})


def _chosen(declared: Sequence[TaskSpec], names: Sequence[str], benchmark: str) -> tuple[TaskSpec, ...]:
    """The declared tasks of those names, or all; a group's subtask may be named too. Raises UserError."""
    if not names:
        return tuple(declared)
    chosen: dict[str, TaskSpec] = {}
    known = {task.task: task for task in declared}
    known |= {leaf: task for task in declared for leaf in task.subtasks}
    for name in names:
        if name not in known:
            raise UserError(f"--tasks: {benchmark} has no task '{name}'.{did_you_mean(name, known)}")
        task = known[name]
        if name == task.task:
            chosen[name] = task
            continue
        earlier = chosen.get(task.task)
        subtasks = (*earlier.subtasks, name) if earlier else (name,)
        chosen[task.task] = task.model_copy(update={"subtasks": subtasks})
    return tuple(chosen.values())


@cache
def _task_manager(folders: tuple[str, ...]) -> Any:
    """lm-eval's index of tasks: of these folders, or of all where one of them is not known."""
    import lm_eval.tasks

    if not all(folders):
        return lm_eval.tasks.TaskManager()
    home = Path(lm_eval.tasks.__file__).parent
    return lm_eval.tasks.TaskManager(include_path=[str(home / name) for name in folders], include_defaults=False)


def _datasets_cache() -> str:
    """Our own cache of prepared data sets: the same files give the same entry from any working directory."""
    from platformdirs import user_cache_path

    return str(user_cache_path("zephyr-bench") / "datasets")


def _hush() -> None:
    """lm-eval and datasets draw bars and log at length on stderr; ours says how far it is."""
    import datasets
    import lm_eval.api.task
    from tqdm import tqdm

    datasets.disable_progress_bars()
    lm_eval.api.task.tqdm = partial(tqdm, disable=True)  # it has no switch, and TQDM_DISABLE is read too early
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lm_eval")
