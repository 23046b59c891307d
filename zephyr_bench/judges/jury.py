"""The judge `jury`: several judges' verdicts made one, by mean, median or majority.

Each member's judgments are kept as its own (benchmarks/grading.py asks the members one by one), so that a jury costs
nothing where its members have judged, and `judge-report` can tell how far they agree. Members must grade on one scale.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

from pydantic import Field

from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.judges.protocol import Judge, JudgeOptions, refuse_server, unfit_for
from zephyr_bench.recipe import Entry
from zephyr_bench.records import Judgment, Match

_AT_ONCE = 64  # matches that each member is asked before the next member is

Rule = Literal["mean", "median", "majority"]


class JurySpec(Entry):
    kind: Literal["jury"]
    description: str
    judges: tuple[str, ...] = Field(min_length=2)  # names, or YAML files beside this one
    verdict: Rule = "mean"
    quorum: int | None = Field(None, gt=0)  # verdicts needed for one; None: of more than half


class JuryJudge:
    Spec = JurySpec

    def __init__(self, spec: JurySpec, *, name: str, folder: Path, options: JudgeOptions) -> None:
        refuse_server(name, options)
        self.name = name
        self._spec = spec
        self._folder = folder
        self._options = options

    @cached_property
    def members(self) -> tuple[Judge, ...]:
        from zephyr_bench.judges import open_judge

        include = self._options.engine.include
        found = []
        for member in self._spec.judges:
            beside = self._folder / member
            found.append(
                open_judge(str(beside) if beside.is_file() else member, include=include, options=self._options)
            )
        if any(isinstance(member, JuryJudge) for member in found):
            raise UserError(f"judge {self.name}: a jury's members must be judges, not juries.")
        if len({member.fingerprint for member in found}) < len(found):
            raise UserError(f"judge {self.name}: one judge is named twice.")
        return tuple(found)

    @cached_property
    def fingerprint(self) -> str:
        members = sorted(member.fingerprint for member in self.members)
        return fingerprint({"kind": "jury", "members": members, "verdict": self._spec.verdict, "quorum": self._quorum})

    @property
    def _quorum(self) -> int:
        return self._spec.quorum or len(self._spec.judges) // 2 + 1

    def missing(self) -> list[str]:
        return [part for member in self.members for part in member.missing()]

    @property
    def fixed_order(self) -> bool:
        """Where a member wants the baseline first, all see it so."""
        return any(getattr(member, "fixed_order", False) for member in self.members)

    def unfit(self, *, paired: bool) -> str | None:
        return next((found for member in self.members for found in unfit_for(member, paired=paired)), None)

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float | None:
        costs = [member.cost_usd(input_tokens, output_tokens) for member in self.members]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    def grade(self, matches: Iterable[Match]) -> Iterator[Judgment]:
        waiting = iter(matches)
        while some := list(islice(waiting, _AT_ONCE)):
            yield from self._grade(some)

    def _grade(self, asked: Sequence[Match]) -> Iterator[Judgment]:
        told: dict[int, list[Judgment]] = {number: [] for number in range(len(asked))}
        for member in self.members:
            numbers = {match.key(member.fingerprint): number for number, match in enumerate(asked)}
            for judgment in member.grade(asked):
                told[numbers[judgment.key]].append(judgment)
        yield from (self.combine(match, told[number]) for number, match in enumerate(asked))

    def combine(self, match: Match, judgments: Sequence[Judgment]) -> Judgment:
        """One verdict of the members'. What they cost is told by their own judgments."""
        scores = [judgment.score for judgment in judgments if judgment.score is not None]
        key = match.key(self.fingerprint)
        if len(scores) < self._quorum:
            reason = f"{len(scores)} of {len(self._spec.judges)} judges gave a verdict; {self._quorum} are needed"
            return Judgment(key, self.name, None, reason, cost_usd=0.0)
        score = _one_of(scores, self._spec.verdict, paired=match.rival is not None)
        told = ", ".join(f"{judgment.judge}: {judgment.score}" for judgment in judgments)
        undecided = None if score is not None else f"no verdict has a majority ({told})"
        return Judgment(key, self.name, score, undecided, reply=told, cost_usd=0.0)


def _one_of(scores: Sequence[float], rule: Rule, *, paired: bool) -> float | None:
    """None where a majority is asked of grades that differ; of two answers nobody prefers, it is a tie."""
    if rule == "mean":
        return statistics.fmean(scores)
    if rule == "median":
        return float(statistics.median(scores))
    (first, times), *others = Counter(scores).most_common()
    if not others or times > others[0][1]:
        return first
    return 0.5 if paired else None
