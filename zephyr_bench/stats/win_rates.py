"""Win rates of a model against a baseline, from preferences: AlpacaEval's plain and discrete rates.

In: a preference per instruction, from 0 (the baseline's answer) to 1 (the model's), None or NaN for a missing one. Out:
rates and their errors in per cent. Knows no judge and no file. The figures are those of alpaca_eval 0.6.6,
metrics/winrate.py and metrics/helpers.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zephyr_bench.stats.means import mean_stderr


@dataclass(frozen=True)
class HeadToHead:
    """None where the preferences can't tell: a rate of none, or the error of one."""

    win_rate_percent: float | None  # mean preference
    stderr_percent: float | None
    discrete_win_rate_percent: float | None  # each preference first turned into a win, a loss or half a win
    discrete_stderr_percent: float | None
    wins: int  # above 0.5
    losses: int  # below
    draws: int  # 0.5 itself
    n: int  # preferences that count: wins + losses + draws


def preference_of(value: float | None) -> float | None:
    """A file's preference (1 the baseline's, 2 the model's, between them how sure) in [0, 1]; None where it is none.

    An old file's 0 is a draw, as 1.5 is. None, NaN and what lies outside [1, 2] is no preference. alpaca_eval 0.6.6
    (metrics/helpers.py) leaves these out as well, with one exception: its discrete rate rounds before it looks, so
    that 2.4 is a win and 0.6 a loss there, and the plain rate knows neither. Here they are missing from both.
    """
    if value is None:
        return None
    if value == 0:
        return 0.5
    return float(value) - 1 if 1 <= value <= 2 else None


def head_to_head(preferences: Sequence[float | None]) -> HeadToHead:
    """Rates over the preferences that are there; errors as in `mean_stderr`.

    AlpacaEval's plain rate takes a judge's sureness for what it is, its discrete rate only who won.
    """
    array = as_preferences(preferences)
    known = array[~np.isnan(array)]
    decided = (np.sign(known - 0.5) + 1) / 2  # 0, 0.5 or 1
    (rate, stderr), (discrete, discrete_stderr) = (mean_stderr((100 * values).tolist()) for values in (known, decided))
    wins, losses = int(np.sum(known > 0.5)), int(np.sum(known < 0.5))
    return HeadToHead(rate, stderr, discrete, discrete_stderr, wins, losses, len(known) - wins - losses, len(known))


def as_preferences(values: Sequence[float | None] | NDArray[np.float64]) -> NDArray[np.float64]:
    """The values as an array, NaN for a missing one. Raises ValueError for a value outside [0, 1]."""
    if not isinstance(values, np.ndarray):
        values = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    array = np.asarray(values, dtype=np.float64)
    outside = array[(array < 0) | (array > 1)]
    if outside.size:
        raise ValueError(f"a preference of {outside.flat[0]:g}; expected 0 (the baseline's answer) to 1 (the model's)")
    return array
