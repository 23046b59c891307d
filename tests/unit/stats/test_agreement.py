"""Agreement against scikit-learn, scipy and Krippendorff's worked example, and where there is nothing to agree on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from zephyr_bench.stats.agreement import Metric, cohen_kappa, krippendorff_alpha, spearman, spearman_within

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: 4 observers, 12 units, . is missing
OBSERVERS = ("1233214 12...", "12332241 25.3", ".33323422 51.", "12332441 251.")
LABELS = st.sampled_from(["A", "B", "tie"])
GRADES = st.integers(1, 10).map(float)


def units(observers: Sequence[str]) -> list[list[float | None]]:
    rows = [row.replace(" ", "") for row in observers]
    return [[None if value == "." else float(value) for value in unit] for unit in zip(*rows, strict=True)]


@settings(deadline=None)
@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=40))
def test_kappa_is_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    assume(len({label for pair in pairs for label in pair}) > 1)
    expected = cohen_kappa_score([one for one, _ in pairs], [other for _, other in pairs])
    assert cohen_kappa(pairs) == pytest.approx(expected, abs=1e-12)


def test_kappa_of_one_label_throughout_is_not_known() -> None:
    assert cohen_kappa([]) is None
    assert cohen_kappa([("A", "A")] * 5) is None
    assert cohen_kappa([("A", "B")] * 5) == 0, "they vary from each other: all by chance, none agreed"


@pytest.mark.parametrize(("metric", "alpha"), [("nominal", 0.743), ("interval", 0.849)])
def test_alpha_of_krippendorffs_example(metric: Metric, alpha: float) -> None:
    assert krippendorff_alpha(units(OBSERVERS), metric=metric) == pytest.approx(alpha, abs=5e-4)


@pytest.mark.parametrize("metric", ["nominal", "interval"])
@given(given_units=st.lists(st.lists(st.none() | GRADES, max_size=4), max_size=12))
def test_alpha_is_its_definition_over_all_pairs(metric: Metric, given_units: list[list[float | None]]) -> None:
    known = [[value for value in unit if value is not None] for unit in given_units]
    paired = [unit for unit in known if len(unit) > 1]
    values = [value for unit in paired for value in unit]

    def apart(one: float, other: float) -> float:
        return (one - other) ** 2 if metric == "interval" else float(one != other)

    n = len(values)
    by_chance = sum(apart(*pair) for pair in itertools.permutations(values, 2)) / (n * (n - 1)) if n else 0
    found = krippendorff_alpha(given_units, metric=metric)
    if by_chance == 0:
        assert found is None
        return
    observed = sum(sum(apart(*p) for p in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in paired) / n
    assert found == pytest.approx(1 - observed / by_chance, abs=1e-9)


def test_alpha_without_variation_or_second_values_is_not_known() -> None:
    assert krippendorff_alpha([], metric="nominal") is None
    assert krippendorff_alpha([[5.0, 5.0], [5.0, 5.0]], metric="interval") is None
    assert krippendorff_alpha([[1.0], [2.0, None]], metric="interval") is None, "nothing was judged twice"
    assert krippendorff_alpha([[0.1, 0.1], [0.1, 0.1, 0.1]], metric="interval") is None, "no spread of rounding errors"


@settings(deadline=None)
@given(st.lists(st.tuples(GRADES, GRADES), min_size=2, max_size=30))
def test_spearman_is_scipys(pairs: list[tuple[float, float]]) -> None:
    one, other = [a for a, _ in pairs], [b for _, b in pairs]
    if len(set(one)) < 2 or len(set(other)) < 2:
        assert spearman(one, other) is None
    else:
        assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)


def test_spearman_within_groups_sees_no_difference_between_them() -> None:
    """Longer answers are better ones to either question, and the hard one has longer answers and lower grades."""
    hard, easy = [(900.0, 3.0), (800.0, 2.0)], [(100.0, 10.0), (90.0, 9.0), (80.0, 8.0)]
    together = [*hard, *easy]
    assert (spearman([a for a, _ in together], [b for _, b in together]) or 0) < 0
    assert spearman_within([hard, easy]) == (pytest.approx(1), 2)
    falling, level = [(1.0, 6.0), (2.0, 5.0)], [(1.0, 5.0), (2.0, 5.0)]
    assert spearman_within([hard, easy, falling, level]) == (pytest.approx(1 / 3), 3), "equal grades tell nothing"
    assert spearman_within([[(1.0, 2.0)]]) == (None, 0)
