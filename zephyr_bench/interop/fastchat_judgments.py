"""FastChat's judgment rows as judgments and samples, gathered by the model that they say something of.

In: rows of one judge. Every row is a sample: rows of one answer are its replicates, in the files' order, so that a mean
is over all rows, as show_result takes it. A pair's row holds the verdicts of both orders (benchmarks/pairing.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zephyr_bench.benchmarks.mt_bench import graded_sample
from zephyr_bench.benchmarks.pairing import PairVerdict, exchanged, of_both, pair_samples
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.interop.fastchat_answers import ORIGIN, Answers
from zephyr_bench.interop.fastchat_questions import Questions, Shown
from zephyr_bench.interop.fastchat_rows import PairRow, SingleRow
from zephyr_bench.interop.imported_runs import judge_fingerprint
from zephyr_bench.interop.json_lines import Line
from zephyr_bench.records import Judgment, Match, SampleScore

REPLIES = ("judgment", "g1_judgment", "g2_judgment")
_NO_SCORE = "FastChat's -1: no score was read from the reply"
_FAILED_CALL = "$ERROR$"  # FastChat's reply where the judge's server failed for good (common.py, API_ERROR_OUTPUT)
_FAILED = "FastChat's $ERROR$: the call to the judge failed"
_NULL_SCORE = "FastChat's file has null for a score"
_NO_VERDICT = "FastChat's error: no verdict was read from the reply"
_ONLY_DIFFERENT = "FastChat's file says only that the two orders disagreed"
_PREFERENCE = {"model_1": 1.0, "tie": 0.5, "model_2": 0.0, "error": None}  # for model_1


@dataclass
class Gathered:
    """What the rows say of one model, in their order; filled row by row."""

    judged: dict[str, tuple[Match, Judgment]] = field(default_factory=dict)  # by key
    samples: list[SampleScore] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)  # prompts with reference answers
    met_all: bool = False  # pairs of all with all, not with a baseline

    def add(self, line: Line[Any], judged: Sequence[tuple[Match, Judgment]], prompt: str) -> None:
        for match, judgment in judged:
            self.judged[judgment.key] = match, judgment
        if "math" in (line.row.prompt or "") and prompt:  # so FastChat calls prompts with references
            self.shown.append((line.row.question_id, line.row.judged_turn, prompt))


def graded(lines: Sequence[Line[SingleRow]], questions: Questions, answers: Answers) -> dict[str, Gathered]:
    """By model."""
    found: dict[str, Gathered] = {}
    rows: Counter[Hashable] = Counter()
    for line in lines:
        row, turn = line.row, line.row.judged_turn
        question = questions.of(row.question_id, turn, line.place)
        replicate = _number(rows, (row.model, question.id, turn))
        match = Match(question, turn, answers.judged(row.model, question, turn), replicate=replicate)
        judgment = _judgment(line, match, _score(row), _why(row), row.judgment, origin=_origin(line))
        told = found.setdefault(row.model, Gathered())
        told.add(line, [(match, judgment)], row.user_prompt)
        told.samples.append(graded_sample(question, turn, judgment, replicate=replicate))
    return found


def compared(lines: Sequence[Line[PairRow]], questions: Questions, answers: Answers) -> dict[str, Gathered]:
    """By model: of all pairs both have their samples; a baseline, which stands second in every row, has none."""
    with_baseline = len({line.row.model_2 for line in lines}) == 1
    found: dict[str, Gathered] = {}
    rows: Counter[Hashable] = Counter()
    for line in lines:
        row, turn = line.row, line.row.judged_turn
        question = questions.of(row.question_id, turn, line.place)
        left, right = (answers.judged(model, question, turn) for model in (row.model_1, row.model_2))
        # counted for the two in either order, as a row of one order and a row of the other hold the same matches
        replicate = _number(rows, (frozenset((row.model_1, row.model_2)), question.id, turn))
        match = Match(question, turn, left, right, replicate)
        first, second = _both(line, match)
        matches = [(match, first), (exchanged(match), second)]
        for model, rival, views in ((row.model_1, row.model_2, matches), (row.model_2, row.model_1, matches[::-1])):
            if model == row.model_2 and with_baseline:
                continue
            told = found.setdefault(model, Gathered(met_all=not with_baseline))
            told.add(line, matches, row.g1_user_prompt)
            verdict = of_both(views[0][1], views[1][1]) if row.winners else PairVerdict(0.5, 0.0)
            told.samples += pair_samples(views[0][0], verdict, rival=rival)
    return found


def _both(line: Line[PairRow], match: Match) -> tuple[Judgment, Judgment]:
    """Of the pair as the row has it, with what the row says beside; and of the places exchanged."""
    row = line.row
    reason = _NO_VERDICT if row.winners else _ONLY_DIFFERENT
    first, second = (_PREFERENCE[winner] for winner in row.winners or ("error", "error"))
    turned = None if second is None else 1 - second
    return (
        _judgment(line, match, first, reason, row.g1_judgment, origin=_origin(line)),
        _judgment(line, exchanged(match), turned, reason, row.g2_judgment, origin=None),
    )


def _judgment(
    line: Line[Any], match: Match, score: float | None, reason: str, reply: str, *, origin: Mapping[str, Any] | None
) -> Judgment:
    # the row is in the key: the same judge may have judged the same answers on another day, and said otherwise
    key = {"match": match.key(judge_fingerprint(line.row.judge_name)), "row": line.raw}
    return Judgment(
        key=fingerprint(key),
        judge=line.row.judge_name,
        score=score,
        reason=None if score is not None else _FAILED if reply == _FAILED_CALL else reason,
        reply=reply,
        prompt=line.row.prompt,
        origin=origin,
    )


def _score(row: SingleRow) -> float | None:
    return None if row.score is None or row.score == -1 else row.score


def _why(row: SingleRow) -> str:
    return _NULL_SCORE if row.score is None else _NO_SCORE


def _origin(line: Line[Any]) -> dict[str, Any]:
    return {ORIGIN: {key: None if key in REPLIES else value for key, value in line.raw.items()}}


def _number(rows: Counter[Hashable], of: Hashable) -> int:
    """0, 1, 2, … of the rows that are of the same."""
    rows[of] += 1
    return rows[of] - 1
