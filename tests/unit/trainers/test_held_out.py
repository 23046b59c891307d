"""The KL to the reference is what a direct formula over whole distributions says, or less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from zephyr_bench.recipe import DdpoStage
from zephyr_bench.trainers import head_log_probs, held_out
from zephyr_bench.trainers.forward import Predictor
from zephyr_bench.trainers.held_out import Divergence
from zephyr_bench.training_data.tokens import Example, Tree

STAGE = DdpoStage(learning_rate=1e-3, global_batch=2, micro_batch=2, beta=0.1, dtype="float32")


def tree(prompt: list[int], *answers: list[int]) -> Tree:
    stem = Example(tuple(prompt), (False,) * len(prompt))
    return Tree(stem, tuple(Example(tuple(answer), (True,) * len(answer)) for answer in answers))


TREES = [tree([5, 6, 7], [8, 9, 2], [10, 2]), tree([11], [12, 13, 14, 2], [7, 2]), tree([20, 21], [3, 2], [4, 5, 2])]


@pytest.fixture
def predictor(tiny_model_dir: Path) -> Predictor:
    from transformers import AutoModelForCausalLM

    return Predictor(AutoModelForCausalLM.from_pretrained(tiny_model_dir).train(), pad=2)


def distributions(model: Any) -> torch.Tensor:
    """log p of the next token before each answer token, in the order of the trees: (tokens, vocabulary)."""
    found = []
    with torch.no_grad():
        for one in TREES:
            for branch in one.branches:
                ids = torch.tensor([[*one.stem.ids, *branch.ids]])
                found.append(model(input_ids=ids).logits[0, len(one.stem.ids) - 1 : -1].log_softmax(-1))
    return torch.cat(found)


@contextmanager
def moved(model: Any, by: float) -> Iterator[None]:
    before = {name: part.detach().clone() for name, part in model.named_parameters()}
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(3)
        for part in model.parameters():
            part += by * torch.randn_like(part)
    yield
    with torch.no_grad():
        for name, part in model.named_parameters():
            part.copy_(before[name])


def test_of_the_reference_itself_it_is_zero(predictor: Predictor) -> None:
    assert Divergence(predictor, TREES, STAGE).mean() == pytest.approx(0.0, abs=1e-7)


def test_with_all_tokens_kept_it_is_the_kl(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "_LIKELIEST", 10_000)
    before = distributions(predictor.model)
    divergence = Divergence(predictor, TREES, STAGE)
    with moved(predictor.model, 0.05):
        after = distributions(predictor.model)
        assert divergence.mean() == pytest.approx(float((after.exp() * (after - before)).sum(-1).mean()), rel=1e-4)


@pytest.mark.parametrize("by", [0.003, 0.03, 0.3])
def test_with_64_tokens_it_is_a_lower_bound_that_grows_with_the_change(predictor: Predictor, by: float) -> None:
    before = distributions(predictor.model)
    divergence = Divergence(predictor, TREES, STAGE)
    with moved(predictor.model, by):
        after = distributions(predictor.model)
        whole = float((after.exp() * (after - before)).sum(-1).mean())
        found = divergence.mean()
    assert 0.3 * whole < found <= whole * (1 + 1e-4)


def test_chunks_of_the_head_change_nothing(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for logits in (1 << 24, 1):  # held at once: all, and one token's
        monkeypatch.setattr(head_log_probs, "_LOGITS", logits)
        divergence = Divergence(predictor, TREES, STAGE)
        with moved(predictor.model, 0.05):
            found.append(divergence.mean())
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_a_look_leaves_the_model_training_and_draws_no_random_number(predictor: Predictor) -> None:
    state = torch.get_rng_state()
    divergence = Divergence(predictor, TREES, STAGE)
    divergence.mean()
    assert predictor.model.training
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
