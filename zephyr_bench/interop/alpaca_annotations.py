"""alpaca_eval's annotations as pairs of answers and judgments of them.

In: the rows of one model, judge and baseline. Out: for each row the pair, the match, the judgment. An instruction that
stands twice is judged twice; what a row says beside its texts is the judgment's origin.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from zephyr_bench.benchmarks.alpaca_data import baseline_answer
from zephyr_bench.benchmarks.one_order import Pair
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.interop.alpaca_benchmarks import Known
from zephyr_bench.interop.alpaca_outputs import ORIGIN, imported_answer
from zephyr_bench.interop.alpaca_rows import AnnotationRow, reply_key
from zephyr_bench.interop.json_lines import Line
from zephyr_bench.records import Judgment, Match
from zephyr_bench.stats.win_rates import preference_of

REPLY = "reply"  # of a judgment: the row's key that its reply stood under
AS_JSON = "reply_as_json"  # of a judgment: the reply was no text
_NULL = "alpaca_eval's file has null: no preference was read from the judge's reply"


def judged_pairs(known: Known, lines: Sequence[Line[AnnotationRow]]) -> Iterator[tuple[Pair, Match, Judgment]]:
    """In the rows' order. The model's answer stands first in a match, whatever the judge was shown first."""
    texts = _Texts()
    times: Counter[str] = Counter()
    for line in lines:
        pair = _pair(known, line.row, texts, replicate=times[line.row.instruction])
        times[line.row.instruction] += 1
        match = Match(pair.question, 1, (pair.answer,), rival=(pair.baseline,), replicate=pair.replicate)
        yield pair, match, _judgment(known, line, replicate=pair.replicate)


class _Texts:
    """Numbers the different texts that one side has for an instruction."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[str]] = {}

    def number(self, side: str, question: str, text: str) -> int:
        known = self._found.setdefault((side, question), [])
        if text not in known:
            known.append(text)
        return known.index(text)


def _pair(known: Known, row: AnnotationRow, texts: _Texts, *, replicate: int) -> Pair:
    question = known.question(row.instruction, row.dataset)
    own = imported_answer(row.model, question, row.output_2, texts.number("model", question.id, row.output_2))
    number = texts.number("baseline", question.id, row.output_1)
    other = replace(baseline_answer(row.baseline, question, row.output_1), replicate=number)
    return Pair(question, own, other, replicate)


def _judgment(known: Known, line: Line[AnnotationRow], *, replicate: int) -> Judgment:
    score = preference_of(line.row.preference)
    row = {**line.raw, "output_1": None, "output_2": None}
    origin: dict[str, Any] = {ORIGIN: row}
    reply = ""
    if (key := reply_key(row)) is not None:
        reply = row[key] if isinstance(row[key], str) else json.dumps(row[key], ensure_ascii=False)
        origin |= {REPLY: key, AS_JSON: not isinstance(row[key], str)}
        row[key] = None
    # the row is in the key: the same judge may have judged the same outputs on another day, and said otherwise
    what = {"benchmark": known.name, "row": json.dumps(line.raw, sort_keys=True), "replicate": replicate}
    return Judgment(
        key=fingerprint({"imported": what}),
        judge=line.row.annotator,
        score=score,
        reason=None if score is not None else _NULL,
        reply=reply,
        origin=origin,
    )
