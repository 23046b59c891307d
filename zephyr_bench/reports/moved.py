"""What was said to a few questions, and how it was graded: the answers and judgments behind a change.

In: the store and a run. Out: its own answers' texts and the judge's replies, turn by turn. Texts are whole and not
escaped; who prints them does both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zephyr_bench.reports.sides import own_answers

if TYPE_CHECKING:
    from zephyr_bench.store import RunInfo, Store


@dataclass(frozen=True)
class Graded:
    """One judgment. Where two answers were compared the score is the preference for this run's, from 0 to 1."""

    score: float | None
    reply: str
    reason: str | None = None  # why there is no score
    first: bool | None = None  # of two answers, whether this run's stood first; None: there was one


@dataclass(frozen=True)
class Turn:
    turn: int
    replicate: int
    answer: str | None  # None: the text isn't known
    judgments: tuple[Graded, ...]


def said_of(store: Store, run: RunInfo, questions: Collection[str]) -> Mapping[str, list[Turn]]:
    """By question, in order of turn; a question that nothing was written to (only scored) has none."""
    own = own_answers(store, run, questions)
    graded: dict[str, list[Graded]] = {answer.key: [] for answer in own}
    for verdict in store.verdicts_of(run.id, questions):
        told = verdict.judgment
        if verdict.answer in graded:
            # alpaca_eval's annotations don't tell in which order their two answers were shown
            first = None if verdict.rival is None or run.environment.get("imported") == "alpaca_eval" else True
            graded[verdict.answer].append(Graded(told.score, told.reply, told.reason, first))
        elif verdict.rival in graded:
            score = None if told.score is None else 1 - told.score
            graded[verdict.rival].append(Graded(score, told.reply, told.reason, False))
    found: dict[str, list[Turn]] = {}
    for answer in sorted(own, key=lambda answer: (answer.question, answer.turn, answer.replicate, answer.key)):
        turn = Turn(answer.turn, answer.replicate, answer.text, tuple(graded[answer.key]))
        found.setdefault(answer.question, []).append(turn)
    return found
