"""The quick distribution functions say what scipy.stats says."""

from __future__ import annotations

import subprocess
import sys

import pytest
from scipy import stats

from zephyr_bench.stats import distributions as d

DEGREES = (1, 2, 7.3, 79, 9999, 1e5)


@pytest.mark.parametrize("degrees", DEGREES)
def test_students_t(degrees: float) -> None:
    for x in (-40.0, -2.0, 0.0, 0.3, 8.0):
        assert d.t_cdf(x, degrees) == pytest.approx(stats.t.cdf(x, degrees), rel=1e-12, abs=1e-300)
    for p in (0.001, 0.5, 0.975):
        assert d.t_quantile(p, degrees) == pytest.approx(stats.t.ppf(p, degrees), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("degrees", DEGREES)
def test_the_noncentral_t(degrees: float) -> None:
    for distance in (0.0, 0.5, 2.8, 8.0, 12.0, 30.0, 35.75, 37.6, 50.0, 128.0, 1e5):
        for x in (-30.0, -1.96, 0.0, 0.3, 2.0, 12.706, 40.0):
            expected = stats.nct.sf(x, degrees, distance)
            assert d.noncentral_t_above(x, degrees, distance) == pytest.approx(expected, rel=1e-11, abs=1e-11)


def test_the_normal_distribution() -> None:
    for x in (float("-inf"), -9.0, 0.0, 1.96, float("inf")):
        assert d.normal_cdf(x) == pytest.approx(stats.norm.cdf(x), rel=1e-12)
    for p in (0.001, 0.5, 0.975):
        assert d.normal_quantile(p) == pytest.approx(stats.norm.ppf(p), rel=1e-12, abs=1e-12)


def test_coins() -> None:
    for trials in (0, 1, 6, 1000):
        for count in {0, trials // 2, trials}:
            assert d.half_binomial_cdf(count, trials) == pytest.approx(stats.binom.cdf(count, trials, 0.5), rel=1e-12)


def test_reports_start_without_scipys_statistics() -> None:
    """Half a second of the two that `leaderboard` and `compare` may take."""
    loaded = "import zephyr_bench.reports.compare, zephyr_bench.reports.leaderboard"
    code = f"import sys; {loaded}; print('scipy.stats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
