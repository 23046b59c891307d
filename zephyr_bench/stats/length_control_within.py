"""Length-controlled win rates where no published instruction difficulties exist: estimated from the models themselves.

In: preferences of several models against one baseline by one judge, and length differences. Out: each model's win rate
in per cent, had its answers been as long as the baseline's. Not AlpacaEval 2's number; see `length_controlled_within`.
The form of the model is that of Dubois et al. 2024, arXiv 2404.04475, section 3. Knows no judge and no file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from zephyr_bench.stats.length_differences import standard_differences
from zephyr_bench.stats.win_rates import as_preferences

Floats = NDArray[np.float64]

MODEL_SPREAD = 10.0  # logits; a prior that binds only where a model wins or loses throughout
LENGTH_SPREAD = 2.5  # of what length does with this judge, in logits; as wide
LENGTH_DIFFERS = 0.5  # of a model's length weight about the judge's, in logits
WIDEST = 5.0  # of the difficulties' deviations looked for, in logits
MOST_STEPS = 50  # Newton's; ten do
LOGISTIC_NORMAL = (16 * math.sqrt(3) / (15 * math.pi)) ** 2  # E logistic(a + s z) = logistic(a / sqrt(1 + this s^2))


@dataclass(frozen=True)
class WithinRate:
    """A model's. None throughout where the data can't tell, with the reason."""

    win_rate_percent: float | None
    stderr_percent: float | None
    length_weight: float | None = None  # logits for tanh of a standardised difference, baseline - model
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class WithinRates:
    rates: tuple[WithinRate, ...]  # in the models' order
    difficulties: Floats  # (instructions,), in logits; the higher, the better all models do
    difficulty_spread: float  # their standard deviation before shrinking; 0 for a single model


@dataclass(frozen=True, eq=False)
class _Fit:
    weights: Floats  # (models, 2): of the model itself, of tanh(length)
    difficulties: Floats  # (instructions,)
    spread: float


def length_controlled_within(preferences: Floats, length_differences: Floats) -> WithinRates:
    """Length-controlled win rates of models by what they have in common.

        P(model m preferred on i) = logistic(w_m + v_m tanh(d_mi / std(d_m)) + difficulty_i),  difficulty ~ N(0, s^2)

    `preferences`: (models, instructions) in [0, 1], NaN for a missing one. `length_differences`: as many, baseline -
    model in characters; NaN only where there is no preference. s is what the models' preferences on the same
    instruction have in common, whatever noise each has of its own; then w, v and difficulties are the most likely
    together. The rate is the mean of logistic(w_m + difficulty_i) over all instructions. Its error is the sandwich
    estimator over instructions: which were drawn, and what the weights owe to them; s and the differences' deviations
    are taken as known.

    How this isn't AlpacaEval 2's length-controlled rate (`length_control`):
    - difficulties come from these models, so a rate moves a little with the company; there they are published;
    - difficulty counts alike for each model; there each model has a weight for it;
    - what length does is taken to be much the same for all models, as it is the judge's doing: v_m lies about half a
      logit from a common value, unless the data say otherwise; there gamed baselines hold it, lest brevity be paid for;
    - w isn't shrunk, so without an effect of length the rate is the plain one, but for a prior that moves it by less
      than 0.01 points on AlpacaEval's 805 instructions; there L1 shrinks all weights;
    - the error has the weights' own uncertainty in it, and so is larger.
    With a single model nothing is in common, and difficulties are 0: a logistic regression on length alone, in the form
    of alpaca_eval 0.6.6's "length_controlled_minimal" (metrics/glm_winrate.py), but for its L1.
    """
    preference = as_preferences(preferences)
    difference = np.asarray(length_differences, dtype=np.float64)
    if preference.ndim != 2 or preference.shape != difference.shape:
        raise ValueError(f"preferences {preference.shape} and lengths {difference.shape}; expected (models, n) twice")
    if np.isinf(difference).any() or np.isnan(difference[~np.isnan(preference)]).any():
        raise ValueError("a length difference is infinite, or NaN where there is a preference")
    standardised = [_standardised(row, lengths) for row, lengths in zip(preference, difference, strict=True)]
    told = [number for number, found in enumerate(standardised) if not isinstance(found, str)]
    n = preference.shape[1]
    if not told:
        return WithinRates(tuple(WithinRate(None, None, reason=str(why)) for why in standardised), np.zeros(n), 0.0)
    outcome = preference[told]  # (models told, instructions)
    tanh_length = np.stack([np.tanh(found) for found in standardised if not isinstance(found, str)])
    marginal = _fit(outcome, tanh_length, spread=0.0)
    fit = _fit(outcome, tanh_length, spread=_spread(outcome, _logits(marginal, tanh_length)))
    rates = dict(zip(told, _rates(outcome, tanh_length, fit), strict=True))
    return WithinRates(
        tuple(rates.get(number, WithinRate(None, None, reason=str(why))) for number, why in enumerate(standardised)),
        fit.difficulties,
        fit.spread,
    )


def _standardised(preference: Floats, difference: Floats) -> Floats | str:
    """A model's length differences (instructions,), 0 where unknown; or why it has no rate."""
    if np.isnan(preference).all():
        return "no preference is known"
    known = ~np.isnan(difference)
    found = standard_differences(difference[known])
    if isinstance(found, str):
        return found
    standardised = np.zeros(len(difference))
    standardised[known] = found
    return standardised


def _fit(outcome: Floats, tanh_length: Floats, *, spread: float) -> _Fit:
    """The most likely weights and difficulties, by Newton's method. `outcome`, `tanh_length`: (models, instructions).

    Difficulties are spread * u with u ~ N(0, 1), so that a spread of 0 is no special case. Each u's curvature is its
    own, so only a system as large as the weights is solved. The objective is strictly concave; steps halve if need be.
    """
    models, n = outcome.shape
    known = ~np.isnan(outcome)
    features = np.stack([np.ones_like(tanh_length), tanh_length], axis=2)  # (models, n, 2)
    precision = _precision(models)
    weights, u = np.zeros((models, 2)), np.zeros(n)

    def objective(weights: Floats, u: Floats) -> float:
        logits = _logits(_Fit(weights, spread * u, spread), tanh_length)
        likelihood = np.where(known, outcome * logits - np.logaddexp(0, logits), 0).sum()
        return float(likelihood - (u @ u + weights.ravel() @ precision @ weights.ravel()) / 2)

    best = objective(weights, u)
    for _ in range(MOST_STEPS):
        here = _slopes(outcome, features, _Fit(weights, spread * u, spread))
        towards_weights = here.scores.sum(axis=0) - precision @ weights.ravel()  # (2 models,)
        towards_u = spread * here.residuals.sum(axis=0) - u  # (n,)
        step = np.linalg.solve(here.curvature, towards_weights - here.coupling.T @ (towards_u / here.u_curvature))
        u_step = (towards_u - here.coupling @ step) / here.u_curvature
        gain = float(towards_weights @ step + towards_u @ u_step)  # twice what the step should bring
        size = 1.0
        while (found := objective(weights + size * step.reshape(models, 2), u + size * u_step)) < best and size > 1e-6:
            size /= 2
        weights, u, best = weights + size * step.reshape(models, 2), u + size * u_step, found
        if gain < 1e-12:
            break
    return _Fit(weights, spread * u, spread)


@dataclass(frozen=True, eq=False)
class _Slopes:
    """Of the log-posterior at a fit, negated where of second order. (2 models,): weights, model by model."""

    residuals: Floats  # (models, n), 0 where unknown
    scores: Floats  # (n, 2 models), first order, of each instruction's likelihood
    coupling: Floats  # (n, 2 models), of u with the weights
    u_curvature: Floats  # (n,)
    curvature: Floats  # (2 models, 2 models), of the weights, each u at its best


def _slopes(outcome: Floats, features: Floats, fit: _Fit) -> _Slopes:
    models, n = outcome.shape
    known = ~np.isnan(outcome)
    chance = expit(_logits(fit, features[:, :, 1]))  # (models, n)
    residuals = np.where(known, outcome - chance, 0)
    variance = np.where(known, chance * (1 - chance), 0)
    scores = np.swapaxes(residuals[:, :, None] * features, 0, 1).reshape(n, 2 * models)
    coupling = np.swapaxes(fit.spread * variance[:, :, None] * features, 0, 1).reshape(n, 2 * models)
    u_curvature = 1 + fit.spread**2 * variance.sum(axis=0)
    curvature = _precision(models) - coupling.T @ (coupling / u_curvature[:, None])
    blocks = np.einsum("mi,mij,mik->mjk", variance, features, features)  # (models, 2, 2)
    for model, block in enumerate(blocks):
        curvature[2 * model : 2 * model + 2, 2 * model : 2 * model + 2] += block
    return _Slopes(residuals, scores, coupling, u_curvature, curvature)


def _precision(models: int) -> Floats:
    """(2 models, 2 models), of the weights' prior. Length weights have a common value, the models' own have not."""
    precision = np.zeros((2 * models, 2 * models))
    precision[::2, ::2] = np.eye(models) / MODEL_SPREAD**2
    precision[1::2, 1::2] = np.linalg.inv(LENGTH_DIFFERS**2 * np.eye(models) + LENGTH_SPREAD**2)
    return precision


def _rates(outcome: Floats, tanh_length: Floats, fit: _Fit) -> list[WithinRate]:
    """At no length difference. Errors from each instruction's influence: on its own term, and by way of the weights."""
    models, n = outcome.shape
    features = np.stack([np.ones_like(tanh_length), tanh_length], axis=2)
    here = _slopes(outcome, features, fit)
    chance = expit(fit.weights[:, :1] + fit.difficulties)  # (models, n)
    rate = chance.mean(axis=1)  # (models,)
    slope = chance * (1 - chance)
    by_weights = -fit.spread * slope @ (here.coupling / here.u_curvature[:, None]) / n  # (models, 2 models)
    by_weights[np.arange(models), 2 * np.arange(models)] += slope.mean(axis=1)
    moved = np.linalg.solve(here.curvature, here.scores.T)  # (2 models, n), of the weights by an instruction
    influence = (chance - rate[:, None]) / n + by_weights @ moved  # (models, n)
    counts = np.sum(~np.isnan(outcome), axis=1).tolist()
    return [
        WithinRate(
            float(100 * rate[model]),
            100 * math.sqrt(count / (count - 1) * float(influence[model] @ influence[model])) if count > 1 else None,
            float(fit.weights[model, 1]),
        )
        for model, count in enumerate(counts)
    ]


def _spread(outcome: Floats, logits: Floats) -> float:
    """Standard deviation of the difficulties, in logits, from what models' residuals on an instruction have in common.

    `logits`: (models, n), of the chances without difficulties. Sought is the spread at which the products of two
    models' residuals, summed over all pairs and instructions, are as large as found. A model's own noise has no part in
    it, so it may be of any size: preferences between 0 and 1 have less than wins and losses. 0 for a single model.
    """
    known = ~np.isnan(outcome)
    chance = expit(logits)

    def products(residuals: Floats) -> float:
        kept = np.where(known, residuals, 0)
        return float((kept.sum(axis=0) ** 2).sum() - (kept**2).sum())

    found = products(outcome - chance)
    if found <= 0:
        return 0.0
    nodes, masses = np.polynomial.hermite_e.hermegauss(15)

    def excess(spread: float) -> float:
        wider = logits * math.sqrt(1 + LOGISTIC_NORMAL * spread**2)  # given the difficulty, chances are more extreme
        return (
            sum(
                mass * products(expit(wider + spread * node) - chance) for node, mass in zip(nodes, masses, strict=True)
            )
            / float(masses.sum())
            - found
        )

    return float(brentq(excess, 0.0, WIDEST, xtol=1e-6)) if excess(WIDEST) > 0 else WIDEST


def _logits(fit: _Fit, tanh_length: Floats) -> Floats:
    return np.asarray(fit.weights[:, :1] + fit.weights[:, 1:] * tanh_length + fit.difficulties)  # (models, n)
