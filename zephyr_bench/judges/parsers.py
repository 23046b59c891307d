"""From a judge's reply to a verdict, by FastChat's rules (0.2.36, llm_judge/common.py). Pure.

A reply without a verdict gives None; what that means is the caller's.
"""

from __future__ import annotations

import re

VERSION = 1  # raised with every change that could change a verdict

_RATINGS = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))
_WINNERS = {"[[A]]": 1.0, "[[B]]": 0.0, "[[C]]": 0.5}


def rating(reply: str) -> float | None:
    """The first `[[n]]`, else the first `[n]`."""
    for pattern in _RATINGS:
        if found := pattern.search(reply):
            return float(found[1])
    return None


def preference(reply: str) -> float | None:
    """1 where A is better, 0 where B is, 0.5 for a tie; A's mark is looked for before B's, as FastChat does."""
    return next((value for mark, value in _WINNERS.items() if mark in reply), None)
