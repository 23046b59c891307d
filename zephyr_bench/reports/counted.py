"""Metrics that are counts, not means: how they are written, and what those of odd answers warn of. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from zephyr_bench.benchmarks.alpaca_scores import OUTCOMES
from zephyr_bench.benchmarks.answer_counts import CUT_ANSWERS, EMPTY_ANSWERS, MOST_ALIKE, REPEATED_ANSWERS
from zephyr_bench.records import Score
from zephyr_bench.reports.render import number, with_error

_NULL_SHARE = 0.5  # of the answers being one text: a model that answers so doesn't answer
_FEWEST = 4  # answers that say anything about a constant one
ODD_ANSWERS = (EMPTY_ANSWERS, CUT_ANSWERS, REPEATED_ANSWERS, MOST_ALIKE)
COUNTS = {*ODD_ANSWERS, *OUTCOMES}


def value_told(metric: str, value: float | None, stderr: float | None = None) -> str:
    """`6.19 ±0.31`, or `12` of what is counted."""
    if metric in COUNTS and value is not None:
        return number(value).removesuffix(".00")
    return with_error(value, stderr)


def warnings(scores: Sequence[Score]) -> list[str]:
    """What a reader must know of the answers before trusting their score."""
    found = {score.metric: (int(score.value or 0), score.n) for score in scores if score.metric in ODD_ANSWERS}
    told = []
    alike, answers = found.get(MOST_ALIKE, (0, 0))
    repeated, _ = found.get(REPEATED_ANSWERS, (0, 0))
    if answers >= _FEWEST and alike > _NULL_SHARE * answers:
        told.append(f"null model: {alike} of {answers} answers are one and the same text")
    elif repeated:
        told.append(f"{repeated} of {answers} answers have the text of another one")
    for metric, how in ((EMPTY_ANSWERS, "are empty"), (CUT_ANSWERS, "were cut at the token limit")):
        count, answers = found.get(metric, (0, 0))
        if count:
            told.append(f"{count} of {answers} answers {how}")
    return told
