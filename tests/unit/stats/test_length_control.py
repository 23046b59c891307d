"""AlpacaEval 2's length-controlled rate at its edges. The number: tests/parity/test_alpaca_eval_metrics.py."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from gamed_file import write_gamed_file

from zephyr_bench.stats.gamed_rows import GamedRows, read_gamed_rows
from zephyr_bench.stats.length_control import FOLDS, LengthControlled, length_controlled

RNG = np.random.default_rng(3)
LENGTHS = RNG.normal(100, 400, 60).round()


@pytest.fixture(scope="module")
def gamed(tmp_path_factory: pytest.TempPathFactory) -> GamedRows:
    path = write_gamed_file(tmp_path_factory.mktemp("gamed") / "df_gamed.csv", instructions=60)
    return read_gamed_rows(path.read_text(encoding="utf-8").splitlines(), name=path.name)


def controlled(preferences: object, lengths: object, gamed: GamedRows) -> LengthControlled:
    n = len(preferences)  # type: ignore[arg-type]
    return length_controlled(preferences, lengths, difficulties=gamed.difficulties[:n], gamed=gamed)  # type: ignore[arg-type]


def plain(found: LengthControlled) -> tuple[object, ...]:
    return found.win_rate_percent, found.stderr_percent, found.weights, found.reason


def test_the_rate_is_the_mean_of_what_is_predicted_at_equal_length(gamed: GamedRows) -> None:
    found = controlled(RNG.random(60), LENGTHS, gamed)
    assert found.preferences is not None
    assert found.weights is not None
    logits = found.weights.difficulty * gamed.difficulties + found.weights.model
    np.testing.assert_allclose(found.preferences, 1 / (1 + np.exp(-logits)))
    assert found.win_rate_percent == pytest.approx(100 * found.preferences.mean())
    assert found.stderr_percent == pytest.approx(100 * found.preferences.std(ddof=1) / math.sqrt(60))


def test_a_judge_that_likes_length_is_corrected_for(gamed: GamedRows) -> None:
    """The model's answers are longer, and preferred for that alone."""
    lengths = np.random.default_rng(0).normal(-400, 400, 60)
    preferences = 1 / (1 + np.exp(2 * np.tanh(lengths / lengths.std(ddof=1))))
    found = controlled(preferences, lengths, gamed)
    assert preferences.mean() > 0.7
    assert found.win_rate_percent is not None
    assert abs(found.win_rate_percent - 50) < 100 * (preferences.mean() - 0.5) / 2


def test_a_missing_preference_is_predicted(gamed: GamedRows) -> None:
    preferences = RNG.random(60).tolist()
    found = controlled([None, *preferences[1:-1], math.nan], LENGTHS, gamed)
    assert found.preferences is not None
    assert found.preferences.shape == (60,)
    assert not np.isnan(found.preferences).any()


@pytest.mark.parametrize(
    ("preferences", "lengths", "reason"),
    [
        ([], [], "no preference is known"),
        ([None, None, math.nan], [1, 2, 3], "no preference is known"),
        ([1.0], [5], "single instruction"),
        ([1.0, 0.0, 0.5], [7, 7, 7], "all length differences are the same"),
    ],
)
def test_where_the_data_cannot_tell_there_is_a_reason(
    preferences: list[float | None], lengths: list[float], reason: str, gamed: GamedRows
) -> None:
    found = controlled(preferences, lengths, gamed)
    assert (found.win_rate_percent, found.stderr_percent, found.preferences, found.weights) == (None,) * 4
    assert reason in str(found.reason)


def test_fewer_rows_than_folds_have_no_rate() -> None:
    few = GamedRows(np.array([0.2]), np.array([1.0]), np.array([0.5]), np.array([0.5]))
    found = length_controlled([1, 0, 0.5], [1, 2, 3], difficulties=[0, 1, 2], gamed=few)
    assert found.win_rate_percent is None
    assert f"4 rows, of the gamed baselines and the model, are fewer than the {FOLDS} folds" == found.reason


def test_losses_without_a_win_anywhere_have_no_rate() -> None:
    lost = GamedRows(np.zeros(9), np.arange(9.0), np.arange(9.0), np.arange(9.0))
    found = length_controlled(np.zeros(9), np.arange(9.0), difficulties=lost.difficulties, gamed=lost)
    assert found.win_rate_percent is None
    assert "nothing but losses" in str(found.reason)


@pytest.mark.parametrize("outcome", [0.0, 0.5, 1.0])
def test_a_model_that_always_fares_alike_has_a_rate(outcome: float, gamed: GamedRows) -> None:
    """The gamed baselines' rows hold both outcomes."""
    found = controlled(np.full(60, outcome), LENGTHS, gamed)
    assert found.reason is None
    assert found.win_rate_percent is not None
    assert {0.0: found.win_rate_percent < 10, 0.5: 40 < found.win_rate_percent < 60, 1.0: found.win_rate_percent > 90}[
        outcome
    ]


def test_answers_as_long_as_the_baselines_need_no_control(gamed: GamedRows) -> None:
    preferences = np.random.default_rng(1).random(60)
    found = controlled(preferences, np.zeros(60), gamed)
    assert found.win_rate_percent == pytest.approx(100 * preferences.mean(), abs=2)


def test_lengths_count_by_their_deviation(gamed: GamedRows) -> None:
    preferences = RNG.random(60)
    once, twice = (controlled(preferences, factor * LENGTHS, gamed) for factor in (1, 2))
    assert once.win_rate_percent == pytest.approx(twice.win_rate_percent)
    assert once.weights == pytest.approx(twice.weights)


def test_the_same_data_give_the_same_number_whatever_other_threads_fit(gamed: GamedRows) -> None:
    preferences = RNG.random(60)
    alone = plain(controlled(preferences, LENGTHS, gamed))
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda _: plain(controlled(preferences, LENGTHS, gamed)), range(12))
    assert set(found) == {alone}


def test_scikit_learn_warns_of_nothing(gamed: GamedRows) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        controlled(RNG.random(60), LENGTHS, gamed)


def test_what_cannot_be_is_refused(gamed: GamedRows) -> None:
    with pytest.raises(ValueError, match="expected 0"):
        controlled([0.5, 1.5], [1, 2], gamed)
    with pytest.raises(ValueError, match="NaN"):
        controlled([0.5, 1.0], [1, math.nan], gamed)
    with pytest.raises(ValueError, match="2 preferences, 3 lengths, 2 difficulties"):
        controlled([0.5, 1.0], [1, 2, 3], gamed)


def test_scikit_learn_is_loaded_only_where_the_number_is_wanted() -> None:
    code = (
        "import sys, zephyr_bench.cli, zephyr_bench.stats.gamed_rows, zephyr_bench.stats.win_rates\n"
        "sys.exit('sklearn' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
