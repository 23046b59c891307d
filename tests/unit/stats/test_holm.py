from __future__ import annotations

import pytest

from zephyr_bench.stats.holm import holm


def test_holm_1979_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_one_test_stays_as_it_is() -> None:
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_what_can_t_be_told_counts_as_a_test() -> None:
    assert holm([0.01, None, 0.9]) == pytest.approx([0.03, None, 1.0])
