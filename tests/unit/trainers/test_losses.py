from __future__ import annotations

import math

import pytest
import torch

from zephyr_bench.trainers.losses import dpo_loss, implicit_rewards, sequence_log_probs, sft_loss, token_log_probs


def test_loss_is_ln_2_where_policy_and_reference_agree() -> None:
    log_probs = torch.tensor([-3.0, -100.0])
    rewards = implicit_rewards(log_probs, log_probs, beta=0.1)
    assert dpo_loss(rewards, rewards).tolist() == pytest.approx([math.log(2)] * 2)


def test_loss_is_the_papers_formula() -> None:
    chosen = implicit_rewards(torch.tensor([-10.0]), torch.tensor([-12.0]), beta=0.1)
    rejected = implicit_rewards(torch.tensor([-20.0]), torch.tensor([-15.0]), beta=0.1)
    # -log sigma(0.1 (2) - 0.1 (-5)) = log(1 + e^-0.7)
    assert dpo_loss(chosen, rejected).item() == pytest.approx(math.log1p(math.exp(-0.7)))


def test_log_probs_are_summed_per_sequence() -> None:
    log_probs = torch.tensor([-1.0, -2.0, -4.0])
    assert sequence_log_probs(log_probs, torch.tensor([0, 0, 2]), 3).tolist() == [-3.0, 0.0, -4.0]


def test_token_log_probs_are_of_the_softmax() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [5.0, 5.0]])
    found = token_log_probs(logits, torch.tensor([1, 0]))
    assert found.tolist() == pytest.approx([math.log(0.75), math.log(0.5)])
    assert sft_loss(logits, torch.tensor([1, 0])).item() == pytest.approx(-found.sum().item())
