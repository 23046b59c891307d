"""LoRA against TRL's: losses, margins and the adapters' gradients, with the adapter off as reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_trl_losses import CLOSE, DIALOGUES, MIXED_PAIRS, arguments, gradients, opened, pairs_of

from zephyr_bench.engines.locate import locate
from zephyr_bench.recipe import DdpoStage, Lora
from zephyr_bench.trainers.ddpo import Referenced, preference_loss, switch_dropout_off
from zephyr_bench.trainers.forward import Predictor
from zephyr_bench.training_data.tokens import Example, Tree
from zephyr_bench.training_runs.adapters import adapters_off, add_adapters

trl = pytest.importorskip("trl")

PREFIX = "base_model.model."  # of peft's names
SOME = ("q_proj", "v_proj", "down_proj")
# short answers: float32 keeps seven digits of their summed log-probabilities, and margins are differences of those
SHORT = [*MIXED_PAIRS[:3], {**MIXED_PAIRS[3], "rejected": [{"role": "assistant", "content": "There are mountains."}]}]


def adapted(folder: Path, lora: Lora) -> Any:
    """Ours, moved away from the reference, so that a loss says something of ratios."""
    model, _ = opened(folder)
    torch.manual_seed(3)
    add_adapters(model, lora, base=locate(str(folder)))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for part in model.parameters():
            if part.requires_grad:
                part.add_(0.1 * torch.randn(part.shape, generator=generator))
    return model.train()


def theirs(lora: Lora) -> Any:
    from peft import LoraConfig

    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    settings = {"r": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout, "target_modules": targets}
    return LoraConfig(task_type="CAUSAL_LM", **settings)


def take_over(trained: Any, ours: Any) -> None:
    parts = dict(trained.named_parameters())
    learned = {name: part for name, part in ours.named_parameters() if part.requires_grad}
    assert {name for name, part in parts.items() if part.requires_grad} == {PREFIX + name for name in learned}
    with torch.no_grad():
        for name, part in learned.items():
            parts[PREFIX + name].copy_(part)


def assert_same_gradients(ours: Any, trained: Any) -> None:
    """To 1e-5 of each one's norm."""
    found, expected = gradients(ours), gradients(trained)
    assert {PREFIX + name for name in found} == expected.keys()
    for name, gradient in found.items():
        theirs = expected[PREFIX + name]
        assert (gradient - theirs).norm() <= 1e-5 * theirs.norm(), name


@pytest.mark.parametrize("targets", ["all-linear", SOME], ids=["all-linear", "some"])
@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_preference_losses_margins_and_gradients_are_trls(
    tiny_model_dir: Path, tmp_path: Path, loss: str, targets: Any
) -> None:
    """Dropout of adapters too is off in both."""
    from datasets import Dataset

    lora = Lora(rank=4, alpha=8, dropout=0.5, targets=targets)
    ours = adapted(tiny_model_dir, lora)
    model, tokenizer = opened(tiny_model_dir)
    trainer = trl.DPOTrainer(
        model=model,
        peft_config=theirs(lora),
        args=trl.DPOConfig(beta=0.1, loss_type=loss, **arguments(tmp_path)),
        train_dataset=Dataset.from_list(SHORT),
        processing_class=tokenizer,
    )
    take_over(trainer.model, ours)
    inputs = next(iter(trainer.get_train_dataloader()))
    expected = trainer.compute_loss(trainer.model.train(), inputs)
    expected.backward()
    (margin,) = trainer._metrics["train"]["rewards/margins"]
    examples = pairs_of(inputs)
    stage = DdpoStage(learning_rate=1e-3, global_batch=4, beta=0.1, loss=loss)
    switch_dropout_off(ours)
    predictor = Predictor(ours, pad=0)
    with torch.no_grad(), adapters_off(ours):
        log_probs = predictor([example.tree for example in examples]).sums.view(-1, 2).tolist()
    batch = [Referenced(example, tuple(both)) for example, both in zip(examples, log_probs, strict=True)]
    value, watched = preference_loss(predictor, batch, stage=stage)
    (value / len(batch)).backward()
    assert value.item() / len(batch) == pytest.approx(expected.item(), **CLOSE)
    assert abs(margin) > 0.1, "the policy has not moved"
    assert watched["margin"].item() / len(batch) == pytest.approx(margin, rel=1e-5, abs=1e-5)
    assert_same_gradients(ours, trainer.model)


@pytest.mark.parametrize("targets", ["all-linear", SOME], ids=["all-linear", "some"])
def test_supervised_losses_and_gradients_are_trls(tiny_model_dir: Path, tmp_path: Path, targets: Any) -> None:
    from datasets import Dataset

    lora = Lora(rank=4, alpha=8, targets=targets)
    ours = adapted(tiny_model_dir, lora)
    model, tokenizer = opened(tiny_model_dir)
    trainer = trl.SFTTrainer(
        model=model,
        peft_config=theirs(lora),
        args=trl.SFTConfig(**arguments(tmp_path)),
        train_dataset=Dataset.from_list(DIALOGUES),
        processing_class=tokenizer,
    )
    take_over(trainer.model, ours)
    inputs = next(iter(trainer.get_train_dataloader()))
    expected = trainer.compute_loss(trainer.model.train(), inputs)
    expected.backward()
    examples = []
    present = inputs["attention_mask"].bool()
    for ids, here, labels in zip(inputs["input_ids"], present, inputs["labels"], strict=True):
        examples.append(Example(tuple(ids[here].tolist()), tuple((labels[here] != -100).tolist())))
    found = Predictor(ours, pad=0)([Tree(example) for example in examples])
    loss = -found.log_probs.sum() / sum(example.targets for example in examples)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), **CLOSE)
    assert_same_gradients(ours, trainer.model)
