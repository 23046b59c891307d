"""How the Open LLM Leaderboards' scores come of rows: numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.open_llm_scores import TaskRule, suite_scores
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.reports.contributions import contributions, nested_mean


def rows(leaf: str, metric: str, *values: float) -> list[SampleScore]:
    return [SampleScore(f"{leaf}/{number}", leaf, metric, value) for number, value in enumerate(values)]


def ifeval(*prompts: list[int]) -> list[SampleScore]:
    """Of each prompt, which instructions were followed."""
    leaf = "leaderboard_ifeval"
    whole = rows(leaf, "prompt_level_strict_acc", *(float(all(prompt)) for prompt in prompts))
    return whole + [
        SampleScore(f"{leaf}/{number}", leaf, "inst_level_strict_acc", float(followed), turn)
        for number, prompt in enumerate(prompts)
        for turn, followed in enumerate(prompt, start=1)
    ]


def version_2() -> list[SampleScore]:
    """Navigate (2 choices) 3 of 4 right, movies (6) none of 2; murders (2) 1 of 2, teams (3) 2 of 3; and the rest."""
    return [
        *ifeval([1, 1], [1, 0, 0], [0]),
        *rows("leaderboard_bbh_navigate", "acc_norm", 1, 1, 1, 0),
        *rows("leaderboard_bbh_movie_recommendation", "acc_norm", 0, 0),
        *rows("leaderboard_math_algebra_hard", "exact_match", 1, 0, 0, 0),
        *rows("leaderboard_math_geometry_hard", "exact_match", 0, 0),
        *rows("leaderboard_gpqa_main", "acc_norm", 1, 0),
        *rows("leaderboard_musr_murder_mysteries", "acc_norm", 1, 0),
        *rows("leaderboard_musr_team_allocation", "acc_norm", 1, 1, 0),
        *rows("leaderboard_mmlu_pro", "acc", 1, 0, 0, 0),
    ]


def scored(samples: list[SampleScore]) -> dict[str, Score]:
    return {score.metric: score for score in open_benchmark("open-llm-2").aggregate(samples)}


def test_version_2_counts_from_chance_and_averages_subtasks_and_tasks() -> None:
    found = {metric: score.value for metric, score in scored(version_2()).items()}
    assert found == {
        "average": pytest.approx((100 * (1 / 3 + 1 / 2) / 2 + 25 + 12.5 + 100 / 3 + 25 + 100 / 6) / 6),
        "leaderboard_ifeval": pytest.approx(100 * (1 / 3 + 3 / 6) / 2),
        "leaderboard_bbh": pytest.approx(((0.75 - 0.5) / 0.5 + 0) / 2 * 100),  # the second lies below 1/6
        "leaderboard_math_hard": pytest.approx((0.25 + 0) / 2 * 100),
        "leaderboard_gpqa": pytest.approx((0.5 - 0.25) / 0.75 * 100),
        "leaderboard_musr": pytest.approx((0 + (2 / 3 - 1 / 3) / (2 / 3)) / 2 * 100),
        "leaderboard_mmlu_pro": pytest.approx((0.25 - 0.1) / 0.9 * 100),
    }


def test_the_error_of_a_score_from_chance_is_scaled_alike() -> None:
    plain = math.sqrt((4 * 0.75 * 0.25) / 3 / 4)  # s / sqrt(n) of 1, 1, 1, 0
    found = scored(rows("leaderboard_mmlu_pro", "acc", 1, 1, 1, 0))["leaderboard_mmlu_pro"]
    assert found.stderr == pytest.approx(100 / 0.9 * plain)


def test_two_accuracies_of_the_same_prompts_share_their_error() -> None:
    # prompts 1, 0, 0 (mean 1/3) and instructions 2 of 2, 1 of 3, 0 of 1 (mean 1/2): each prompt's part in the mean
    parts = [(2 / 3) / 6 + (2 - 1) / 12, (-1 / 3) / 6 + (1 - 1.5) / 12, (-1 / 3) / 6 + (0 - 0.5) / 12]
    found = scored(ifeval([1, 1], [1, 0, 0], [0]))["leaderboard_ifeval"]
    assert found.stderr == pytest.approx(100 * math.sqrt(3 / 2 * sum(part**2 for part in parts)))
    assert found.n == 3


def test_what_each_row_adds_to_version_2s_scores_is_read_back() -> None:
    benchmark, samples = open_benchmark("open-llm-2"), version_2()
    scores = benchmark.aggregate(samples)
    found = contributions(samples, scores, benchmark.protocol(None))
    assert set(found) == {score.metric for score in scores}
    for score in scores:
        assert nested_mean(found[score.metric]) == pytest.approx(score.value)
    assert len(found["leaderboard_ifeval"]) == 3, "one value a prompt"


def test_a_row_without_a_number_is_missing_and_no_zero() -> None:
    samples = [*rows("leaderboard_mmlu_pro", "acc", 1, 1), SampleScore("x", "leaderboard_mmlu_pro", "acc", None)]
    found = scored(samples)["leaderboard_mmlu_pro"]
    assert (found.value, found.n, found.missing) == (pytest.approx(100), 2, 1)


def test_a_group_of_lm_evals_own_counts_its_rows_alike() -> None:
    rule = TaskRule("colours", ("acc",), beside=("acc_norm",), leaves=("red", "blue"), pooled=True)
    samples = [*rows("red", "acc", 1, 1, 1), *rows("blue", "acc", 0), *rows("red", "acc_norm", 1, 0, 0)]
    found = {score.metric: score.value for score in suite_scores([rule], samples)}
    assert found == {
        "average": pytest.approx(75),
        "colours": pytest.approx(75),
        "colours: acc_norm": pytest.approx(100 / 3),
    }
