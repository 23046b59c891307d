"""Length-controlled win rate: AlpacaEval 2's own number, fit for fit.

In: a model's preferences in [0, 1], how much longer the baseline's answers are, the published calibration. Out: the win
rate that would have been, had the answers been of equal length, in per cent. Knows no judge and no file. Dubois et al.
2024, arXiv 2404.04475, section 3; alpaca_eval 0.6.6, metrics/glm_winrate.py, "length_controlled_v1".

Imports scikit-learn, which takes a second: import this module where the number is wanted, not before.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
import sklearn  # type: ignore[import-untyped]
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegressionCV  # type: ignore[import-untyped]
from sklearn.model_selection import PredefinedSplit  # type: ignore[import-untyped]

from zephyr_bench.stats.gamed_rows import GamedRows
from zephyr_bench.stats.length_differences import standard_differences
from zephyr_bench.stats.means import as_finite
from zephyr_bench.stats.win_rates import as_preferences

FOLDS = 5
GAMED_WEIGHT = 0.1  # of a gamed row, where the model's rows weigh 1: lambda = 0.2, shared by two gamed baselines
SEED = 123

Floats = NDArray[np.float64]


class Weights(NamedTuple):
    """Of the logit, a term each."""

    length: float  # times tanh(length difference by its standard deviation), baseline - model
    difficulty: float  # times the instruction's difficulty
    model: float  # times 1


@dataclass(frozen=True, eq=False)
class LengthControlled:
    """None throughout where the data can't tell, with the reason."""

    win_rate_percent: float | None
    stderr_percent: float | None
    preferences: Floats | None = None  # (n,), predicted at no length difference, of missing ones too
    weights: Weights | None = None
    reason: str | None = None


def length_controlled(
    preferences: Sequence[float | None] | Floats,
    length_differences: Sequence[float] | Floats,
    *,
    difficulties: Sequence[float] | Floats,
    gamed: GamedRows,
) -> LengthControlled:
    """AlpacaEval 2's length-controlled win rate of a model, and its standard error.

        P(model preferred) = logistic(w_length tanh(d / std(d)) + w_difficulty difficulty + w_model)

    d is the length difference, baseline - model in characters, its deviation over n - 1. The weights are fitted to the
    model's rows and, at a tenth of the weight, to the gamed rows (with w_model = 0), so that answers made short don't
    earn a better rate. Predicted with d = 0, the mean over instructions is the rate, and s / sqrt(n) its error: that
    of the instructions, the weights taken as known.

    `preferences`, `length_differences`, `difficulties`: (n,), an instruction each. A missing preference (None or NaN)
    is left out of the fit, but its instruction is predicted all the same, and its lengths take part in the deviation.

    Where all differences are 0 they are taken as 0 also by their deviation; alpaca_eval divides 0 by 0 and breaks off.
    There is no value, but a reason, where
    - no preference is known: alpaca_eval gives a number, of the gamed rows alone;
    - there is one instruction, so no deviation: alpaca_eval breaks off;
    - all differences are the same but not 0: alpaca_eval divides by 0 and gives a number for tanh of infinity;
    - fewer rows than folds, or a fold without one of the two outcomes to learn from; neither with the published file.
    The baseline against itself, 50 by definition in alpaca_eval, is the caller's to know.
    """
    preference, difference, difficulty = (
        as_preferences(preferences),
        as_finite(list(length_differences)),
        as_finite(list(difficulties)),
    )
    if not len(preference) == len(difference) == len(difficulty):
        raise ValueError(f"{len(preference)} preferences, {len(difference)} lengths, {len(difficulty)} difficulties")
    standardised = standard_differences(difference)
    if np.isnan(preference).all():
        return _no_value("no preference is known")
    if isinstance(standardised, str):
        return _no_value(standardised)

    ours = np.stack([np.tanh(standardised), difficulty, np.ones(len(preference))], axis=1)
    theirs = [np.tanh(gamed.std_delta_len), gamed.instruction_difficulty, np.zeros(len(gamed.preferences))]
    outcome = np.concatenate([gamed.preferences, preference])  # (rows,)
    features = np.concatenate([np.stack(theirs, axis=1), ours])  # (rows, 3)
    importance = np.repeat([GAMED_WEIGHT, 1.0], [len(gamed.preferences), len(preference)])  # (rows,)
    known = ~np.isnan(outcome)
    weights = _fitted(features[known], outcome[known], importance[known])
    if isinstance(weights, str):
        return _no_value(weights)

    predicted = expit(weights.difficulty * difficulty + weights.model)  # (n,)
    stderr = predicted.std(ddof=1) / math.sqrt(len(predicted))
    return LengthControlled(float(100 * predicted.mean()), float(100 * stderr), predicted, weights)


def _fitted(features: Floats, outcomes: Floats, importance: Floats) -> Weights | str:
    """Weights by alpaca_eval's `fit_LogisticRegressionCV`: L1, its strength by cross-validation; or the reason why not.

    liblinear stops early (tol 1e-4), up to 3e-3 percentage points from the optimum, so these must be the very fits: the
    rows once as wins, then once as losses, weighted by the outcome and its complement; the ten strengths; the seed.
    """
    rows = len(outcomes)
    if rows < FOLDS:
        return f"{rows} rows, of the gamed baselines and the model, are fewer than the {FOLDS} folds"
    fold = np.arange(rows - 1, -1, -1) % FOLDS  # what GroupKFold gives groups of equal size: dealt from the last one on
    per_fold = np.stack([np.bincount(fold, importance * share, FOLDS) for share in (outcomes, 1 - outcomes)])
    if (per_fold.sum(axis=1, keepdims=True) - per_fold <= 0).any():
        return "without one fold's rows nothing but wins, or nothing but losses, is left to learn from"
    twice = np.concatenate([features, features])  # (2 rows, 3)
    won = np.repeat([1.0, 0.0], rows)
    weights = np.concatenate([outcomes * importance, (1 - outcomes) * importance])
    # metadata routing is off by default, but alpaca_eval turns it on for the whole process
    with (
        _LIBLINEAR,
        sklearn.config_context(assume_finite=True, skip_parameter_validation=True, enable_metadata_routing=False),
    ):
        model = LogisticRegressionCV(
            Cs=10,  # 1e-4 to 1e4
            cv=PredefinedSplit(np.concatenate([fold, fold])),
            scoring=_log_likelihood,
            solver="liblinear",
            fit_intercept=False,
            random_state=SEED,
            **_L1,
        ).fit(twice, won, weights)
    return Weights(*np.ravel(model.coef_).tolist())


def _log_likelihood(model: Any, features: Floats, won: Floats, sample_weight: Floats) -> float:
    """Of the rows held out, weighted: half of alpaca_eval's `logloss_continuous`, the other way up.

    There each copy of a row bears both outcomes; here a copy bears its own, its share already in its weight.
    """
    probability = np.clip(expit(features @ np.ravel(model.coef_)), 1e-15, 1 - 1e-15)
    return float(sample_weight @ np.log(np.where(won > 0, probability, 1 - probability))) / len(won)


def _no_value(reason: str) -> LengthControlled:
    return LengthControlled(None, None, reason=reason)


_LIBLINEAR = threading.Lock()  # its random numbers are the process's: with two threads at once, weights vary in the run

# scikit-learn 1.8 renamed how L1 is asked for, and warns of attributes that it will drop unless told
_L1: dict[str, Any] = (
    {"l1_ratios": (1.0,), "use_legacy_attributes": False}
    if "use_legacy_attributes" in signature(LogisticRegressionCV).parameters
    else {"penalty": "l1"}
)
