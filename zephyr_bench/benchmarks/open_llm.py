"""Open LLM Leaderboard suites: lm-eval's own task definitions, run by lm-eval on our engine.

Tasks, few-shot selection, prompts and metrics are lm-eval's. Ours are the model underneath, the data's
place, the store, and how scores come of the rows (open_llm_scores.py). Scores are in per cent.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from zephyr_bench.benchmarks import lm_eval_run
from zephyr_bench.benchmarks.lm_eval_chance import FEWSHOT_SEED
from zephyr_bench.benchmarks.lm_eval_index import Leaf
from zephyr_bench.benchmarks.lm_eval_needs import missing_for
from zephyr_bench.benchmarks.lm_eval_questions import question_of
from zephyr_bench.benchmarks.open_llm_scores import suite_scores
from zephyr_bench.benchmarks.open_llm_spec import OpenLlmSpec, TaskSpec, chosen
from zephyr_bench.benchmarks.protocol import Job
from zephyr_bench.engines.protocol import Engine
from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.fingerprint import file_sha256, fingerprint
from zephyr_bench.hub import cached
from zephyr_bench.records import SampleScore, Score

_SAME = 1e-9  # of two computations of one mean


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
        chat_template: bool | None = None,
    ) -> None:
        self.name = name
        self.headline = spec.headline
        self.margin = spec.margin
        self.tasks = chosen(spec.tasks, tasks, name)
        self._whole = self.tasks == spec.tasks
        self._by_default = spec.chat_template
        self._chat_template = chat_template  # None: as declared, where there is one
        own = [folder / spec.data] if spec.data else []
        self._data = [*([data] if data else []), *own]
        self._contents: dict[str, str] = {}  # fingerprints of data sets, each read once

    def missing(self) -> list[str]:
        absent = [f"data folder {folder} does not exist" for folder in self._data if not folder.is_dir()]
        return [*absent, *missing_for(self._leaves)]

    def hub_data(self) -> list[str]:
        absent = {name for task in self.tasks for name in task.data_sets if self._local(name) is None}
        return sorted(name for name in absent if not cached(name, "dataset"))

    def hub_files(self) -> list[tuple[str, str | None]]:
        """Whole data sets: a data set's README tells which of its files are which split's."""
        names = dict.fromkeys(name for task in self.tasks for name in task.data_sets)
        return [(name, None) for name in names if name and self._local(name) is None]

    def question_texts(self) -> Iterator[tuple[str, str]]:
        """Loads the tasks' data: from the hub where it is not at hand."""
        leaves = [(leaf, task.shots) for task in self.tasks for leaf in self._leaves[task.task]]
        for leaf, task in lm_eval_run.loaded(leaves, name=self.name, place=self._place)["tasks"].items():
            for number, row in enumerate(task.eval_docs):
                yield f"{leaf}/{number}", question_of(task, row)

    def unfit(self, engine: Engine) -> list[str]:
        """What the engine can't do of these tasks, a sentence each. Asks it nothing."""
        who = f"model {engine.model.name}, run by {type(engine).__name__},"
        scored = [task.task for task in self.tasks if any(leaf.scored for leaf in self._leaves[task.task])]
        written = [task.task for task in self.tasks if not all(leaf.scored for leaf in self._leaves[task.task])]
        told = []
        if scored and not hasattr(engine, "score"):
            others = f", or choose others by --tasks {','.join(written)}" if written else ""
            told.append(
                f"{', '.join(scored)} {_read(scored)} log-probabilities of given texts, which {who} can't tell: "
                f"take --engine transformers or vllm{others}"
            )
        if written and _has_tokenizer(engine) and not hasattr(engine, "complete"):
            told.append(f"{', '.join(written)} {_read(written)} continuations of plain texts, which {who} can't make")
        if written and not _has_tokenizer(engine) and self._chat_template is False:
            told.append(f"{who} answers chats only: leave out --no-chat-template")
        return told

    def fitted(self, engine: Engine) -> Self:
        """Itself, as it is asked of that engine: as chats or not. Raises UserError."""
        fitted = copy.copy(self)
        template = bool(getattr(engine, "chat_template", None)) or not _has_tokenizer(engine)
        if self._chat_template and not template:
            raise UserError(f"--chat-template: model {engine.model.name} has no chat template.")
        if self._chat_template is None:
            fitted._chat_template = template and (self._by_default or not _has_tokenizer(engine))
        self._check_room(engine)
        return fitted

    def protocol(self, limit: int | None) -> Mapping[str, Any]:
        data_sets = dict.fromkeys(name for task in self.tasks for name in task.data_sets)
        return {
            "tasks": [task.protocol() for task in self.tasks],
            "data": {name: place[1] if (place := self._place(name)) else None for name in data_sets},
            "lm_eval": version("lm_eval"),
            "chat_template": self._by_default if self._chat_template is None else self._chat_template,
            "fewshot_seed": FEWSHOT_SEED,
            "only": None if self._whole else [task.task for task in self.tasks],
        }

    def size(self, limit: int | None) -> Mapping[str, int]:
        leaves = [len(task.own_leaves) or task.leaves for task in self.tasks]
        rows = [
            (task.rows, limit * count if limit else task.rows) for task, count in zip(self.tasks, leaves, strict=True)
        ]
        return {"questions": sum(map(min, rows)), "answers": 0, "judgments": 0, "max_new_tokens": 0}

    def samples(self, job: Job) -> Iterator[SampleScore]:
        """One a row and metric; of a row with several parts (IFEval's instructions) one a part, its number the turn."""
        fitted = self.fitted(job.engine)
        leaves = [(leaf, task.shots) for task in self.tasks for leaf in self._leaves[task.task]]
        tried = {leaf.name for task in self.tasks if task.tried for leaf in self._leaves[task.task]}
        tasks = lm_eval_run.loaded(leaves, name=self.name, place=self._place, tried=tried)
        for leaf, task in tasks["tasks"].items():
            self._check_metrics(leaf, task)
        rows = lm_eval_run.evaluated(
            fitted._model(job), tasks, name=self.name, limit=job.limit, chat_template=bool(fitted._chat_template)
        )
        yield from self._told(rows)

    def aggregate(self, samples: Sequence[SampleScore]) -> list[Score]:
        """The average, each task, and for lm-eval's own tasks their other metrics."""
        return suite_scores([task.rule for task in self.tasks], samples)

    def _told(self, rows: Iterator[tuple[lm_eval_run.Row, Mapping[str, float]]]) -> Iterator[SampleScore]:
        """The rows of the metrics that count. One beside them that is no mean of its rows is left out."""
        by_metric: dict[tuple[str, str], list[SampleScore]] = {}
        expected: dict[tuple[str, str], float | None] = {}
        for row, own in rows:
            task = self._owner(row.leaf)
            name = _counted_as(task, row)
            if name is None:
                continue
            question = f"{row.leaf}/{row.number}"
            samples = by_metric.setdefault((row.leaf, name), [])
            if row.whole:
                samples.append(SampleScore(question, row.leaf, name, row.values[0]))
            else:
                samples += [SampleScore(question, row.leaf, name, value, n) for n, value in enumerate(row.values, 1)]
            expected[row.leaf, name] = own.get(f"{row.metric},{row.filter}")
        for leaf in {leaf: None for leaf, _ in by_metric}:
            for metric in self._owner(leaf).metrics:
                if (leaf, metric) not in by_metric:
                    raise UserError(f"{self.name}: lm-eval tells no number a row for {metric} of task {leaf}.")
        for (leaf, name), samples in by_metric.items():
            found, theirs = _mean(samples), expected[leaf, name]
            if found is None or theirs is None or abs(found - theirs) <= _SAME * max(1.0, abs(theirs)):
                yield from samples
            elif name in self._owner(leaf).metrics:
                raise UserError(
                    f"{self.name}: lm-eval's {name} of task {leaf} is no mean over its rows ({theirs:.4g} against "
                    f"{found:.4g}), so it can't be kept row by row; choose another task."
                )

    def _model(self, job: Job) -> Any:
        from zephyr_bench.engines.lm_eval_chat import ChatLM
        from zephyr_bench.engines.lm_eval_model import EngineLM

        engine: Any = job.engine
        for sentence in self.unfit(engine):
            raise UserError(f"{self.name}: {sentence}.")
        if _has_tokenizer(engine):
            return EngineLM(engine, job.run, progress=job.progress, seed=job.seed)
        return ChatLM(engine, job.run, progress=job.progress, seed=job.seed)

    def _check_room(self, engine: Any) -> None:
        """Raises UserError for tasks of which a reply alone may fill the model: nothing is made before that is told."""
        held = engine.max_length if _has_tokenizer(engine) else None
        asked = {task.task: max(map(_new_tokens, self._leaves[task.task])) for task in self.tasks}
        long = [name for name, tokens in asked.items() if held is not None and tokens >= held]
        if long:
            others = ",".join(name for name in asked if name not in long)
            raise UserError(
                f"{self.name}: a reply to {' or '.join(long)} may have {max(asked.values())} tokens, and model "
                f"{engine.model.name} holds {held} with the prompt"
                f"{f'; choose others by --tasks {others}' if others else ''}."
            )

    def _check_metrics(self, leaf: str, task_object: Any) -> None:
        """Raises UserError for a metric or filter that lm-eval's task doesn't have."""
        task, known = self._owner(leaf), task_object.aggregation()
        for metric in task.metrics:
            if metric not in known:
                raise UserError(f"{self.name}: task {leaf} has no metric '{metric}'.{did_you_mean(metric, known)}")
        filters = [ensemble.name for ensemble in task_object._filters]
        if task.filter not in filters:
            raise UserError(
                f"{self.name}: task {leaf} has no filter '{task.filter}'.{did_you_mean(task.filter, filters)}"
            )

    def _owner(self, leaf: str) -> TaskSpec:
        return next(task for task in self.tasks if any(own.name == leaf for own in self._leaves[task.task]))

    @cached_property
    def _leaves(self) -> Mapping[str, tuple[Leaf, ...]]:
        """Task -> what lm-eval runs for it."""
        return {task.task: task.declared() for task in self.tasks}

    def _local(self, name: str) -> Path | None:
        """The folder of a hub data set below one of the data folders."""
        return next((folder / name for folder in self._data if name and (folder / name).is_dir()), None)

    def _place(self, name: str) -> tuple[Path, str] | None:
        """Where a data set lies here, and the fingerprint of what it holds."""
        folder = self._local(name)
        if folder is None:
            return None
        if name not in self._contents:
            hashes = {str(path.relative_to(folder)): file_sha256(path) for path in _files(folder)}
            self._contents[name] = fingerprint(hashes)
        return folder, self._contents[name]


def _files(folder: Path) -> Iterator[Path]:
    """Of a data set. What is hidden is none of it: huggingface_hub notes there when it downloaded each file."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _new_tokens(leaf: Leaf) -> int:
    """The most that a reply may have; 0 where none is written."""
    from zephyr_bench.engines.lm_eval_texts import sampling_of

    options = leaf.declared.get("generation_kwargs") or {}
    return 0 if leaf.scored else sampling_of(options, prompt="", replicate=0, seed=0).max_new_tokens


def _counted_as(task: TaskSpec, row: lm_eval_run.Row) -> str | None:
    """The samples' metric that a row's value is of; None where it doesn't count."""
    if row.filter == task.filter and row.metric in task.metrics:
        return row.metric
    name = row.metric if row.filter == "none" else f"{row.metric},{row.filter}"
    return name if name in task.beside else None


def _mean(samples: Sequence[SampleScore]) -> float | None:
    values = [sample.value for sample in samples if sample.value is not None and sample.value == sample.value]
    return sum(values) / len(values) if values and len(values) == len(samples) else None


def _has_tokenizer(engine: Engine) -> bool:
    """Whether prompts reach it as tokens. Not by isinstance, which would load the tokenizer to look at its length."""
    return hasattr(engine, "encode")


def _read(names: Sequence[str]) -> str:
    return "read" if len(names) > 1 else "reads"
