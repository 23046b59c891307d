"""MT-Bench and our own two-turn questions in its form (arXiv 2306.05685).

Asks two turns, has each graded 1-10, and takes means: over all judgments, per turn, per category.
Temperatures by category, 1024 new tokens and the choice of references follow FastChat's llm_judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from zephyr_bench.benchmarks.asking import ask
from zephyr_bench.benchmarks.grading import grade
from zephyr_bench.benchmarks.protocol import Given, Job
from zephyr_bench.benchmarks.questions import read_questions, with_references
from zephyr_bench.benchmarks.spec import BenchmarkSpec
from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.published_file import PublishedFile
from zephyr_bench.records import Judgment, Match, Question, SampleScore, Sampling, Score
from zephyr_bench.stats.means import clustered_mean


class MtBenchSpec(BenchmarkSpec):
    kind: Literal["mt_bench"]
    headline: str = "score"
    questions: PublishedFile
    references: Mapping[str, PublishedFile] = Field(default_factory=dict)
    """FastChat's reference_answer files by name, the default first; none: the questions' own."""
    temperature: Mapping[str, float] = Field(default_factory=dict)  # by category
    other_temperature: float = Field(0.7, ge=0)  # of a category not named; FastChat's default
    max_new_tokens: int = Field(1024, gt=0)


class MtBench:
    """Two-turn questions, each turn graded on its own.

    `references` chooses reference answers by name; `judgments` is how often each answer is graded.
    """

    Spec = MtBenchSpec
    judged = True

    def __init__(
        self, spec: MtBenchSpec, *, name: str, folder: Path, references: str | None = None, judgments: int = 1
    ) -> None:
        self.name = name
        self.headline = spec.headline
        self.default_judge = spec.judge
        self.margin = spec.margin
        self._spec = spec
        self._folder = folder
        self._judgments = judgments
        self._references = self._chosen(references)

    def _chosen(self, references: str | None) -> tuple[str, PublishedFile] | None:
        known = self._spec.references
        if references is None:
            return next(iter(known.items()), None)
        if references not in known:
            told = did_you_mean(references, known) or " Its questions bring their own."
            raise UserError(f"{self.name} has no references '{references}'.{told}")
        return references, known[references]

    def missing(self) -> list[str]:
        files = [self._spec.questions, *([self._references[1]] if self._references else [])]
        return [told for file in files if (told := file.missing(self._folder))]

    def hub_data(self) -> list[str]:
        return []

    @cached_property
    def questions(self) -> list[Question]:
        """With the chosen reference answers."""
        return self.with_references(self._references[0]) if self._references else self._bare

    @cached_property
    def _bare(self) -> list[Question]:
        return [question for _, question in read_questions(self._spec.questions.locate(self._folder))]

    def question_texts(self) -> Iterator[tuple[str, str]]:
        return ((question.id, turn) for question in self._bare for turn in question.turns)

    @property
    def reference_names(self) -> tuple[str, ...]:
        """The sets of reference answers that it knows, the default first."""
        return tuple(self._spec.references)

    def with_references(self, name: str) -> list[Question]:
        """The questions with the reference answers of that set. Raises UserError where they are not to be had."""
        return with_references(self._bare, self._spec.references[name].locate(self._folder))

    def protocol(self, limit: int | None) -> Mapping[str, Any]:
        spec = self._spec
        return {
            "questions": [question.fingerprint for question in self.questions[:limit]],
            "temperature": {**spec.temperature, "other": spec.other_temperature},
            "max_new_tokens": spec.max_new_tokens,
            "references": None if self._references is None else self._references[0],
            "judgments": self._judgments,
        }

    def size(self, limit: int | None) -> Mapping[str, int]:
        turns = sum(len(question.turns) for question in self.questions[:limit])
        return {
            "questions": len(self.questions[:limit]),
            "answers": turns,
            "judgments": turns * self._judgments,
            "max_new_tokens": self._spec.max_new_tokens,
        }

    def sampling(self, question: Question) -> Sampling:
        temperature = self._spec.temperature.get(question.category, self._spec.other_temperature)
        return Sampling(temperature=temperature, max_new_tokens=self._spec.max_new_tokens)

    def samples(self, job: Job) -> Iterator[SampleScore]:
        questions = self.questions[: job.limit]
        answers = ask(job, questions, sampling=self.sampling)
        matches = [
            Match(question, turn, answers[question.id][:turn], replicate=replicate)
            for question in questions
            for turn in range(1, len(question.turns) + 1)
            for replicate in range(self._judgments)
        ]
        yield from _graded(job, matches)

    def answer(self, job: Job) -> None:
        ask(job, self.questions[: job.limit], sampling=self.sampling)

    def regrade_protocol(self, given: Given) -> Mapping[str, Any]:
        return {}

    def regrade(self, job: Job, given: Given) -> Iterator[SampleScore]:
        yield from _graded(job, given.matches)

    def aggregate(self, samples: Sequence[SampleScore]) -> list[Score]:
        """`score` is the mean over every graded turn, as FastChat's show_result takes it."""
        groups: dict[str, list[SampleScore]] = {"score": list(samples)}
        for turn in sorted({sample.turn for sample in samples}):
            groups[f"turn-{turn}"] = [sample for sample in samples if sample.turn == turn]
        for category in sorted({sample.category for sample in samples}):
            groups[category] = [sample for sample in samples if sample.category == category]
        return [_score(metric, group) for metric, group in groups.items()]


def _graded(job: Job, matches: Sequence[Match]) -> Iterator[SampleScore]:
    for match, judgment in grade(job, matches):
        yield graded_sample(match.question, match.turn, judgment, replicate=match.replicate)


def graded_sample(question: Question, turn: int, judgment: Judgment, *, replicate: int = 0) -> SampleScore:
    """What one graded answer adds to a run."""
    return SampleScore(
        question.id, question.category, "score", judgment.score, turn, judgment.reason, replicate=replicate
    )


def _score(metric: str, samples: Sequence[SampleScore]) -> Score:
    graded = [(sample.value, sample.question) for sample in samples if sample.value is not None]
    mean, stderr = clustered_mean([value for value, _ in graded], [question for _, question in graded])
    return Score(metric, mean, stderr, len(graded), len(samples) - len(graded))
