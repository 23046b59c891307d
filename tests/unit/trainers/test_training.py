from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_data import DDPO, DIALOGUES, DSFT, write_jsonl
from tiny_training import QUIET, ddpo, dsft, log_of

from zephyr_bench.engines import open_engine
from zephyr_bench.engines.locate import locate
from zephyr_bench.engines.protocol import EngineOptions, ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.recipe import DsftStage, Recipe
from zephyr_bench.trainers.ddpo import train_ddpo
from zephyr_bench.training_runs.checkpoint import StageRecord, with_system
from zephyr_bench.training_runs.optimizers import optimizer_of

MakeRecipe = Callable[..., Recipe]


def test_dsft_learns_and_leaves_a_whole_checkpoint(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(dsft={**DSFT, "epochs": 6})
    model = dsft(recipe, tmp_path / "out")
    log = log_of(tmp_path / "out")
    assert log[-1]["loss"] < log[0]["loss"]
    assert len(log) == 12
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.safetensors", "tokenizer.json", "config.json", "lineage.json", "chat_template.jinja"} <= names
    assert model.name == "tiny-dsft"
    lineage = json.loads((tmp_path / "out" / "lineage.json").read_text())
    assert lineage["parent"]["fingerprint"] == locate(recipe.model).fingerprint
    assert (lineage["data"]["rows"], lineage["seed"], lineage["stage"]) == (6, 42, "dsft")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "a draft was left"


def test_ddpo_starts_at_ln_2_and_prefers_the_chosen(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    ddpo(make_recipe(ddpo={**DDPO, "epochs": 5}), tmp_path / "out")
    log = log_of(tmp_path / "out")
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert log[-1]["loss"] < 0.6


@pytest.mark.parametrize("train", [dsft, ddpo])
def test_micro_batches_change_rounding_only(
    train: Callable[[Recipe, Path], ModelSource], make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    logs = []
    for micro in (1, 3, 4):
        recipe = make_recipe(dsft={**DSFT, "micro_batch": micro}, ddpo={**DDPO, "micro_batch": micro})
        train(recipe, tmp_path / f"out-{micro}")
        logs.append(log_of(tmp_path / f"out-{micro}"))
    for log in logs[1:]:
        assert [step["loss"] for step in log] == pytest.approx([step["loss"] for step in logs[0]], rel=2e-4)
        assert [step["grad_norm"] for step in log] == pytest.approx([step["grad_norm"] for step in logs[0]], rel=2e-3)


def test_the_same_training_gives_the_same_weights(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(dsft=DSFT)
    assert dsft(recipe, tmp_path / "one").fingerprint == dsft(recipe, tmp_path / "two").fingerprint


def test_a_finished_stage_is_not_trained_again(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(dsft=DSFT)
    first = dsft(recipe, tmp_path / "out")
    before = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    assert dsft(recipe, tmp_path / "out") == first
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == before


def test_a_default_said_aloud_is_the_same_stage(make_recipe: MakeRecipe) -> None:
    def stage(**more: object) -> str:
        recipe = make_recipe(ddpo={**DDPO, **more})
        assert recipe.ddpo is not None
        start = ModelSource("m", "m", "sha256:0")
        record = StageRecord.of("ddpo", recipe.ddpo, recipe=recipe, parent=start, data=[], device="cpu")
        return record.fingerprint

    short = {"max_length": 64, "max_prompt_length": 32}
    assert stage(truncation_mode="keep_start") == stage() != stage(truncation_mode="keep_end")
    assert stage(**short, truncation_mode="keep_end") == stage(**short) != stage(**short, truncation_mode="keep_start")


def test_another_setting_or_other_data_is_trained_anew(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    first = dsft(make_recipe(dsft=DSFT), tmp_path / "out")
    second = dsft(make_recipe(dsft={**DSFT, "learning_rate": 2e-3}), tmp_path / "out")
    recipe = make_recipe(dsft={**DSFT, "learning_rate": 2e-3})
    write_jsonl(tmp_path / "dialogues.jsonl", DIALOGUES[:4])
    third = dsft(recipe, tmp_path / "out")
    assert len({first.fingerprint, second.fingerprint, third.fingerprint}) == 3


def test_packed_rows_and_loss_on_all_train(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    dsft(make_recipe(dsft={**DSFT, "packing": True, "loss_on": "all", "max_length": 64}), tmp_path / "out")
    log = log_of(tmp_path / "out")
    assert log[-1]["loss"] < log[0]["loss"]


def test_bfloat16_autocast_stays_near_float32(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    exact = ddpo(make_recipe(ddpo=DDPO), tmp_path / "exact")
    mixed = ddpo(make_recipe(ddpo={**DDPO, "dtype": "bfloat16"}), tmp_path / "mixed")
    first, second = (log_of(Path(model.location))[-1]["loss"] for model in (exact, mixed))
    assert second == pytest.approx(first, rel=0.2)


def test_a_recipes_chat_template_is_trained_with_and_saved(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    (tmp_path / "own.jinja").write_text(template)
    model = dsft(make_recipe(dsft=DSFT, chat_template="own.jinja"), tmp_path / "out")
    assert (Path(model.location) / "chat_template.jinja").read_text() == template


def test_a_loss_that_diverges_is_told(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(dsft={**DSFT, "learning_rate": 1e30, "max_grad_norm": 1e30, "epochs": 10})
    with pytest.raises(UserError, match=r"dsft: the (loss|gradient norm) is .* lower learning_rate"):
        dsft(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_token_left_after_cutting_is_told(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no token with loss is left after cutting at max_length 5"):
        dsft(make_recipe(dsft={**DSFT, "max_length": 5}), tmp_path / "out")


def test_no_pairs_are_told(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(ddpo=DDPO)
    assert recipe.ddpo is not None
    with pytest.raises(UserError, match="no preference pairs"):
        train_ddpo(recipe.ddpo, locate(recipe.model), [], recipe=recipe, out=tmp_path / "out", progress=QUIET)


def test_an_output_that_cannot_be_written_is_told(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="can't be written"):
        dsft(make_recipe(dsft=DSFT), tmp_path / "file" / "out")


@pytest.mark.parametrize("how", [True, "selective"])
def test_what_is_computed_twice_changes_nothing(make_recipe: MakeRecipe, tmp_path: Path, how: bool | str) -> None:
    ddpo(make_recipe(ddpo=DDPO), tmp_path / "kept")
    ddpo(make_recipe(ddpo={**DDPO, "gradient_checkpointing": how}), tmp_path / "again")
    kept, again = log_of(tmp_path / "kept"), log_of(tmp_path / "again")
    assert [step["loss"] for step in again] == pytest.approx([step["loss"] for step in kept], abs=1e-5)
    assert [step["grad_norm"] for step in again] == pytest.approx([step["grad_norm"] for step in kept], rel=1e-4)


def test_a_recipes_system_message_is_trained_with_and_asked_with(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """The checkpoint's own template puts it before chats without one: in training, and whoever asks."""
    recipe = make_recipe(system='Be "brief".', dsft=DSFT)
    made = dsft(recipe, tmp_path / "out")
    engine = open_engine(made.location, EngineOptions(device="cpu"))
    asked = engine.render([{"role": "user", "content": "Hi"}])
    assert 0 <= asked.index('Be "brief".') < asked.index("Hi")
    own = engine.render([{"role": "system", "content": "Own."}, {"role": "user", "content": "Hi"}])
    assert "brief" not in own
    assert with_system(engine.chat_template or "", 'Be "brief".') == engine.chat_template


def test_biases_and_norms_do_not_decay() -> None:
    """As transformers' Trainer (get_decay_parameter_names)."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
    settings = DsftStage(**{**DSFT, "weight_decay": 0.5})
    groups = optimizer_of(model.parameters(), settings).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.5), (3, 0.0)]
