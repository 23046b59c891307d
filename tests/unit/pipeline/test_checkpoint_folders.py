"""Which folders are checkpoints, in which order, and what of them is only half written."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_data import DIALOGUES

from zephyr_bench.pipeline.checkpoint_folders import (
    SETTLED_SECONDS,
    Settling,
    checkpoint_folders,
    lacking,
    newest_last,
    state_of,
)

HEADER = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(8)  # a whole file of safetensors


def put(folder: Path, *, at: float = 1e9, **files: Any) -> Path:
    """A folder with weights, and with JSON files of those names; `at` is when it was written."""
    folder.mkdir(parents=True)
    weights = folder / "model.safetensors"
    weights.write_bytes(WEIGHTS)
    os.utime(weights, (at, at))
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def found(root: Path) -> list[tuple[str, int | None]]:
    return [(folder.name, folder.step) for folder in checkpoint_folders(root)]


def test_steps_are_ordered_as_numbers_and_the_final_model_comes_last(tmp_path: Path) -> None:
    for step in (1000, 200, 90):
        put(tmp_path / "run" / f"checkpoint-{step}")
    put(tmp_path / "run" / "step_95")
    assert found(tmp_path / "run") == [
        ("checkpoint-90", 90), ("step_95", 95), ("checkpoint-200", 200), ("checkpoint-1000", 1000),
    ]  # fmt: skip
    (tmp_path / "run" / "model.safetensors").write_bytes(WEIGHTS)
    assert found(tmp_path / "run")[-1] == ("run", None)
    (tmp_path / "run" / "trainer_state.json").write_text('{"global_step": 1000}')
    assert found(tmp_path / "run")[-1] == ("run", 1000)


def test_a_final_model_that_is_older_than_a_checkpoint_is_not_the_last(tmp_path: Path) -> None:
    """Training was taken up again in the folder, or begun anew."""
    put(tmp_path / "run", at=5)
    put(tmp_path / "run" / "checkpoint-500", at=4)
    assert found(tmp_path / "run")[-1] == ("run", None)
    put(tmp_path / "run" / "checkpoint-600", at=6)
    assert found(tmp_path / "run") == [("run", None), ("checkpoint-500", 500), ("checkpoint-600", 600)]
    (tmp_path / "run" / "trainer_state.json").write_text('{"global_step": 500}')
    assert found(tmp_path / "run")[-1] == ("checkpoint-600", 600)


def test_the_newest_is_what_was_written_last_whatever_its_step(tmp_path: Path) -> None:
    put(tmp_path / "checkpoint-500", at=4)
    put(tmp_path / "checkpoint-100", at=5)
    put(tmp_path / "checkpoint-200", at=5)
    folders = checkpoint_folders(tmp_path)
    assert [folder.step for folder in folders] == [100, 200, 500]
    assert [folder.step for folder in newest_last(folders)] == [500, 100, 200]


def test_what_lies_in_a_checkpoint_is_a_part_of_it(tmp_path: Path) -> None:
    """As DeepSpeed's states do; a training that is named like a step holds checkpoints of its own."""
    (put(tmp_path / "checkpoint-500") / "global_step500").mkdir()
    put(tmp_path / "sft-step1" / "checkpoint-3")
    assert [name for name, _ in found(tmp_path)].count("global_step500") == 0
    assert ("checkpoint-3", 3) in found(tmp_path)
    assert found(tmp_path / "checkpoint-500") == [("checkpoint-500", 500)]


def test_two_folders_of_one_name_are_told_apart_by_their_parents(tmp_path: Path) -> None:
    put(tmp_path / "b" / "checkpoint-2", at=1)
    put(tmp_path / "a" / "checkpoint-2", at=2)
    put(tmp_path / "a" / "checkpoint-3", at=3)
    assert found(tmp_path) == [("b/checkpoint-2", 2), ("a/checkpoint-2", 2), ("checkpoint-3", 3)]


def test_our_stages_come_one_after_the_other_though_the_later_has_fewer_steps(tmp_path: Path) -> None:
    put(tmp_path / "ddpo", at=4, lineage={"steps": 14})
    put(tmp_path / "ddpo@7", at=3, lineage={"steps": 7})
    put(tmp_path / "dsft", at=2, lineage={"steps": 15})
    assert found(tmp_path) == [("dsft", 15), ("ddpo@7", 7), ("ddpo", 14)]


def test_what_is_no_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for name in (".ddpo-draft-x", ".ddpo-restart", "tmp-checkpoint-4"):
        put(tmp_path / name)
    (tmp_path / "runs").mkdir()
    (tmp_path / "config.json").write_text("{}")  # some trainers write it before they begin
    (tmp_path / "training_args.bin").write_bytes(b"")
    put(tmp_path / "checkpoint-2")
    (tmp_path / "latest").symlink_to(tmp_path / "checkpoint-2")
    assert found(tmp_path) == [("checkpoint-2", 2)]
    assert found(tmp_path / "absent") == []


def test_a_folder_may_be_a_checkpoint_itself(tmp_path: Path) -> None:
    put(tmp_path / "mine")
    assert found(tmp_path / "mine") == [("mine", None)]


@pytest.fixture
def checkpoint(tiny_model_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "checkpoint-2"))


def test_a_whole_checkpoint_lacks_nothing(checkpoint: Path) -> None:
    assert lacking(checkpoint) is None


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_or_half_file_is_told(checkpoint: Path, name: str) -> None:
    content = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(content[: len(content) // 2])
    half = lacking(checkpoint)
    assert half
    assert name in half
    (checkpoint / name).unlink()
    assert lacking(checkpoint)


def test_a_shard_that_the_index_names_must_be_there_and_whole(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {"weight_map": dict(zip("ab", shards, strict=True))}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    (checkpoint / shards[0]).write_bytes(WEIGHTS)
    assert shards[1] in str(lacking(checkpoint))
    (checkpoint / shards[1]).write_bytes(WEIGHTS[:-1])
    assert f"{shards[1]} has {len(WEIGHTS) - 1} bytes, and its header says {len(WEIGHTS)}" in str(lacking(checkpoint))
    (checkpoint / shards[1]).write_bytes(WEIGHTS)
    assert lacking(checkpoint) is None


@pytest.mark.parametrize("index", ['{"weight_map": {"a": 5}}', "[" * 100_000])
def test_an_index_of_something_else_is_told(checkpoint: Path, index: str) -> None:
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "model.safetensors.index.json").write_text(index)
    assert "model.safetensors.index.json: malformed" in str(lacking(checkpoint))


def test_pickled_weights_are_told_by_name(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    assert "pytorch_model.bin is a pickle" in str(lacking(checkpoint))


def test_an_adapter_needs_its_own_weights_and_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "adapter_model.safetensors is missing" in str(lacking(tmp_path))
    (tmp_path / "adapter_model.safetensors").write_bytes(WEIGHTS)
    assert lacking(tmp_path) is None


@given(cut=st.integers(0, len(WEIGHTS) - 1), more=st.binary(min_size=1, max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_no_other_length_of_a_weight_file_is_taken_for_the_whole(tmp_path: Path, cut: int, more: bytes) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    file = tmp_path / "adapter_model.safetensors"
    for content in (WEIGHTS[:cut], WEIGHTS + more):
        file.write_bytes(content)
        assert lacking(tmp_path)


@given(st.binary(min_size=8, max_size=80).filter(lambda content: b"{" not in content))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_a_header_that_is_no_mapping_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes((len(content) - 8).to_bytes(8, "little") + content[8:])
    assert lacking(tmp_path)


def test_a_folder_rests_once_nothing_changed_for_some_seconds(tmp_path: Path) -> None:
    ahead = [0.0]
    settling = Settling(lambda: time.time() + ahead[0])
    folder = put(tmp_path / "checkpoint-2")
    assert not settling.rests(folder, state_of(folder))
    ahead[0] = SETTLED_SECONDS + 1
    assert settling.rests(folder, state_of(folder))


def test_a_clock_that_disagrees_with_the_disks_only_costs_a_wait(tmp_path: Path) -> None:
    now = [0.0]  # of 1970: all files are of the future
    settling = Settling(lambda: now[0])
    folder = put(tmp_path / "checkpoint-2")
    assert not settling.rests(folder, state_of(folder))
    now[0] = SETTLED_SECONDS - 1
    assert not settling.rests(folder, state_of(folder))
    (folder / "config.json").write_text("{}")
    assert not settling.rests(folder, state_of(folder))
    now[0] += SETTLED_SECONDS - 1
    assert not settling.rests(folder, state_of(folder))
    now[0] += 1
    assert settling.rests(folder, state_of(folder))


def test_a_disks_clock_some_minutes_off_hides_no_change(tmp_path: Path) -> None:
    """It may be another host's, behind ours: what was written just now looks old there."""
    folder = put(tmp_path / "checkpoint-2")
    minutes = [1.0]
    settling = Settling(lambda: time.time() + 60 * minutes[0])
    assert not settling.rests(folder, state_of(folder))
    assert not settling.rests(folder, state_of(folder))
    minutes[0] = 11
    assert Settling(lambda: time.time() + 60 * minutes[0]).rests(folder, state_of(folder)), "old by any clock"


def test_a_folder_rests_at_once_where_its_trainers_last_file_is_the_newest(tmp_path: Path) -> None:
    folder = put(tmp_path / "checkpoint-2")
    time.sleep(0.02)  # a file system's times are no finer than a few milliseconds
    (folder / "trainer_state.json").write_text("{}")
    assert Settling().rests(folder, state_of(folder))
    time.sleep(0.02)
    (folder / "tokenizer_config.json").write_text("{}")
    assert not Settling().rests(folder, state_of(folder))


def test_a_copy_that_keeps_the_originals_times_is_not_taken_for_done(tmp_path: Path) -> None:
    original = put(tmp_path / "checkpoint-2")
    os.utime(original / "model.safetensors", (1, 1))
    (original / "trainer_state.json").write_text("{}")
    copy = tmp_path / "copies" / "checkpoint-2"
    copy.mkdir(parents=True)
    shutil.copy2(original / "trainer_state.json", copy)
    time.sleep(0.02)
    shutil.copy2(original / "model.safetensors", copy)
    assert not Settling().rests(copy, state_of(copy))


def test_transformers_own_checkpoints_are_whole_and_have_their_step_file_written_last(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    rows = [tokenizer(DIALOGUES[0]["messages"][0]["content"]) for _ in range(4)]
    for row in rows:
        row["labels"] = row["input_ids"]
    out = tmp_path / "out"
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=4,
        save_steps=2,
        per_device_train_batch_size=1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    Trainer(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer).train()
    folders = checkpoint_folders(out)
    assert [(folder.name, folder.step) for folder in folders] == [("checkpoint-2", 2), ("checkpoint-4", 4)]
    for folder in folders:
        assert lacking(folder.path) is None
        changed = {name: time for name, (_, time) in state_of(folder.path).items()}
        assert changed["trainer_state.json"] == max(changed.values()), "the last that it writes"
