"""Version 2 as its user asks for it: by names of lm-eval, with packages or data sets absent."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from lm_eval_data_2 import write_data_2
from typer.testing import CliRunner

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.open_llm import OpenLlm
from zephyr_bench.cli import app
from zephyr_bench.errors import UserError
from zephyr_bench.store import Store


def version_2(*names: str) -> OpenLlm:
    benchmark = open_benchmark("open-llm-2", tasks=names)
    assert isinstance(benchmark, OpenLlm)
    return benchmark


def test_lm_evals_group_of_the_leaderboard_is_the_whole_of_version_2() -> None:
    assert version_2("leaderboard").protocol(None) == version_2().protocol(None)
    six = [task.task for task in version_2().tasks]
    assert version_2(*reversed(six)).protocol(None) == version_2().protocol(None)


def test_lm_evals_group_with_another_name_than_its_one_task_is_that_task() -> None:
    (ifeval,) = version_2("leaderboard_instruction_following").tasks
    assert ifeval == version_2("leaderboard_ifeval").tasks[0]


def test_parts_of_groups_keep_shots_and_choices() -> None:
    maths, musr = version_2("leaderboard_musr_team_allocation", "leaderboard_math_geometry_hard").tasks
    assert (maths.shots, maths.subtasks) == (4, ("leaderboard_math_geometry_hard",))
    assert musr.choices == {"leaderboard_musr_team_allocation": 3}


def test_an_empty_name_is_told() -> None:
    with pytest.raises(UserError, match=r"^--tasks: a name is empty; .* single commas"):
        version_2("leaderboard_musr", "")


def test_a_name_like_no_other_is_told_with_the_benchmarks_own_not_with_thousands() -> None:
    with pytest.raises(UserError, match=r"no task 'zzqqxx'\. Known: leaderboard_bbh, .*leaderboard_musr\.$"):
        version_2("zzqqxx")


def test_absent_packages_are_told_by_the_extra_that_brings_them(monkeypatch: pytest.MonkeyPatch) -> None:
    find, absent = importlib.util.find_spec, {"sympy", "antlr4", "math_verify", "langdetect", "immutabledict", "nltk"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in absent else find(name, *more))
    assert version_2().missing() == [
        'leaderboard_ifeval needs langdetect, immutabledict, nltk: run `pip install "zephyr-bench[ifeval]"`',
        'leaderboard_math_hard needs sympy, antlr4, math_verify: run `pip install "zephyr-bench[math]"`',
    ]


def test_all_absent_data_sets_are_told_at_once_and_no_store_is_made(tiny_model_dir: Path, tmp_path: Path) -> None:
    data = write_data_2(tmp_path / "data")
    for name in ("TAUR-Lab", "TIGER-Lab"):
        shutil.rmtree(data / name)
    words = ["open-llm", "--version", "2", "--model", str(tiny_model_dir), "--data", str(data)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        done = CliRunner().invoke(app, [*words, "--store", f"sqlite:///{tmp_path}/s.db"])
    told = str(done.exception)
    assert "TAUR-Lab/MuSR, TIGER-Lab/MMLU-Pro must come from it" in told
    assert "Idavidrein/gpqa" not in told
    assert not (tmp_path / "s.db").exists()


def test_a_model_too_short_for_a_reply_is_told_before_a_run_begins(tiny_model_dir: Path, tmp_path: Path) -> None:
    words = ["open-llm", "--version", "2", "--model", str(tiny_model_dir), "--data", str(write_data_2(tmp_path / "d"))]
    done = CliRunner().invoke(app, [*words, "--store", f"sqlite:///{tmp_path}/s.db"])
    told = str(done.exception)
    assert "a reply to leaderboard_ifeval or leaderboard_math_hard may have 1280 tokens" in told
    assert told.endswith(
        "holds 512 with the prompt; choose others by --tasks "
        "leaderboard_bbh,leaderboard_gpqa,leaderboard_musr,leaderboard_mmlu_pro."
    )
    with Store(f"sqlite:///{tmp_path}/s.db") as store:
        assert store.runs() == []
