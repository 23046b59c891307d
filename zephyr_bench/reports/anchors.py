"""The anchors of a run: a few of its questions with what the judge was asked then, and what it said.

The same run gives the same anchors, spread over the categories; within one the hash of a question's id decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from zephyr_bench.benchmarks.rejudge import matches_of, spread
from zephyr_bench.records import Match
from zephyr_bench.reports.sides import Anchor

if TYPE_CHECKING:
    from zephyr_bench.store import RunInfo, Store


def anchors_of(store: Store, run: RunInfo, questions: int) -> tuple[Anchor, ...]:
    """Every judgment of that many questions, or of all where there are fewer; none of a run without a judge.

    Only questions that each judgment has a score of. Raises UserError where answers' texts aren't known.
    """
    if run.judge is None or questions < 1:
        return ()
    grades = _grades(store, run)
    asked: dict[str, list[Anchor]] = {}
    for match in matches_of(store, run):
        asked.setdefault(match.question.id, []).append(Anchor(match, grades.get(_place(match))))
    scored = [of_one for of_one in asked.values() if all(anchor.score is not None for anchor in of_one)]
    return tuple(sorted(chain(*spread_out(scored)[:questions]), key=_order))


def spread_out(questions: Iterable[Sequence[Anchor]]) -> list[Sequence[Anchor]]:
    """Of each category the first, then of each the second, and so on."""
    by_id = {anchors[0].match.question.id: anchors for anchors in questions}
    return [by_id[id] for id in spread([anchors[0].match.question for anchors in by_id.values()], len(by_id))]


def _grades(store: Store, run: RunInfo) -> dict[tuple[str, int, str, str | None, int], float | None]:
    """By what was judged. Of a jury's the members' own verdicts are left out."""
    verdicts = store.verdicts_of(run.id)
    own = [verdict for verdict in verdicts if verdict.judgment.judge == run.judge] or verdicts
    return {(v.question, v.turn, v.answer, v.rival, v.replicate): v.judgment.score for v in own}


def _place(match: Match) -> tuple[str, int, str, str | None, int]:
    rival = match.rival[-1].key if match.rival else None
    return match.question.id, match.turn, match.answers[-1].key, rival, match.replicate


def _order(anchor: Anchor) -> tuple[int, str, int, int, str, str]:
    match = anchor.match
    rival = match.rival[-1].key if match.rival else ""
    return len(match.question.id), match.question.id, match.turn, match.replicate, match.answers[-1].key, rival
