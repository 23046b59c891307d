"""Which samples join which results, where several are given."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lm_eval_files_made import gsm8k_rows, put, results, rows, scores, write, write_all

from zephyr_bench.errors import UserError
from zephyr_bench.interop.lm_eval_import import ImportedScores
from zephyr_bench.store import Store

FIRST, SECOND = "2026-01-01T00-00-00.000001", "2026-01-02T00-00-00.000001"


def by_model(done: list[ImportedScores]) -> dict[str, int]:
    return {run.model: run.samples for run in done}


def test_folders_tell_models_apart(store: Store, tmp_path: Path) -> None:
    paths = [
        path
        for model, values in {"a": (1.0, 0.0), "b": (1.0, 0.0), "c": (0.0, 0.0, 1.0)}.items()
        for path in write_all(tmp_path / model, {"arc_challenge": rows("arc_challenge", *values)}, model=model)
    ]
    assert by_model(put(store, *paths)) == {"a": 2, "b": 2, "c": 3}


def test_within_a_folder_the_numbers_do(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    for model, values in {"a": (1.0, 0.0), "b": (1.0, 1.0)}.items():
        samples = {"arc_challenge": rows("arc_challenge", *values), "winogrande": rows("winogrande", *values)}
        write(folder / f"{model}.json", results(samples, model=model))
        for number, told in enumerate(samples.values()):
            write(folder / f"{number}-of-{model}", told)
    done = put(store, *sorted(folder.iterdir()))
    assert {run.model: (run.samples, scores(store, run.run)["arc_challenge"]) for run in done} == {
        "a": (4, 50.0),
        "b": (4, 100.0),
    }


def test_of_equal_numbers_the_time_in_the_names_does(store: Store, tmp_path: Path) -> None:
    same = {"gsm8k": gsm8k_rows(0.0, 0.0)}
    paths = [*write_all(tmp_path, same, model="a", time=FIRST), *write_all(tmp_path, same, model="b", time=SECOND)]
    assert by_model(put(store, *paths)) == {"a": 2, "b": 2}
    moved = [shutil.copy(path, tmp_path / f"x{number}") for number, path in enumerate(paths)]
    with pytest.raises(UserError, match=r"x1: may belong to .*x0 \(gsm8k\) or .*x2 \(gsm8k\); import them one by one"):
        put(store, *map(Path, moved))


def test_rows_that_give_other_numbers_are_refused(store: Store, tmp_path: Path) -> None:
    told = write(tmp_path / "r.json", results({"arc_challenge": rows("arc_challenge", 1.0, 0.0)}))
    other = write(tmp_path / "s.jsonl", rows("arc_challenge", 1.0, 1.0))
    message = r"s.jsonl: its rows give arc_challenge acc_norm,none 1, and .*r.json tells 0.5; they are not of one run"
    with pytest.raises(UserError, match=message):
        put(store, told, other)
    assert store.runs() == []


def test_rows_of_other_tasks_are_refused(store: Store, tmp_path: Path) -> None:
    told = write(tmp_path / "r.json", results({"arc_challenge": rows("arc_challenge", 1.0)}))
    other = write(tmp_path / "samples_arc_challenge_x.jsonl", rows("hellaswag", 1.0))
    with pytest.raises(UserError, match="holds samples of no task of the results given"):
        put(store, told, other)


def test_without_hashes_the_task_in_the_name_counts(store: Store, tmp_path: Path) -> None:
    samples = {"mmlu_anatomy": rows("mmlu_anatomy", 1.0), "mmlu_human_aging": rows("mmlu_human_aging", 1.0)}
    paths = write_all(tmp_path, samples, task_hashes={})
    (done,) = put(store, *paths)
    assert {sample.category for sample in store.samples_of(done.run) if sample.question} == samples.keys()


def test_two_files_of_one_task_are_refused_unless_they_are_the_same(store: Store, tmp_path: Path) -> None:
    told = rows("arc_challenge", 1.0, 0.0)
    paths = write_all(tmp_path, {"arc_challenge": told})
    (done,) = put(store, *paths, write(tmp_path / "copy.gz", told))
    assert done.samples == 2
    turned = [{**row, "acc_norm": 1.0 - row["acc_norm"]} for row in told]
    with pytest.raises(UserError, match=r"both hold samples of arc_challenge for .*results"):
        put(store, *paths, write(tmp_path / "other", turned))


def test_samples_of_tasks_that_are_left_out_are_left_out(store: Store, tmp_path: Path) -> None:
    samples = {"arc_challenge": rows("arc_challenge", 1.0), "piqa": rows("piqa", 1.0)}
    (done,) = put(store, *write_all(tmp_path, samples), benchmark="open-llm-1")
    assert (done.samples, done.left_out) == (1, ("piqa",))
