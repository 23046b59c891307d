from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from zephyr_bench.stats.sign_flips import MOST_TERMS, flipped_as_low, mcnemar_as_low


@given(st.lists(st.integers(-5, 5).filter(bool), min_size=1, max_size=9))
def test_every_way_to_put_the_signs_is_counted(terms: list[int]) -> None:
    sums = [sum(s * abs(t) for s, t in zip(signs, terms, strict=True)) for signs in product((-1, 1), repeat=len(terms))]
    assert flipped_as_low(terms) == pytest.approx(np.mean([total <= sum(terms) for total in sums]))


def test_terms_of_one_size_are_mcnemars_exact_test() -> None:
    terms = [-0.1] * 17 + [0.1] * 6
    exact = stats.binomtest(6, 23, alternative="less").pvalue
    assert flipped_as_low(terms) == pytest.approx(exact)
    assert mcnemar_as_low(6, 17) == pytest.approx(exact)


def test_rounding_parts_no_tie() -> None:
    assert flipped_as_low([0.1, 0.2, -0.3]) == flipped_as_low([1.0, 2.0, -3.0])


def test_without_changes_nothing_speaks_against_chance() -> None:
    assert flipped_as_low([]) == 1.0
    assert mcnemar_as_low(0, 0) == 1.0


def test_too_many_terms_are_refused() -> None:
    assert flipped_as_low([-1.0] * MOST_TERMS) == pytest.approx(2.0**-MOST_TERMS)
    with pytest.raises(ValueError, match="at most"):
        flipped_as_low([1.0] * (MOST_TERMS + 1))
