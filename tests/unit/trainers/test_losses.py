from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from zephyr_bench.trainers.losses import Ratios, at_start, hinge, ipo, selm, sigmoid, sppo

SAME = Ratios(*(torch.zeros(2) for _ in range(2)), *(torch.tensor([3, 5]) for _ in range(2)), torch.zeros(2))
MOVED = Ratios(
    chosen=torch.tensor([2.0, -1.0]),
    rejected=torch.tensor([-5.0, 4.0]),
    chosen_tokens=torch.tensor([4, 2]),
    rejected_tokens=torch.tensor([10, 8]),
    sampled=torch.tensor([1.5, -3.0]),
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("sigmoid", sigmoid(SAME, beta=0.1, label_smoothing=0.0)),
        ("sigmoid", sigmoid(SAME, beta=0.1, label_smoothing=0.2)),
        ("hinge", hinge(SAME, beta=0.1)),
        ("ipo", ipo(SAME, beta=0.1)),
        ("sppo", sppo(SAME, beta=0.1)),
        ("selm", selm(SAME, beta=0.1, optimism=0.01)),
    ],
)
def test_a_loss_at_the_start_is_known(name: str, found: Any) -> None:
    assert found.tolist() == pytest.approx([at_start(name, beta=0.1)] * 2)


def test_dpo_starts_at_ln_2() -> None:
    assert at_start("sigmoid", beta=0.1) == math.log(2)


def test_sigmoid_is_the_papers_formula() -> None:
    # -log sigma(0.1 (2) - 0.1 (-5)) = log(1 + e^-0.7)
    found = sigmoid(MOVED, beta=0.1, label_smoothing=0.0)
    assert found.tolist() == pytest.approx([math.log1p(math.exp(-0.7)), math.log1p(math.exp(0.5))])


def test_label_smoothing_is_mitchells_formula() -> None:
    found = sigmoid(MOVED, beta=0.1, label_smoothing=0.25)
    right, wrong = math.log1p(math.exp(-0.7)), math.log1p(math.exp(0.7))
    assert found[0].item() == pytest.approx(0.75 * right + 0.25 * wrong)


def test_hinge_is_zero_beyond_its_margin() -> None:
    assert hinge(MOVED, beta=0.1).tolist() == pytest.approx([1 - 0.7, 1 + 0.5])
    assert hinge(MOVED, beta=1.0).tolist() == pytest.approx([0.0, 6.0])


def test_ipo_is_the_papers_formula_of_ratios_a_token() -> None:
    found = ipo(MOVED, beta=0.5)
    assert found.tolist() == pytest.approx([(2 / 4 + 5 / 10 - 1) ** 2, (-1 / 2 - 4 / 8 - 1) ** 2])


def test_sppo_is_the_papers_formula_with_a_certain_winner() -> None:
    # eta = 1 / beta: (log ratio - eta (P - 1/2))^2 with P = 1 of the winner and 0 of the loser
    found = sppo(MOVED, beta=0.1)
    assert found.tolist() == pytest.approx([(2 - 5) ** 2 + (-5 + 5) ** 2, (-1 - 5) ** 2 + (4 + 5) ** 2])


def test_selm_is_dpo_with_the_papers_optimistic_term() -> None:
    found, plain = selm(MOVED, beta=0.1, optimism=0.01), sigmoid(MOVED, beta=0.1, label_smoothing=0.0)
    assert (found - plain).tolist() == pytest.approx([0.01 * 0.1 * 1.5, 0.01 * 0.1 * -3.0], rel=1e-3)


def test_selm_needs_an_answer_of_the_reference() -> None:
    with pytest.raises(ValueError, match="answer of the reference"):
        selm(Ratios(*(torch.zeros(1) for _ in range(4))), beta=0.1, optimism=0.01)
