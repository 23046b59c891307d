"""Human votes of two answers, and how far a judge agrees with them. Pure but for reading the file.

In: a file in the form of lmsys/mt_bench_human_judgments. Out: measures as the MT-Bench paper gives them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, model_validator

from zephyr_bench.errors import UserError
from zephyr_bench.reports.judge_data import Answered, Judged, sign
from zephyr_bench.reports.judge_measures import (
    Measure,
    Measures,
    kappa,
    share,
)
from zephyr_bench.yaml_file import read_jsonl_as

if TYPE_CHECKING:
    pass

Winner = Annotated[
    Literal["model_a", "model_b", "tie"],
    # FastChat (0.2.36, llm_judge/compute_agreement.py) takes "tie (bothbad)" and its like for a tie
    BeforeValidator(lambda told: "tie" if isinstance(told, str) and told.startswith("tie (") else told),
]


class HumanVote(BaseModel):
    """A line of lmsys/mt_bench_human_judgments."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)

    question_id: str
    model_a: str
    model_b: str
    winner: Winner
    judge: str
    turn: Annotated[StrictInt, Field(ge=1)]

    @model_validator(mode="after")
    def _of_two_models(self) -> HumanVote:
        if self.model_a == self.model_b:
            raise ValueError(f"model_a and model_b are both '{self.model_a}'")
        return self

    @property
    def lead(self) -> int:
        return {"model_a": 1, "tie": 0, "model_b": -1}[self.winner]

    @property
    def voters(self) -> str:
        """MT-Bench's authors voted too; the paper and FastChat's compute_agreement.py count them apart."""
        return "authors" if self.judge.startswith("author") else "humans"


@dataclass(frozen=True)
class VotesMet:
    """Human votes of answers that the judge compared, or graded both."""

    in_file: int
    by_verdict: Sequence[tuple[int, HumanVote]]  # who leads by the judge: 1 model_a, 0 tie, -1 model_b
    by_grades: Sequence[tuple[int, HumanVote]]


def read_votes(path: Path) -> list[HumanVote]:
    votes = [vote for _, vote in read_jsonl_as(path, HumanVote)]
    if not votes:
        raise UserError(f"{path}: holds no votes; expected lines as of lmsys/mt_bench_human_judgments.")
    return votes


def votes_met(judged: Judged, answered: Mapping[str, Answered], votes: Sequence[HumanVote]) -> VotesMet:
    """A vote of two models is met by their pairs' verdict; where there is none, by the difference of their grades."""
    compared: dict[tuple[str, int, str | None, str | None], list[float]] = {}
    for (key, rival), lead in judged.leads.items():
        one, other = answered[key], answered[rival]
        compared.setdefault((one.question, one.turn, one.model, other.model), []).append(lead)
        compared.setdefault((one.question, one.turn, other.model, one.model), []).append(-lead)
    graded: dict[tuple[str, int, str | None], list[float]] = {}
    for key, grade in judged.grades.items():
        answer = answered[key]
        graded.setdefault((answer.question, answer.turn, answer.model), []).append(grade)
    by_verdict, by_grades = [], []
    for vote in votes:
        a, b = (graded.get((vote.question_id, vote.turn, model)) for model in (vote.model_a, vote.model_b))
        if leads := compared.get((vote.question_id, vote.turn, vote.model_a, vote.model_b)):
            by_verdict.append((sign(fmean(leads)), vote))
        elif a and b:
            by_grades.append((sign(fmean(a) - fmean(b)), vote))
    return VotesMet(len(votes), by_verdict, by_grades)


def with_humans(met: Sequence[tuple[int, HumanVote]]) -> Measures:
    """Set-ups S1 and S2 of arXiv 2306.05685, section 4.2: each vote counts, an inconsistent verdict is a tie."""
    found: dict[str, Measure | None] = {}
    for voters in ("humans", "authors"):
        votes = [(winner, vote.lead) for winner, vote in met if vote.voters == voters]
        without_ties = [pair for pair in votes if 0 not in pair]
        for setup, counted in (("S1, ties included", votes), ("S2, no ties", without_ties)):
            found[f"agreement with {voters} ({setup})"] = share(sum(a == b for a, b in counted), len(counted))
            found[f"kappa with {voters} ({setup})"] = kappa(counted)
    return found
