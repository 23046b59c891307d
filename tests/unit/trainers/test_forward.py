"""Log-probabilities of packed rows, of shared prompts and of chunked heads: those of plain sequences, gradients too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from zephyr_bench.trainers import forward, head_log_probs
from zephyr_bench.trainers.ddpo import switch_dropout_off
from zephyr_bench.trainers.forward import Predictor
from zephyr_bench.training_data.tokens import Example, Tree


def tree(seed: int, stem: int, *branches: int) -> Tree:
    drawn = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, 200, (count,), generator=drawn).tolist())

    if not branches:
        return Tree(Example(tokens(stem), tuple(n % 3 > 0 for n in range(stem))))
    parts = (Example(tokens(count), (True,) * count) for count in branches)
    return Tree(Example(tokens(stem), (False,) * stem), tuple(parts))


TREES = [tree(1, 7, 3, 12), tree(2, 20), tree(3, 1, 1, 1), tree(4, 24, 5, 9, 2), tree(5, 3)]


def plain(model: Any, trees: list[Tree]) -> torch.Tensor:
    """By a pass for each sequence."""
    sums = []
    for one in (one for tree in trees for one in tree.unrolled()):
        ids = torch.tensor([one.stem.ids])
        log_probs = model(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1)  # (tokens - 1, vocabulary)
        found = log_probs.gather(1, ids[0, 1:, None]).squeeze(1)
        sums.append((found * torch.tensor(one.stem.learn[1:])).sum())
    return torch.stack(sums)


def opened(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).train()


def assert_same(folder: Path, length: int | None = None) -> None:
    found, expected = opened(folder), opened(folder)
    for model in (found, expected):
        switch_dropout_off(model)
    weights = torch.arange(1.0, 10.0)
    ours = Predictor(found, pad=0)(TREES, length=length).sums
    (ours * weights).sum().backward()
    theirs = plain(expected, TREES)
    (theirs * weights).sum().backward()
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=2e-5)
    for (name, left), right in zip(found.named_parameters(), expected.parameters(), strict=True):
        if right.grad is None:
            assert left.grad is None, name
            continue
        assert (left.grad - right.grad).abs().max() <= 2e-5 * right.grad.abs().max() + 1e-7, name


@pytest.mark.parametrize("length", [None, 40, 500])
def test_packed_rows_give_each_sequence_its_own(tiny_model_dir: Path, length: int | None) -> None:
    assert_same(tiny_model_dir, length)


@pytest.mark.parametrize("logits", [1, 7 * 259])
def test_the_heads_chunks_change_nothing(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, logits: int) -> None:
    monkeypatch.setattr(head_log_probs, "_LOGITS", logits)
    assert_same(tiny_model_dir)


def test_other_architectures_learn_alike(other_architecture: Path) -> None:
    assert_same(other_architecture)


def test_the_head_runs_for_learned_tokens_only(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, rows = Predictor(opened(tiny_model_dir), pad=0), []
    plain = forward.head_log_probs

    def noted(head: Any, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        rows.append(len(states))
        return plain(head, states, targets)

    monkeypatch.setattr(forward, "head_log_probs", noted)
    predictor(TREES)
    assert rows == [sum(sum(one.stem.learn[1:]) for tree in TREES for one in tree.unrolled())]
