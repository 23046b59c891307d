"""Which tasks `--tasks` chooses, and what lm-eval runs for them."""

from __future__ import annotations

from typing import Any

import pytest

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.lm_eval_index import look_up
from zephyr_bench.benchmarks.open_llm import OpenLlm
from zephyr_bench.errors import UserError


def suite(name: str = "open-llm-1", **options: Any) -> OpenLlm:
    benchmark = open_benchmark(name, **options)
    assert isinstance(benchmark, OpenLlm)
    return benchmark


def test_a_group_that_is_run_whole_has_all_its_tasks() -> None:
    (mmlu,) = suite(tasks=["mmlu"]).tasks
    assert len({leaf.name for leaf in mmlu.declared()}) == 57
    assert (mmlu.shots, mmlu.metric) == (5, "acc")


def test_a_part_of_a_group_keeps_the_groups_shots() -> None:
    (mmlu,) = suite(tasks=["mmlu_astronomy", "mmlu_stem"]).tasks
    assert (mmlu.task, mmlu.shots, mmlu.subtasks[0]) == ("mmlu", 5, "mmlu_astronomy")
    assert 1 < len(mmlu.subtasks) < 57
    (bbh,) = suite("open-llm-2", tasks=["leaderboard_bbh_navigate", "leaderboard_bbh_snarks"]).tasks
    assert bbh.choices == {"leaderboard_bbh_navigate": 2, "leaderboard_bbh_snarks": 2}


def test_a_group_with_one_of_its_parts_is_the_group() -> None:
    for names in (["mmlu", "mmlu_astronomy"], ["mmlu_astronomy", "mmlu"]):
        (mmlu,) = suite(tasks=names).tasks
        assert mmlu.subtasks == ()


def test_another_task_comes_with_lm_evals_shots_and_all_its_metrics() -> None:
    piqa, gsm8k, ifeval = suite("open-llm-2", tasks=["piqa", "gsm8k", "ifeval"]).tasks
    assert (piqa.metric, piqa.beside, piqa.shots) == ("acc", ("acc_norm",), 0)
    assert (gsm8k.metric, gsm8k.filter, gsm8k.shots) == ("exact_match", "strict-match", 5)
    assert gsm8k.beside == ("exact_match,flexible-extract",)
    assert ifeval.metric == "prompt_level_strict_acc"
    assert "inst_level_strict_acc" in ifeval.beside


@pytest.mark.parametrize(("word", "meant"), [("hellaswagg", "hellaswag"), ("ifevall", "ifeval"), ("piqua", "piqa")])
def test_an_unknown_task_is_told_with_what_is_close(word: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"no task '{word}'.*Did you mean .*{meant}"):
        suite(tasks=[word])


def test_the_choices_of_version_2_are_those_that_lm_eval_offers() -> None:
    for task in suite("open-llm-2").tasks:
        for leaf in task.declared():
            offered = leaf.declared.get("doc_to_choice")
            if isinstance(offered, list):
                assert task.rule.lower_bound(leaf.name) == 1 / len(offered), leaf.name
            assert leaf.data == task.data


def test_a_tasks_own_metrics_leave_out_what_is_no_mean_over_rows() -> None:
    known = look_up("mrpc")  # of GLUE: acc, and f1 over all rows
    assert known is not None
    assert known.leaves("mrpc")[0].metrics == ("acc",)
