"""Rates without published difficulties, on made-up worlds whose rates without length are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from zephyr_bench.stats.length_control_within import WithinRates, length_controlled_within

Floats = NDArray[np.float64]


def world(
    seed: int, *, models: int = 6, n: int = 400, bias: float = 1.0, spread: float = 1.0
) -> tuple[Floats, Floats, Floats]:
    """Preferences and length differences, (models, n); and the rates in per cent had lengths been equal, (models,)."""
    rng = np.random.default_rng(seed)
    quality, taste = rng.normal(-0.5, 1, (models, 1)), rng.normal(0, 1, (models, 1))
    difficulty = rng.normal(0, spread, n)
    lengths = 400 * (taste + rng.normal(0, 1, (models, n)))
    pull = np.tanh(lengths / lengths.std(axis=1, ddof=1, keepdims=True))
    preferences = (rng.random((models, n)) < expit(quality + difficulty - bias * pull)).astype(float)
    return preferences, lengths, 100 * expit(quality + difficulty).mean(axis=1)


def rates(found: WithinRates) -> Floats:
    return np.array([rate.win_rate_percent for rate in found.rates], dtype=np.float64)


def errors(found: WithinRates) -> Floats:
    return np.array([rate.stderr_percent for rate in found.rates], dtype=np.float64)


def root_mean_square(values: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize("models", [2, 6, 20])
@pytest.mark.parametrize("spread", [0.0, 1.0, 2.0])
def test_a_known_length_bias_is_taken_out(models: int, spread: float) -> None:
    ours, plain = list[Floats](), list[Floats]()
    for seed in range(6):
        preferences, lengths, truth = world(seed, models=models, spread=spread)
        ours.append(rates(length_controlled_within(preferences, lengths)) - truth)
        plain.append(100 * preferences.mean(axis=1) - truth)
    assert root_mean_square(np.concatenate(ours)) < 0.6 * root_mean_square(np.concatenate(plain))


def test_one_model_alone_is_corrected_too_and_has_no_difficulties() -> None:
    worlds = [world(seed, models=1, n=800, bias=1.5) for seed in range(12)]
    found = [length_controlled_within(preferences, lengths) for preferences, lengths, _ in worlds]
    assert all(one.difficulty_spread == 0 and not one.difficulties.any() for one in found)
    ours = np.array([rates(one)[0] - truth[0] for one, (_, _, truth) in zip(found, worlds, strict=True)])
    plain = np.array([100 * preferences.mean() - truth[0] for preferences, _, truth in worlds])
    assert root_mean_square(ours) < 0.7 * root_mean_square(plain)


def test_one_model_alone_is_a_logistic_regression_on_length() -> None:
    """Of the form of alpaca_eval's length_controlled_minimal, at almost no penalty."""
    from sklearn.linear_model import LogisticRegression

    preferences, lengths, _ = world(5, models=1, n=2000)
    pull = np.tanh(lengths[0] / lengths[0].std(ddof=1))
    peer = LogisticRegression(C=1e6).fit(pull[:, None], preferences[0])
    found = length_controlled_within(preferences, lengths)
    assert found.rates[0].win_rate_percent == pytest.approx(100 * expit(peer.intercept_[0]), abs=0.05)
    assert found.rates[0].length_weight == pytest.approx(peer.coef_[0, 0], abs=0.01)


def test_the_errors_say_how_far_off_the_rates_are() -> None:
    off = list[Floats]()
    for seed in range(25):
        preferences, lengths, truth = world(seed)
        found = length_controlled_within(preferences, lengths)
        off.append((rates(found) - truth) / errors(found))
    assert 0.8 < np.std(np.concatenate(off)) < 1.2


def test_without_an_effect_of_length_the_rate_and_its_error_are_the_plain_ones() -> None:
    preferences, _, _ = world(1, models=8, n=805, bias=0)
    found = length_controlled_within(preferences, np.zeros_like(preferences))
    np.testing.assert_allclose(rates(found), 100 * preferences.mean(axis=1), atol=0.01)
    plain = 100 * preferences.std(axis=1, ddof=1) / math.sqrt(805)
    np.testing.assert_allclose(errors(found), plain, rtol=0.1)


def test_a_model_as_good_as_the_baseline_has_about_50() -> None:
    """Its answers are as often longer as shorter, and the judge likes length."""
    rng = np.random.default_rng(2)
    lengths = rng.normal(0, 300, (3, 805))
    preferences = expit(-1.2 * np.tanh(lengths / 300) + rng.normal(0, 0.5, (3, 805)))
    found = length_controlled_within(preferences, lengths)
    assert (abs(rates(found) - 50) < 2.5 * errors(found)).all()
    assert (errors(found) < 2).all()


def test_another_model_changes_the_others_little() -> None:
    preferences, lengths, _ = world(3, models=8, n=805)
    without = length_controlled_within(preferences[:-1], lengths[:-1])
    found = length_controlled_within(preferences, lengths)
    assert (abs(rates(found)[:-1] - rates(without)) < errors(without) / 2).all()


def test_models_and_instructions_may_stand_in_any_order() -> None:
    preferences, lengths, _ = world(4)
    rng = np.random.default_rng(0)
    rows, columns = rng.permutation(len(preferences)), rng.permutation(preferences.shape[1])
    found = length_controlled_within(preferences, lengths)
    mixed = length_controlled_within(preferences[rows][:, columns], lengths[rows][:, columns])
    np.testing.assert_allclose(rates(mixed), rates(found)[rows], atol=1e-6)
    np.testing.assert_allclose(errors(mixed), errors(found)[rows], atol=1e-6)
    np.testing.assert_allclose(mixed.difficulties, found.difficulties[columns], atol=1e-6)


def test_difficulties_are_found_again() -> None:
    rng = np.random.default_rng(9)
    difficulty = rng.normal(0, 1.5, 300)
    lengths = rng.normal(0, 400, (12, 300))
    preferences = (rng.random((12, 300)) < expit(difficulty - 0.4)).astype(float)
    found = length_controlled_within(preferences, lengths)
    assert found.difficulty_spread == pytest.approx(1.5, rel=0.15)
    assert np.corrcoef(found.difficulties, difficulty)[0, 1] > 0.85


def test_missing_preferences_are_left_out_not_lost() -> None:
    """Those of the hardest half: the model's plain rate rises by it, the one over all instructions hardly."""
    rng = np.random.default_rng(6)
    difficulty = np.sort(rng.normal(0, 2, 600))
    preferences = (rng.random((10, 600)) < expit(difficulty)).astype(float)
    lengths = rng.normal(0, 100, (10, 600))
    whole = length_controlled_within(preferences, lengths)
    preferences[0, :300] = math.nan
    found = length_controlled_within(preferences, lengths)
    assert np.nanmean(preferences[0]) > 0.7
    assert rates(found)[0] == pytest.approx(rates(whole)[0], abs=5)
    assert errors(found)[0] > errors(whole)[0]


def test_an_answer_that_is_missing_needs_no_length() -> None:
    preferences, lengths, _ = world(10, models=3)
    preferences[0, :40] = lengths[0, :40] = math.nan
    found = length_controlled_within(preferences, lengths)
    assert all(rate.reason is None for rate in found.rates)
    assert np.isfinite(rates(found)).all()


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_a_model_that_always_loses_or_wins_is_finite(outcome: float) -> None:
    preferences, lengths, _ = world(8, models=3)
    preferences[1] = outcome
    found = length_controlled_within(preferences, lengths)
    assert rates(found)[1] == pytest.approx(100 * outcome, abs=0.5)
    assert np.isfinite(errors(found)).all()


def test_a_model_that_wins_by_length_alone_is_finite() -> None:
    lengths = np.array([[-3.0, -2, -1, 1, 2, 3]])
    found = length_controlled_within((lengths < 0).astype(float), lengths)
    assert rates(found)[0] == pytest.approx(50)
    assert np.isfinite(errors(found)).all()


def test_a_model_the_data_cannot_tell_about_has_a_reason_and_the_others_their_rates() -> None:
    preferences, lengths, _ = world(7, models=3)
    alone = length_controlled_within(preferences, lengths)
    more = length_controlled_within(
        np.vstack([np.full((1, 400), math.nan), preferences, preferences[:1]]),
        np.vstack([lengths[:1], lengths, np.full((1, 400), 9.0)]),
    )
    assert [rate.reason is None for rate in more.rates] == [False, True, True, True, False]
    assert "no preference" in str(more.rates[0].reason)
    assert "all length differences are the same" in str(more.rates[-1].reason)
    np.testing.assert_array_equal(rates(more)[1:-1], rates(alone))


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0), (2, 1), (3, 4)])
def test_no_data_give_no_rates(shape: tuple[int, int]) -> None:
    found = length_controlled_within(np.full(shape, math.nan), np.zeros(shape))
    assert len(found.rates) == shape[0]
    assert all(rate.win_rate_percent is None and rate.reason for rate in found.rates)
    assert found.difficulties.shape == (shape[1],)


def test_one_preference_has_a_rate_and_no_error() -> None:
    found = length_controlled_within(np.array([[0.5, math.nan, math.nan]]), np.array([[1.0, 2.0, 4.0]]))
    assert found.rates[0].win_rate_percent is not None
    assert found.rates[0].stderr_percent is None


def test_shapes_must_match() -> None:
    with pytest.raises(ValueError, match="models, n"):
        length_controlled_within(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="models, n"):
        length_controlled_within(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="NaN"):
        length_controlled_within(np.zeros((1, 2)), np.array([[1.0, math.nan]]))
