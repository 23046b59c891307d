from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from zephyr_bench.stats.equivalence import Figure, Reproduction, equivalence


def test_both_one_sided_tests_are_welch_s() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(7.3, 1, 40), rng.normal(7.4, 2, 60)
    figures = [Figure(float(x.mean()), float(x.std(ddof=1) / len(x) ** 0.5), len(x)) for x in (ours, theirs)]
    found = equivalence(figures[0], figures[1], margin=0.6)
    above = stats.ttest_ind(ours + 0.6, theirs, equal_var=False, alternative="greater").pvalue
    below = stats.ttest_ind(ours - 0.6, theirs, equal_var=False, alternative="less").pvalue
    assert found.p_equivalent == pytest.approx(max(above, below))
    inside = (found.low or 0) > -0.6 and (found.high or 0) < 0.6
    assert inside == (found.verdict is Reproduction.REPRODUCED)


@pytest.mark.parametrize(
    ("ours", "published", "verdict"),
    [
        (Figure(7.3, 0.05, 80), Figure(7.34, 0.05, 80), Reproduction.REPRODUCED),
        (Figure(5.0, 0.1, 80), Figure(7.34, 0.1, 80), Reproduction.NOT_REPRODUCED),
        (Figure(9.9, 0.1, 80), Figure(7.34, 0.1, 80), Reproduction.NOT_REPRODUCED),
        (Figure(7.2, 0.2, 80), Figure(7.34, 0.2, 80), Reproduction.CANT_TELL),
        (Figure(7.0, 0.1, 80), Figure(7.34, 0.1, 80), Reproduction.CANT_TELL),  # differs, but by more than 0.3?
        (Figure(None), Figure(7.34), Reproduction.CANT_TELL),
        (Figure(7.3), Figure(7.34, 0.1), Reproduction.CANT_TELL),
    ],
)
def test_three_verdicts(ours: Figure, published: Figure, verdict: Reproduction) -> None:
    assert equivalence(ours, published, margin=0.3).verdict is verdict


def test_a_figure_without_its_error_is_taken_to_have_ours() -> None:
    bare = equivalence(Figure(7.3, 0.1, 80), Figure(7.34), margin=0.3)
    told = equivalence(Figure(7.3, 0.1, 80), Figure(7.34, 0.1, 80), margin=0.3)
    assert bare.published_stderr_assumed
    assert not told.published_stderr_assumed
    assert (bare.low, bare.high, bare.verdict) == (told.low, told.high, told.verdict)


def test_power_is_how_often_a_true_copy_is_told() -> None:
    rng, runs = np.random.default_rng(1), 4000
    found = equivalence(Figure(7.0, 0.1, 400), Figure(7.0, 0.08, 400), margin=0.35)
    told = 0
    for ours, theirs in zip(rng.normal(7, 0.1, runs), rng.normal(7, 0.08, runs), strict=True):
        copy = equivalence(Figure(ours, 0.1, 400), Figure(theirs, 0.08, 400), margin=0.35)
        told += copy.verdict is Reproduction.REPRODUCED
    assert found.power == pytest.approx(told / runs, abs=0.03)


def test_no_error_at_all_and_no_margin() -> None:
    assert equivalence(Figure(5.0, 0.0), Figure(5.1, 0.0), margin=0.2).verdict is Reproduction.REPRODUCED
    assert equivalence(Figure(5.0, 0.0), Figure(5.3, 0.0), margin=0.2).verdict is Reproduction.NOT_REPRODUCED
    with pytest.raises(ValueError, match="more than 0"):
        equivalence(Figure(5.0, 0.1), Figure(5.1, 0.1), margin=0.0)
