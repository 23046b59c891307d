"""What each question adds to a metric, from samples alone: where a run was judged in part, or is being judged. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from zephyr_bench.benchmarks.alpaca_eval import AlpacaEval, no_length_control
from zephyr_bench.benchmarks.alpaca_scores import LENGTH_CONTROLLED
from zephyr_bench.benchmarks.protocol import Benchmark, compares
from zephyr_bench.errors import UserError
from zephyr_bench.records import SampleScore
from zephyr_bench.reports.contributions import Key, by_key, contributions

GRADES = 9.0  # width of the scale from 1 to 10
PER_CENT = 100.0


def without_length_control(benchmark: Benchmark, samples: Sequence[SampleScore]) -> list[SampleScore]:
    """Of a part of the instructions there is none: it would be another model's than that of the whole."""
    kept = [sample for sample in samples if sample.question]
    return [*kept, no_length_control("judged in part")] if isinstance(benchmark, AlpacaEval) else kept


def values_of(benchmark: Benchmark, samples: Sequence[SampleScore], metric: str) -> dict[Key, float]:
    """By question, turn and rival, on the metric's scale; repeated judgments as their mean.

    What has no verdict is left out. Raises UserError for a metric that is no mean over questions.
    """
    part = without_length_control(benchmark, samples)
    scores = benchmark.aggregate(part)
    found = contributions(part, scores)
    told = {score.metric for score in scores if score.value is not None or score.metric == LENGTH_CONTROLLED}
    if metric in told and metric not in found:
        raise UserError(
            f"{metric} of {benchmark.name} is no mean over questions, which are needed to ask a judge for some of "
            f"them; name another metric, such as {next(iter(found), benchmark.headline)}."
        )
    return {key: one.value for key, one in by_key(found.get(metric, [])).items()}


def by_question(base: Mapping[Key, float], other: Mapping[Key, float]) -> dict[str, float]:
    """other - base of each question: the mean over what both have, its turns among them."""
    shared: dict[str, list[float]] = {}
    for key, value in base.items():
        if key in other:
            shared.setdefault(key[0], []).append(other[key] - value)
    return {question: sum(values) / len(values) for question, values in shared.items()}


def of_questions(samples: Sequence[SampleScore], questions: Collection[str]) -> list[SampleScore]:
    chosen = set(questions)
    return [sample for sample in samples if sample.question in chosen]


def width_of(benchmark: Benchmark) -> float:
    """Of the scale that the benchmark's judge works on: no difference is larger."""
    return PER_CENT if compares(benchmark) else GRADES


def swing_of(benchmark: Benchmark) -> float | None:
    """What a question adds that turns, as in `paired_difference`."""
    return PER_CENT if compares(benchmark) else None
