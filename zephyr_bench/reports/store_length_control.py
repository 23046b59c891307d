"""Length-controlled win rates where nobody published difficulties: estimated from the table's own models.

In: standings of benchmarks of AlpacaEval's kind, the store with their samples. Out: the standings with one more metric.
It hangs on the company: another model in the table moves it a little, so it is made for a table and not kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from zephyr_bench.benchmarks.alpaca_scores import BASELINE_LENGTH, LENGTH, LENGTH_CONTROLLED, PREFERENCE
from zephyr_bench.records import Score
from zephyr_bench.reports.ranking import column_of
from zephyr_bench.reports.standings import Standing

if TYPE_CHECKING:
    from zephyr_bench.store import Store

METRIC = "store-lc-win-rate"
NOTE = (
    f"{METRIC}: length-controlled by difficulties estimated from this table's models; not AlpacaEval 2's lc-win-rate, "
    f"whose difficulties are published for its own judge and baseline"
)
_Values = Mapping[str, float | None]  # by instruction
_Facts = Mapping[str, tuple[float, float]]  # by instruction: preference (NaN for a missing one), length difference


def with_store_length_control(store: Store, standings: Sequence[Standing]) -> list[Standing]:
    """A standing of pairs without a published length control gets one beside the others of its column."""
    groups: dict[object, list[int]] = {}
    for place, standing in enumerate(standings):
        if _lacks_control(standing):
            groups.setdefault(column_of(standing), []).append(place)
    found = list(standings)
    for places in groups.values():
        of_runs = _facts(store, [standings[place].run or "" for place in places])
        facts = {place: own for place in places if (own := of_runs[standings[place].run or ""])}
        for place, score in zip(facts, _scores(list(facts.values())), strict=True):
            if score.value is not None:
                first, *others = found[place].scores
                found[place] = replace(found[place], scores=(first, score, *others))
    return found


def _lacks_control(standing: Standing) -> bool:
    """Whether its answers were compared, and no published difficulties told what length did."""
    published = standing.score(LENGTH_CONTROLLED)
    compared = all(standing.score(metric) is not None for metric in ("win-rate", "avg-length"))
    return standing.run is not None and compared and (published is None or published.value is None)


def _facts(store: Store, runs: Sequence[str]) -> dict[str, _Facts]:
    """By run; nothing where the baseline's lengths are not known, as in runs of an early release."""
    preferences, lengths, baselines = (store.values_of(runs, m) for m in (PREFERENCE, LENGTH, BASELINE_LENGTH))
    return {run: _of_run(preferences[run], lengths[run], baselines[run]) for run in runs}


def _of_run(preferences: _Values, lengths: _Values, baselines: _Values) -> _Facts:
    def known(value: float | None) -> float:
        return math.nan if value is None else value

    return {
        question: (known(preference), known(baselines[question]) - known(lengths[question]))
        for question, preference in preferences.items()
        if question in baselines and question in lengths
    }


def _scores(models: Sequence[_Facts]) -> list[Score]:
    """Over the instructions that any of them answered; what a model didn't answer tells nothing of it."""
    if not models:
        return []
    import numpy as np

    from zephyr_bench.stats.length_control_within import length_controlled_within

    asked = sorted(set().union(*models))
    unknown = math.nan, math.nan
    table = np.array([[model.get(question, unknown) for question in asked] for model in models])
    rates = length_controlled_within(table[:, :, 0], table[:, :, 1]).rates
    return [
        Score(METRIC, rate.win_rate_percent, rate.stderr_percent, len(model))
        for rate, model in zip(rates, models, strict=True)
    ]
