"""Two answers compared once, in an order drawn for each instruction, as alpaca_eval does it (0.6.6).

In: the model's answer and the baseline's to each instruction. Out: the preference for the model's. The draw hangs on
the instruction alone (annotators/pairwise_evaluator.py: seed 0, `is_switched_outputs`), so that every model meets the
baseline in the same places, and a judgment can be made again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from zephyr_bench.benchmarks.grading import grade, judge_of
from zephyr_bench.benchmarks.pairing import PairVerdict
from zephyr_bench.benchmarks.protocol import Job
from zephyr_bench.records import Answer, Judgment, Match, Question


@dataclass(frozen=True)
class Pair:
    """A model's answer to an instruction, and whom it is compared with."""

    question: Question
    answer: Answer
    baseline: Answer
    replicate: int = 0  # counts deliberate repeats


def model_stands_first(instruction: str) -> bool:
    return random.Random(f"is_switched_outputs{instruction}0").choices([False, True], k=1)[0]


def grade_in_one_order(job: Job, pairs: Sequence[Pair]) -> Iterator[tuple[Pair, PairVerdict]]:
    """(pair, verdict) as it is judged; two equal texts are a tie and no judge is asked, as in alpaca_eval.

    A tie is kept as a judgment like any other. A judge that says `fixed_order` is shown the baseline first.
    """
    judge = judge_of(job)
    fixed = bool(getattr(judge, "fixed_order", False))
    asked: dict[tuple[str, str, int], tuple[Pair, bool]] = {}  # by the answers shown first and second
    matches: list[Match] = []
    ties: list[tuple[Match, Judgment]] = []
    for pair in pairs:
        first = not fixed and model_stands_first(pair.question.turns[0])
        sides = (pair.answer, pair.baseline) if first else (pair.baseline, pair.answer)
        match = Match(pair.question, 1, sides[:1], rival=sides[1:], replicate=pair.replicate)
        if pair.answer.text == pair.baseline.text:
            ties.append((match, Judgment(match.key(judge.fingerprint), judge.name, 0.5, cost_usd=0.0)))
            yield pair, PairVerdict(0.5, None)
            continue
        asked[sides[0].key, sides[1].key, pair.replicate] = pair, first
        matches.append(match)
    job.run.add_judgments(ties)
    for match, judgment in grade(job, matches):
        assert match.rival is not None
        pair, first = asked[match.answers[0].key, match.rival[0].key, match.replicate]
        score = judgment.score
        yield pair, PairVerdict(score if score is None or first else 1 - score, None, judgment.reason)
