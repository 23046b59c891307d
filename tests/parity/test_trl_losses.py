"""Losses and gradients of dSFT and dDPO against TRL's on its own collated batch, from the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_data import DIALOGUES, PAIRS

from zephyr_bench.recipe import DdpoStage
from zephyr_bench.trainers.ddpo import Referenced, preference_loss
from zephyr_bench.trainers.forward import Predictor
from zephyr_bench.training_data.tokens import Example, PairExample, Tree

trl = pytest.importorskip("trl")

CLOSE = {"rel": 1e-5, "abs": 1e-6}
# what chats of unlike length and several turns add to the six short pairs
LONG = "Tell me about the sea, and about the mountains behind it, and about the people who live there. " * 2
TURNS = [
    {"role": "user", "content": LONG},
    {"role": "assistant", "content": "The sea is wide."},
    {"role": "user", "content": "And the mountains?"},
]
MIXED_PAIRS = [
    *({"prompt": row["chosen"][:1], "chosen": row["chosen"][1:], "rejected": row["rejected"][1:]} for row in PAIRS[:3]),
    {
        "prompt": TURNS,
        "chosen": [{"role": "assistant", "content": "High."}],
        "rejected": [{"role": "assistant", "content": "There are mountains. " * 6}],
    },
]
LOSSES = {"sigmoid": "sigmoid", "hinge": "hinge", "ipo": "ipo", "sppo": "sppo_hard"}  # ours: TRL's


def arguments(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "trl"),
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 8,
        "max_length": 512,
        "disable_tqdm": True,
    }


def opened(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """To 1e-5 of the largest entry of each gradient."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        apart = (found[name] - gradient).abs().max()
        assert apart <= 1e-5 * gradient.abs().max() + 1e-8, f"{name}: {apart} of {gradient.abs().max()}"


def pairs_of(inputs: dict[str, Any]) -> list[PairExample]:
    """TRL's padded batch, all chosen before all rejected, as pairs of ours."""
    rows = []
    for ids, present, answered in zip(
        inputs["input_ids"], inputs["attention_mask"].bool(), inputs["completion_mask"].bool(), strict=True
    ):
        rows.append((tuple(ids[present & ~answered].tolist()), tuple(ids[answered].tolist())))
    half = len(rows) // 2
    assert all(rows[n][0] == rows[n + half][0] for n in range(half))
    return [PairExample(rows[n][0], (rows[n][1], rows[n + half][1])) for n in range(half)]


def moved(model: Any) -> Any:
    """Away from the reference, so that a loss says something of ratios."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for part in model.parameters():
            part.add_(0.05 * torch.randn(part.shape, generator=generator))
    return model


@pytest.mark.parametrize("parts", ["one by one", "in one row"])
@pytest.mark.parametrize("loss", LOSSES)
def test_preference_losses_and_gradients_are_trls(tiny_model_dir: Path, tmp_path: Path, loss: str, parts: str) -> None:
    from datasets import Dataset

    reference, tokenizer = opened(tiny_model_dir)
    trainer = trl.DPOTrainer(
        model=moved(opened(tiny_model_dir)[0]),
        ref_model=reference,
        args=trl.DPOConfig(beta=0.1, loss_type=LOSSES[loss], **arguments(tmp_path)),
        train_dataset=Dataset.from_list(MIXED_PAIRS),
        processing_class=tokenizer,
    )
    inputs = next(iter(trainer.get_train_dataloader()))
    expected = trainer.compute_loss(trainer.model, inputs)
    expected.backward()
    ours = moved(opened(tiny_model_dir)[0]).train()
    examples = pairs_of(inputs)
    stage = DdpoStage(learning_rate=1e-3, global_batch=4, beta=0.1, loss=loss)
    with torch.no_grad():
        log_probs = Predictor(reference, pad=0)([example.tree for example in examples]).sums.view(-1, 2).tolist()
    batch = [Referenced(example, tuple(both)) for example, both in zip(examples, log_probs, strict=True)]
    predictor = Predictor(ours, pad=0)
    total = 0.0
    for part in [batch] if parts == "in one row" else [[one] for one in batch]:
        value, _ = preference_loss(predictor, part, stage=stage)
        (value / len(batch)).backward()
        total += value.item() / len(batch)
    assert total == pytest.approx(expected.item(), **CLOSE)
    assert_same(gradients(ours), gradients(trainer.model))


@pytest.mark.parametrize("length", [None, 1024], ids=["rows of the longest", "packed"])
@pytest.mark.parametrize("assistant_only", [True, False], ids=["assistant", "all"])
def test_supervised_losses_and_gradients_are_trls(
    tiny_model_dir: Path, tmp_path: Path, length: int | None, assistant_only: bool
) -> None:
    """TRL pads here; test_trl_tokens.py has its padding-free batches."""
    from datasets import Dataset

    answers = [*TURNS, {"role": "assistant", "content": "They are high."}]
    if assistant_only:
        rows = [{"prompt": row["messages"][:1], "completion": row["messages"][1:]} for row in DIALOGUES]
        rows.append({"prompt": TURNS, "completion": answers[3:]})
    else:
        rows = [{"messages": row["messages"]} for row in (*DIALOGUES, {"messages": answers})]
    model, tokenizer = opened(tiny_model_dir)
    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(**arguments(tmp_path)),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    inputs = next(iter(trainer.get_train_dataloader()))
    expected = trainer.compute_loss(trainer.model, inputs)
    expected.backward()
    examples = []
    present = inputs["attention_mask"].bool()
    for ids, here, labels in zip(inputs["input_ids"], present, inputs["labels"], strict=True):
        learn = (labels[here] != -100).tolist()
        examples.append(Example(tuple(ids[here].tolist()), tuple(learn)))
    ours = opened(tiny_model_dir)[0].train()
    found = Predictor(ours, pad=0)([Tree(example) for example in examples], length=length)
    loss = -found.log_probs.sum() / sum(example.targets for example in examples)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), **CLOSE)
    assert_same(gradients(ours), gradients(trainer.model))
