"""Holm's correction: of many tests, the chance of even one false alarm stays at the level of one.

In: p-values of any tests, dependent or not. Out: adjusted ones, to be read against the level as they stand.
"""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm 1979, Scandinavian Journal of Statistics 6, 65-70. A test that can't tell (None) counts as one more test."""
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        adjusted[place] = largest
    return adjusted
