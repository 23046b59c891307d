"""From samples to metrics: what each benchmark's numbers are."""

from __future__ import annotations

import pytest

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.records import SampleScore, Score


def by_metric(name: str, samples: list[SampleScore]) -> dict[str, Score]:
    return {score.metric: score for score in open_benchmark(name).aggregate(samples)}


def test_mt_bench_score_is_the_mean_over_all_graded_turns() -> None:
    samples = [
        SampleScore("a", "math", "score", 2.0, 1),
        SampleScore("a", "math", "score", None, 2, reason="no rating"),
        SampleScore("b", "writing", "score", 9.0, 1),
        SampleScore("b", "writing", "score", 7.0, 2),
    ]
    scores = by_metric("mt-bench", samples)
    assert list(scores) == ["score", "turn-1", "turn-2", "math", "writing"]
    assert (scores["score"].value, scores["score"].n, scores["score"].missing) == (6.0, 3, 1)
    assert (scores["turn-1"].value, scores["turn-2"].value, scores["writing"].value) == (5.5, 7.0, 8.0)
    assert scores["math"].stderr is None, "one question tells no spread"


def test_win_rates_are_in_per_cent_and_a_tie_is_half() -> None:
    samples = [SampleScore(str(n), "qa", "preference", value) for n, value in enumerate([1.0, 0.5, 0.0, 0.9])]
    samples += [SampleScore(str(n), "qa", "length", length) for n, length in enumerate([10.0, 20.0, 30.0, 40.0])]
    scores = by_metric("alpaca-eval-mini", samples)
    assert scores["win-rate"].value == pytest.approx(60.0)
    assert scores["discrete-win-rate"].value == pytest.approx(62.5)
    assert scores["avg-length"].value == 25.0


def test_open_llm_average_counts_each_task_alike_and_a_group_its_subjects() -> None:
    rows = {"arc_challenge": [1, 1], "hellaswag": [0, 0, 0, 0], "mmlu_astronomy": [1], "mmlu_nutrition": [0, 0, 0]}
    samples = [
        SampleScore(f"{leaf}/{n}", leaf, "acc_norm" if leaf in ("arc_challenge", "hellaswag") else "acc", float(value))
        for leaf, values in {**rows, "truthfulqa_mc2": [0.25, 0.75]}.items()
        for n, value in enumerate(values)
    ]
    scores = by_metric("open-llm-mini", samples)
    assert scores["mmlu"].value == 50.0
    assert scores["truthfulqa_mc2"].value == 50.0
    assert scores["average"].value == pytest.approx((100 + 0 + 50 + 50) / 4)


def test_an_average_without_one_of_its_tasks_is_missing() -> None:
    scores = by_metric("open-llm-mini", [SampleScore("arc_challenge/0", "arc_challenge", "acc_norm", 1.0)])
    assert scores["average"].value is None
