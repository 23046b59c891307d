"""Conformance of a judge: what every Judge promises, as functions that raise AssertionError.

import pytest
from zephyr_bench.testing.judges import CHECKS, single

@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_judge_conforms(check):
    check(lambda: MyJudge(...), [single("Name the capital of France.", "Paris.")])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.judges.protocol import Judge
from zephyr_bench.records import Answer, Match, Question

JudgeFactory = Callable[[], Judge]


def single(prompt: str, text: str, *, checks: Sequence[Mapping[str, Any]] = (), category: str = "writing") -> Match:
    """A one-turn match of one answer, for tests."""
    question = Question(fingerprint(prompt)[-8:], category, (prompt,), checks=(tuple(checks),))
    return Match(question, 1, (_answer(question, "candidate", text),))


def pair(
    prompt: str, text: str, rival: str, *, checks: Sequence[Mapping[str, Any]] = (), category: str = "writing"
) -> Match:
    """A one-turn match of two answers, for tests."""
    question = Question(fingerprint(prompt)[-8:], category, (prompt,), checks=(tuple(checks),))
    return Match(question, 1, (_answer(question, "candidate", text),), (_answer(question, "rival", rival),))


def _answer(question: Question, model: str, text: str) -> Answer:
    return Answer(fingerprint([model, question.turns, text]), model, question.id, 1, text)


def has_a_stable_fingerprint(make: JudgeFactory, matches: Sequence[Match]) -> None:
    assert make().name, "a judge has a name"
    assert make().fingerprint == make().fingerprint, "the same judge has the same fingerprint"


def says_what_is_missing(make: JudgeFactory, matches: Sequence[Match]) -> None:
    assert make().missing() == [], f"the suite needs a judge that can run: {make().missing()}"


def tells_costs_that_grow(make: JudgeFactory, matches: Sequence[Match]) -> None:
    few, many = make().cost_usd(10, 1), make().cost_usd(1000, 100)
    assert (few is None) == (many is None), "a price is known or it is not"
    assert few is None or many is None or 0 <= few <= many, "more tokens don't cost less"


def grades_each_match_once(make: JudgeFactory, matches: Sequence[Match]) -> None:
    judge = make()
    keys = [judgment.key for judgment in judge.grade(matches)]
    assert sorted(keys) == sorted(match.key(judge.fingerprint) for match in matches)


def keeps_to_its_scale(make: JudgeFactory, matches: Sequence[Match]) -> None:
    judge = make()
    by_key = {match.key(judge.fingerprint): match for match in matches}
    for judgment in judge.grade(matches):
        assert judgment.judge == judge.name
        if judgment.score is None:
            assert judgment.reason, "a verdict without a score says why"
        elif by_key[judgment.key].rival is None:
            assert 1 <= judgment.score <= 10, "one answer is graded 1 to 10"
        else:
            assert 0 <= judgment.score <= 1, "a preference lies between 0 and 1"


def reads_no_further_than_it_must(make: JudgeFactory, matches: Sequence[Match]) -> None:
    """A consumer that stops early is obeyed: what was not asked for is not graded (or paid)."""
    taken: list[Match] = []

    def source() -> Iterator[Match]:
        for number in range(1000):
            match = matches[number % len(matches)]
            taken.append(match)
            yield Match(match.question, match.turn, match.answers, match.rival, replicate=number)

    verdicts = iter(make().grade(source()))
    next(verdicts)
    close = getattr(verdicts, "close", None)
    if close is not None:
        close()
    assert len(taken) < 1000, "the judge read all matches before it gave the first verdict"


def takes_no_matches(make: JudgeFactory, matches: Sequence[Match]) -> None:
    assert list(make().grade([])) == []


CHECKS = (
    has_a_stable_fingerprint,
    says_what_is_missing,
    tells_costs_that_grow,
    grades_each_match_once,
    keeps_to_its_scale,
    reads_no_further_than_it_must,
    takes_no_matches,
)
