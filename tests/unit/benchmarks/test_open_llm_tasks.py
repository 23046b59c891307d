"""Which tasks `--tasks` chooses, and what lm-eval runs for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lm_eval_data import write_data

from zephyr_bench.benchmarks import lm_eval_run, open_benchmark
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


def first_question(data: Path) -> str:
    """Of GSM8K's test rows, as lm-eval loads them."""
    benchmark = suite(tasks=["gsm8k"], data=data)
    leaves = [(leaf, task.shots) for task in benchmark.tasks for leaf in task.declared()]
    content = benchmark.protocol(None)["data"]["openai/gsm8k"]
    place = {"openai/gsm8k": (data / "openai/gsm8k", content)}.get
    (task,) = lm_eval_run.loaded(leaves, name=benchmark.name, place=place)["tasks"].values()
    return str(next(iter(task.test_docs()))["question"])


def test_rows_are_the_folders_own_though_another_has_files_of_the_same_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    one, other = write_data(tmp_path / "one"), write_data(tmp_path / "other")
    rows = other / "openai/gsm8k/test.jsonl"
    rows.write_text(rows.read_text().replace("A shelf", "A table"))
    assert first_question(one).startswith("A shelf")
    assert first_question(other).startswith("A table")
    rows.write_text(rows.read_text().replace("A table", "A chest"))
    assert first_question(other).startswith("A chest")
