"""UltraFeedback's own rows as pairs: the best of several rated answers against a random worse one.

In: {"instruction", "source", "completions": [{"response", "model", "overall_score", "annotations": {"helpfulness":
{"Rating": "4"}, ...}}]}, as openbmb/UltraFeedback publishes them (arXiv 2310.01377). The choice is feedback.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Answer, Question
from zephyr_bench.training_data.data import Pair, checked
from zephyr_bench.training_data.feedback import Graded, RankedPair, make_pair

_ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")

Grade = Annotated[float | None, BeforeValidator(lambda value: None if value == "N/A" else value)]


class _Annotation(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)
    rating: Grade = Field(None, alias="Rating")


class _Completion(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)
    response: str
    model: str = ""
    overall_score: Grade = None
    annotations: dict[str, _Annotation | None] = Field(default_factory=dict)

    def mean(self) -> float | None:
        """Of the aspects that are rated: GPT-4 gave some an N/A."""
        given = [self.annotations.get(aspect) for aspect in _ASPECTS]
        ratings = [one.rating for one in given if one is not None and one.rating is not None]
        return sum(ratings) / len(ratings) if ratings else None


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore")
    instruction: str = Field(min_length=1)
    source: str = ""
    completions: list[_Completion]


def binarized(content: Mapping[str, Any], place: str, *, by: Literal["overall", "mean"], seed: int) -> Pair | str:
    """Why there is none where no two answers differ in their score. Raises UserError.

    The paper ranks by the mean of the ratings, the script that was published by `overall_score`. That script's first
    release drew the other answer by a generator seeded anew for each row, which always gave the same one; ours is
    seeded by the recipe and the instruction.
    """
    row = checked(content, _Row, place)
    question = Question(fingerprint(row.instruction), row.source, (row.instruction,))
    graded = [
        Graded(
            Answer(str(number), completion.model, question.id, 1, completion.response),
            completion.overall_score if by == "overall" else completion.mean(),
        )
        for number, completion in enumerate(row.completions)
    ]
    made = make_pair(question, graded, seed=seed)
    return made.pair if isinstance(made, RankedPair) else made.reason
