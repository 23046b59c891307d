"""The offline judge: grades by a question's own checkable expectations. Deterministic, free, no model.

One answer: 1 + 9 x the weighted share of the turn's checks that it meets, so 1 to 10.
Two answers: 1, 0.5 or 0, by which share is greater.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from zephyr_bench.expectations import parse_checks
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.judges import checks
from zephyr_bench.judges.protocol import JudgeOptions, refuse_server
from zephyr_bench.recipe import Entry
from zephyr_bench.records import Answer, Judgment, Match


class RubricSpec(Entry):
    kind: Literal["rubric"]
    description: str


class RubricJudge:
    Spec = RubricSpec

    def __init__(self, spec: RubricSpec, *, name: str, folder: Path, options: JudgeOptions) -> None:
        refuse_server(name, options)
        self.name = name
        self.fingerprint = fingerprint({"kind": spec.kind, "checks": checks.VERSION, "py3langid": version("py3langid")})

    def missing(self) -> list[str]:
        return []

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float | None:
        return 0.0

    def grade(self, matches: Iterable[Match]) -> Iterator[Judgment]:
        for match in matches:
            score, reason = self._verdict(match)
            yield Judgment(match.key(self.fingerprint), self.name, score, reason, cost_usd=0.0)

    def _verdict(self, match: Match) -> tuple[float | None, str | None]:
        turn_checks = match.question.checks[match.turn - 1 : match.turn]
        if not turn_checks or not turn_checks[0]:
            return None, f"turn {match.turn} of question {match.question.id} has no checks to grade by"
        own = _share(match, match.answers)
        if own is None:
            return None, "the answer's text is not known"
        if match.rival is None:
            return 1 + 9 * own, None
        other = _share(match, match.rival)
        if other is None:
            return None, "the rival's text is not known"
        return (0.5 if own == other else float(own > other)), None


def _share(match: Match, answers: Sequence[Answer]) -> float | None:
    text = answers[match.turn - 1].text
    return None if text is None else checks.share_met(text, parse_checks(match.question.checks[match.turn - 1]))
