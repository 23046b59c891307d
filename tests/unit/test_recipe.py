"""Recipes load, and a mistake is told with its file, line and key."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from zephyr_bench import catalogue
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import UserError
from zephyr_bench.pipeline.plan import make_plan
from zephyr_bench.recipe import Lora, load_recipe, packaged_models

MINIMAL = """\
description: a test
model: smollm2-135m-instruct
ddpo:
  data: [{file: pairs.jsonl}]
  beta: 0.1
  learning_rate: 5e-7
  global_batch: 32
"""


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", sorted(catalogue.entries("recipe")))
def test_every_recipe_of_the_catalogue_loads(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.stages


def test_zephyr7b_has_the_papers_values() -> None:
    recipe = load_recipe("zephyr7b")
    assert recipe.dsft is not None
    assert recipe.ddpo is not None
    sft, dpo = recipe.dsft, recipe.ddpo
    assert (sft.learning_rate, sft.schedule, sft.warmup_ratio, sft.epochs) == (2e-5, "cosine", 0.1, 1)
    assert (sft.max_length, sft.packing, sft.global_batch) == (2048, True, 512)
    assert (dpo.beta, dpo.learning_rate, dpo.schedule, dpo.warmup_ratio) == (0.1, 5e-7, "linear", 0.1)
    assert (dpo.global_batch, dpo.epochs) == (32, 3)
    assert [evaluation.benchmark for evaluation in recipe.evaluate] == [
        "mt-bench",
        "alpaca-eval-1",
        "open-llm-1",
    ]
    assert math.ceil((dpo.data[0].rows or 0) / dpo.global_batch) * dpo.epochs == 5733


# (dSFT rows a step, dDPO pairs a step, dDPO steps): the paper's and the handbook's
DERIVED = {
    "zephyr7b": (512, 32, 5733),
    "zephyr7b-handbook-nov23": (512, 64, 2868),
    "zephyr7b-handbook-jan24": (128, 128, 478),
    "zephyr7b-qlora": (8, 16, 3821),
    "zephyr7b-ablation-ddpo": (None, 32, 1911),
    "zephyr7b-ablation-dsft-1": (512, None, None),
    "zephyr7b-ablation-dsft-2": (512, None, None),
    "zephyr7b-ablation-dsft-ddpo": (512, 32, 1911),
    "smol": (16, 8, 14),
}


@pytest.mark.parametrize("name", sorted(catalogue.entries("recipe")))
def test_batches_and_steps_are_those_of_the_source(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    plan = make_plan(recipe, EngineOptions(), out=tmp_path, store="sqlite:///none.db")
    steps = {stage.stage: stage.steps for stage in plan.stages}
    assert DERIVED[name] == (
        recipe.dsft.global_batch if recipe.dsft else None,
        recipe.ddpo.global_batch if recipe.ddpo else None,
        steps.get("ddpo"),
    )


def test_the_handbooks_recipes_differ_as_the_handbook_changed() -> None:
    november, january, qlora = (
        load_recipe(f"zephyr7b-{name}") for name in ("handbook-nov23", "handbook-jan24", "qlora")
    )
    assert None not in (november.dsft, november.ddpo, january.dsft, january.ddpo, qlora.dsft, qlora.ddpo)
    assert (november.dsft.warmup_ratio, january.dsft.warmup_ratio) == (0.0, 0.1)
    before, after = november.ddpo, january.ddpo
    assert (before.optimizer, before.schedule, before.beta, before.epochs) == ("rmsprop", "linear", 0.1, 3)
    assert (after.optimizer, after.schedule, after.beta, after.epochs) == ("adamw", "cosine", 0.01, 1)
    assert (before.max_length, before.max_prompt_length, before.truncation_mode) == (1024, 512, "keep_end")
    assert november.system == january.system == qlora.system == ""
    assert qlora.dsft.lora == Lora(rank=16, alpha=16, dropout=0.05, quantize="nf4")
    assert qlora.ddpo.lora == Lora(rank=128, alpha=128, quantize="nf4")
    assert (qlora.dsft.learning_rate, qlora.ddpo.learning_rate) == (2e-4, 5e-6)
    assert qlora.ddpo.optimizer == "paged_adamw_32bit"


def test_unknown_key_names_file_line_and_close_match(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL.replace("beta", "betta"))
    with pytest.raises(UserError, match=r"mine\.yaml line 5: unknown key 'betta' in ddpo\. Did you mean beta\?"):
        load_recipe(path)


def test_missing_key_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL.replace("  beta: 0.1\n", ""))
    with pytest.raises(UserError, match=r"mine\.yaml line 3: key 'beta' is missing in ddpo"):
        load_recipe(path)


def test_wrong_value_names_what_was_found(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL.replace("beta: 0.1", "beta: -1"))
    with pytest.raises(UserError, match=r"line 5: ddpo\.beta: .*greater than 0, found -1"):
        load_recipe(path)


def test_malformed_yaml_names_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL.replace("[{file: pairs.jsonl}]", "[{file: pairs.jsonl}"))
    with pytest.raises(UserError, match=r"mine\.yaml line \d+: malformed YAML"):
        load_recipe(path)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "model: another\n")
    with pytest.raises(UserError, match=r"mine\.yaml line 8: key 'model' stands twice"):
        load_recipe(path)


def test_unknown_recipe_suggests_close_matches() -> None:
    with pytest.raises(UserError, match=r"unknown recipe 'zephyr7'\. Did you mean zephyr7b or"):
        load_recipe("zephyr7")


def test_override_changes_one_key() -> None:
    recipe = load_recipe("smol", overrides=["ddpo.beta=0.05", "seed=7"])
    assert recipe.ddpo is not None
    assert (recipe.ddpo.beta, recipe.seed) == (0.05, 7)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ddpo.beta", "expected KEY=VALUE"),
        ("dppo.beta=1", r"no section 'dppo'\. Did you mean ddpo"),
        ("ddpo.betta=1", r"unknown key 'betta' in ddpo\. Did you mean beta"),
        ("ddpo.beta=[", "the value is not YAML"),
    ],
)
def test_a_wrong_override_is_told(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe("smol", overrides=[override])


def test_include_comes_before_the_catalogue(tmp_path: Path) -> None:
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "smol.yaml").write_text(MINIMAL, encoding="utf-8")
    assert load_recipe("smol", [tmp_path]).description == "a test"


def test_a_missing_include_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_recipe("smol", [tmp_path / "absent"])


def test_packaged_models_are_declared_with_their_hash() -> None:
    model = packaged_models()["smollm2-135m-instruct"]
    assert len(model.sha256) == 64
    assert model.note == "quantised"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{file: pairs.jsonl, clean: [refusals]}", "clean is for dialogues"),
        ("{file: pairs.jsonl, config: main}", "config is of a hub data set"),
        ("{file: pairs.jsonl, revision: main}", "revision is of a hub data set"),
        ("{file: pairs.jsonl, weight: 1.5}", r"ddpo\.data\.0\.weight: .*less than or equal to 1, found 1\.5"),
    ],
)
def test_a_data_source_that_does_not_fit_is_told(source: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe(write(tmp_path, MINIMAL.replace("{file: pairs.jsonl}", source)))


def test_dropout_of_adapters_is_refused_where_it_has_no_effect() -> None:
    with pytest.raises(UserError, match=r"lora.dropout has no effect in ddpo.*leave it out"):
        load_recipe("smol", overrides=["ddpo.lora={rank: 4, alpha: 8, dropout: 0.1}"])
    assert load_recipe("smol", overrides=["dsft.lora={rank: 4, alpha: 8, dropout: 0.1}"]).dsft


def test_dialogues_are_not_binarized() -> None:
    with pytest.raises(UserError, match="binarize makes pairs"):
        load_recipe("smol", overrides=["dsft.data.0.binarize=mean"])
