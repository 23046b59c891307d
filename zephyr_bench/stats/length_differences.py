"""Length differences by their standard deviation, as AlpacaEval 2 takes them.

In: characters. Out: numbers about as large as 1, or the reason why there are none. Knows no preference.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def standard_differences(differences: NDArray[np.float64]) -> NDArray[np.float64] | str:
    """(n,) by the deviation over n - 1, and not centred: 0 stays 0, equal length. alpaca_eval 0.6.6, glm_winrate.py.

    Differences that are 0 throughout stay so, though their deviation is 0. The reason is returned where there is but
    one, or where all are the same and not 0.
    """
    if len(differences) < 2:
        return "a single instruction has no spread of lengths"
    if not differences.any():
        return differences
    if np.ptp(differences) == 0:
        return "all length differences are the same, so what they do can't be told from what the model does"
    return np.asarray(differences / differences.std(ddof=1))
