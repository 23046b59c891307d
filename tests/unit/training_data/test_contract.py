"""Training begins only where answering will go by the same rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_data import DDPO, DSFT, write_jsonl
from tiny_model import CHAT_TEMPLATE

from zephyr_bench.engines import open_engine
from zephyr_bench.engines.locate import locate
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import UserError
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe
from zephyr_bench.records import GenerationRequest, Sampling
from zephyr_bench.trainers.ddpo import train_ddpo
from zephyr_bench.trainers.dsft import train_dsft
from zephyr_bench.training_data.reading import read_dialogues, read_pairs

QUIET = Progress(quiet=True)
TWO_BOS = "{{ bos_token }}" + CHAT_TEMPLATE  # each message begins with the tiny model's BOS
NO_END = CHAT_TEMPLATE.replace("<|im_end|>", "")
ANOTHER_END = CHAT_TEMPLATE.replace("<|im_end|>", "<|endoftext|>")


def train(recipe: Recipe, out: Path) -> Any:
    model = locate(recipe.model)
    if recipe.dsft:
        dialogues = read_dialogues(*recipe.dsft.data, recipe=recipe).items
        return train_dsft(recipe.dsft, model, dialogues, recipe=recipe, out=out, progress=QUIET, device="cpu")
    assert recipe.ddpo is not None
    pairs = read_pairs(*recipe.ddpo.data, recipe=recipe).items
    return train_ddpo(recipe.ddpo, model, pairs, recipe=recipe, out=out, progress=QUIET, device="cpu")


@pytest.fixture
def recipe_with(make_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Recipe]:
    def make(template: str, **stage: Any) -> Recipe:
        (tmp_path / "own.jinja").write_text(template, encoding="utf-8")
        return make_recipe(chat_template="own.jinja", **stage)

    return make


STAGES = [{"dsft": DSFT}, {"dsft": {**DSFT, "loss_on": "all"}}, {"ddpo": DDPO}]


@pytest.mark.parametrize("stage", STAGES, ids=["dsft", "dsft on all", "ddpo"])
@pytest.mark.parametrize(
    ("template", "told"),
    [
        (TWO_BOS, r"(dialogue 1|Name colour 0.*|\w+) begins with <\|im_start\|> twice"),
        (NO_END, r"ends with '[!.e]', and generation stops at '<\|im_end\|>', so answers would never end"),
        (ANOTHER_END, r"ends with '<\|endoftext\|>', and generation stops at '<\|im_end\|>'"),
    ],
    ids=["two BOS", "no end", "another end"],
)
def test_a_template_that_breaks_the_contract_is_refused_before_training(
    recipe_with: Callable[..., Recipe], tmp_path: Path, template: str, told: str, stage: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=told):
        train(recipe_with(template, **stage), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stage", ["dsft", "ddpo"])
def test_a_late_row_that_begins_with_bos_of_its_own_is_refused(
    recipe_with: Callable[..., Recipe], tmp_path: Path, stage: str
) -> None:
    """The template is right, and of twelve rows the last one brings a BOS in its text."""
    plain = "{{ bos_token }}{% for message in messages %}{{ message['content'] + '<|im_end|>' }}{% endfor %}"
    asked = [f"Say {number}." for number in range(11)] + ["<|im_start|>Say it."]
    if stage == "dsft":
        rows = [
            {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}]}
            for text in asked
        ]
        recipe = recipe_with(plain, dsft={**DSFT, "data": [{"file": "late.jsonl"}]})
        told = "dsft: dialogue 12 begins with"
    else:
        rows = [{"prompt": text, "chosen": "Yes.", "rejected": "No."} for text in asked]
        recipe = recipe_with(plain, ddpo={**DDPO, "data": [{"file": "late.jsonl"}]})
        told = r"ddpo: \S+ begins with"
    write_jsonl(tmp_path / "late.jsonl", rows)
    with pytest.raises(UserError, match=told + r" <\|im_start\|> twice"):
        train(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_end_token_that_only_the_generation_config_names_will_do(
    recipe_with: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = recipe_with(ANOTHER_END, dsft=DSFT)
    folder = tmp_path / "declares"
    folder.mkdir()
    for file in Path(recipe.model).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    declared = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**declared, "eos_token_id": [0, 2]}))
    train(recipe.model_copy(update={"model": str(folder)}), tmp_path / "out")
    assert (tmp_path / "out" / "lineage.json").exists()


def test_an_end_that_a_long_first_row_loses_is_no_breach(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    train(make_recipe(dsft={**DSFT, "max_length": 29}), tmp_path / "out")  # two of its answer's four bytes are left
    assert (tmp_path / "out" / "lineage.json").exists()


def test_a_checkpoint_whose_template_was_changed_after_training_is_not_evaluated(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    out = Path(train(make_recipe(dsft=DSFT), tmp_path / "out").location)
    request = GenerationRequest("1", ({"role": "user", "content": "Hi"},), Sampling(max_new_tokens=1))
    options = EngineOptions(device="cpu")
    assert list(open_engine(str(out), options).generate([request]))
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE.replace("\n", " "))
    with pytest.raises(UserError, match="its chat template is another"):
        list(open_engine(str(out), options).generate([request]))
