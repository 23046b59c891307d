"""AlpacaEval's form of evaluation: one-turn instructions, the model's answer against a baseline's.

Win rate = 100 x mean preference for the model (arXiv 2404.04475; alpaca_eval's own definition).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from zephyr_bench.benchmarks.asking import ask
from zephyr_bench.benchmarks.pairing import grade_pairs, once_each
from zephyr_bench.benchmarks.protocol import Given, Job
from zephyr_bench.benchmarks.questions import read_questions
from zephyr_bench.benchmarks.spec import BenchmarkSpec
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.published_file import PublishedFile
from zephyr_bench.recipe import SamplingSpec
from zephyr_bench.records import Answer, Match, Question, SampleScore, Score
from zephyr_bench.stats.means import mean_stderr


class AlpacaEvalSpec(BenchmarkSpec):
    kind: Literal["alpaca_eval"]
    headline: str = "win-rate"
    instructions: PublishedFile | None = None  # with the baseline's answers as `output`
    baseline: str  # the name of the model whose answers those are
    sampling: SamplingSpec = SamplingSpec(max_new_tokens=2048)
    planned_questions: int | None = Field(None, gt=0)  # where the instructions are not to be had yet


class AlpacaEval:
    """Which of two answers is better: the model's or the baseline's."""

    Spec = AlpacaEvalSpec
    judged = True

    def __init__(self, spec: AlpacaEvalSpec, *, name: str, folder: Path) -> None:
        self.name = name
        self.headline = spec.headline
        self.default_judge = spec.judge
        self.margin = spec.margin
        self._spec = spec
        self._folder = folder

    def missing(self) -> list[str]:
        if self._spec.instructions is None:
            return [f"the instructions and baseline answers of {self.name}: this release plans it but can't run it"]
        told = self._spec.instructions.missing(self._folder)
        return [told] if told else []

    def hub_data(self) -> list[str]:
        return []

    @cached_property
    def _pairs(self) -> list[tuple[Question, Answer]]:
        """Each instruction with the baseline's answer."""
        if self._spec.instructions is None:
            raise UserError(f"{self.name} can't run in this release: its instructions are not to be had.")
        path = self._spec.instructions.locate(self._folder)
        pairs = []
        for row, question in read_questions(path):
            if row.output is None:
                raise UserError(f"{path}: instruction '{row.id}' has no key 'output', the baseline's answer.")
            key = fingerprint({"baseline": self._spec.baseline, "turns": question.turns, "output": row.output})
            pairs.append((question, Answer(key, self._spec.baseline, question.id, 1, row.output)))
        return pairs

    def protocol(self, limit: int | None) -> Mapping[str, Any]:
        pairs = self._pairs[:limit]
        return {
            "questions": [question.fingerprint for question, _ in pairs],
            "baseline": {
                "name": self._spec.baseline,
                "outputs": fingerprint([answer.key for _, answer in pairs]),
            },
            "sampling": self._spec.sampling.model_dump(mode="json"),
        }

    def size(self, limit: int | None) -> Mapping[str, int]:
        total = self._spec.planned_questions or len(self._pairs)
        n = min(total, limit or total)
        return {
            "questions": n,
            "answers": n,
            "judgments": n if self._spec.planned_questions else 2 * n,  # alpaca_eval asks one order, ours both
            "max_new_tokens": self._spec.sampling.max_new_tokens,
        }

    def samples(self, job: Job) -> Iterator[SampleScore]:
        pairs = self._pairs[: job.limit]
        answers = ask(job, [question for question, _ in pairs], sampling=lambda _: self._spec.sampling.sampling())
        for question, _ in pairs:
            length = len(answers[question.id][0].text or "")
            yield SampleScore(question.id, question.category, "length", float(length))
        job.run.add_answers(pairs)  # the baseline's, too, are what a verdict is of
        matches = [Match(question, 1, answers[question.id], rival=(baseline,)) for question, baseline in pairs]
        yield from _preferences(job, matches)

    def regrade(self, job: Job, given: Given) -> Iterator[SampleScore]:
        yield from (sample for sample in given.samples if sample.metric == "length")
        yield from _preferences(job, once_each(given))

    def aggregate(self, samples: Sequence[SampleScore]) -> list[Score]:
        """Win rates in per cent; a tie is half a win. `avg-length` is in characters."""
        judged = [sample for sample in samples if sample.metric == "preference"]
        preferences = [sample.value for sample in judged if sample.value is not None]
        missing = len(judged) - len(preferences)
        discrete = [0.5 if value == 0.5 else float(value > 0.5) for value in preferences]
        lengths = [sample.value for sample in samples if sample.metric == "length" and sample.value is not None]
        win_rate, win_rate_error = mean_stderr([100 * value for value in preferences])
        discrete_rate, discrete_error = mean_stderr([100 * value for value in discrete])
        length, length_error = mean_stderr(lengths)
        n = len(preferences)
        return [
            Score("win-rate", win_rate, win_rate_error, n, missing),
            Score("discrete-win-rate", discrete_rate, discrete_error, n, missing),
            Score("avg-length", length, length_error, len(lengths)),
        ]


def _preferences(job: Job, matches: Sequence[Match]) -> Iterator[SampleScore]:
    for match, verdict in grade_pairs(job, matches):
        question = match.question
        yield SampleScore(question.id, question.category, "preference", verdict.value, reason=verdict.reason)
