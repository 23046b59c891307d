"""MT-Bench in pairs (FastChat's pairwise mode): whose answer is better, the model's or a rival's of the store.

Asks the questions of a benchmark of kind mt_bench, with its sampling, so that the two share their answers. Each turn
is judged in both orders (pairing.py). The rival is a baseline, several, or every model that has answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from zephyr_bench.benchmarks.asking import ask
from zephyr_bench.benchmarks.mt_bench import MtBench, MtBenchSpec
from zephyr_bench.benchmarks.pairing import (
    grade_pairs,
    once_each,
    pair_protocol,
    pair_samples,
    pair_scores,
    rival_name,
)
from zephyr_bench.benchmarks.protocol import Given, Job
from zephyr_bench.benchmarks.rivals import ALL, Origin, Rival, find_rivals
from zephyr_bench.benchmarks.spec import BenchmarkSpec
from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Match, Question, SampleScore, Score
from zephyr_bench.store import Store
from zephyr_bench.yaml_file import load_model


class MtBenchPairwiseSpec(BenchmarkSpec):
    kind: Literal["mt_bench_pairwise"]
    headline: str = "win-rate-adjusted"
    questions_of: str  # the benchmark whose questions are asked; its YAML lies beside this one
    baseline: str  # the model compared with, where the user names none


class MtBenchPairwise:
    """Each turn of two-turn questions against rivals' answers.

    `baselines` are models or runs of the store; `all` means every model that answered the questions.
    """

    Spec = MtBenchPairwiseSpec
    judged = True
    compares = True

    def __init__(
        self,
        spec: MtBenchPairwiseSpec,
        *,
        name: str,
        folder: Path,
        references: str | None = None,
        judgments: int = 1,
        baselines: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.headline = spec.headline
        self.default_judge = spec.judge
        self.margin = spec.margin
        of = load_model(folder / f"{spec.questions_of}.yaml", MtBenchSpec)
        self._asked = MtBench(of, name=spec.questions_of, folder=folder, references=references)
        self._judgments = judgments
        self._baselines = tuple(baselines) or (spec.baseline,)
        self._rivals: tuple[Rival, ...] = ()

    def missing(self) -> list[str]:
        return self._asked.missing()

    def hub_data(self) -> list[str]:
        return self._asked.hub_data()

    def question_texts(self) -> Iterator[tuple[str, str]]:
        return self._asked.question_texts()

    def with_answers(self, store: Store, model: ModelSource, limit: int | None) -> Self:
        """Itself with the rivals' answers. Raises UserError where the store lacks them."""
        self._rivals = find_rivals(
            store,
            self._baselines,
            model,
            self._questions(limit),
            asked=self._asked.name,
            also=[self.name],
            origin=Origin("mtbench", "fastchat"),
        )
        return self

    def _questions(self, limit: int | None) -> list[Question]:
        return self._asked.questions[:limit]

    def protocol(self, limit: int | None) -> Mapping[str, Any]:
        everybody = ALL in self._baselines
        rivals = pair_protocol([rival.model for rival in self._rivals], everybody=everybody)
        if not everybody:  # where all meet all, each meets others
            rivals["rival_answers"] = fingerprint(sorted(key for rival in self._rivals for key in rival.keys))
        return {**self._asked.protocol(limit), "judgments": self._judgments, **rivals}

    def size(self, limit: int | None) -> Mapping[str, int]:
        asked = self._asked.size(limit)
        return {**asked, "judgments": 2 * asked["answers"] * self._judgments * len(self._baselines)}

    def samples(self, job: Job) -> Iterator[SampleScore]:
        questions = self._questions(job.limit)
        answers = ask(job, questions, sampling=self._asked.sampling)
        for rival in self._rivals:
            job.run.use_answers(rival.keys)
            matches = [
                Match(question, turn, answers[question.id][:turn], rival.answers[question.id][:turn], replicate)
                for question in questions
                for turn in range(1, len(question.turns) + 1)
                for replicate in range(self._judgments)
            ]
            for match, verdict in grade_pairs(job, matches):
                yield from pair_samples(match, verdict, rival=rival.model)

    def regrade_protocol(self, given: Given) -> Mapping[str, Any]:
        return {}

    def regrade(self, job: Job, given: Given) -> Iterator[SampleScore]:
        for match, verdict in grade_pairs(job, once_each(given)):
            yield from pair_samples(match, verdict, rival=rival_name(match))

    def aggregate(self, samples: Sequence[SampleScore]) -> list[Score]:
        return pair_scores(samples)
