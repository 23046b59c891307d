"""Reading a run's samples back: what comes out has exactly the mean that the benchmark stored."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from conftest_reports import chat_samples, preference_samples, task_samples

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.reports.contributions import by_category, contributions, nested_mean
from zephyr_bench.reports.counted import COUNTS

OPEN_LLM = task_samples(
    arc_challenge=[1, 0, 1],
    hellaswag=[0, 0, 1, 1],
    mmlu_astronomy=[1, 1],
    mmlu_nutrition=[0, 1, 0],
    mmlu_high_school_geography=[1, 0],
    truthfulqa_mc2=[1, 0, 0],
)


@pytest.mark.parametrize(
    ("benchmark", "samples"),
    [
        ("mt-bench-mini", chat_samples((7, 6), (3, None), (None, 9), (1, 10))),
        ("alpaca-eval-mini", preference_samples(1.0, 0.0, 0.5, 0.75)),
        ("open-llm-mini", OPEN_LLM),
    ],
)
def test_every_metric_of_ours_is_read_back(benchmark: str, samples: Sequence[SampleScore]) -> None:
    scores = open_benchmark(benchmark).aggregate(samples)
    found = contributions(samples, scores)
    assert set(found) == {score.metric for score in scores} - COUNTS
    for score in (score for score in scores if score.metric in found):
        assert nested_mean(found[score.metric]) == pytest.approx(score.value)


def test_a_metric_that_the_samples_do_not_reproduce_is_left_out() -> None:
    samples = chat_samples((7, 6), (3, 4))
    scores = [Score("score", 5.1, None, 4), Score("turn-1", 5.0, None, 2)]
    assert contributions(samples, scores).keys() == {"turn-1"}


def test_preferences_split_by_category() -> None:
    samples = preference_samples(1.0, 0.0, 1.0, 0.0)
    values = contributions(samples, [Score("win-rate", 50.0, None, 4)])["win-rate"]
    split = by_category(samples, "win-rate", values)
    assert {name: nested_mean(part) for name, part in split.items()} == {
        "win-rate: advice": 100.0,
        "win-rate: facts": 0.0,
    }


def test_margins_become_accuracies() -> None:
    margins = [2.0, -1.0, 0.0, 3.0]
    samples = [SampleScore(f"p{i}", "preferences", "log-prob-margin", m) for i, m in enumerate(margins)]
    found = contributions(samples, [Score("log-prob-accuracy", 62.5, None, 4)])
    assert nested_mean(found["log-prob-accuracy"]) == 62.5
