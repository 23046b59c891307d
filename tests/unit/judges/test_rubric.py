from __future__ import annotations

import pytest

from zephyr_bench.errors import UserError
from zephyr_bench.judges import JudgeOptions, open_judge
from zephyr_bench.records import Judgment, Match
from zephyr_bench.testing.judges import pair, single

CHECKS = [{"check": "contains", "any": ["Paris"]}, {"check": "words", "max": 2}]


def verdict(match: Match) -> Judgment:
    (judgment,) = open_judge("rubric").grade([match])
    return judgment


@pytest.mark.parametrize(
    ("text", "score"), [("Paris.", 10), ("It is surely Paris.", 5.5), ("I do not know.", 1), ("", 1)]
)
def test_one_answer_gets_one_to_ten_by_the_share_met(text: str, score: float) -> None:
    assert verdict(single("Capital of France?", text, checks=CHECKS)).score == score


@pytest.mark.parametrize(
    ("ours", "rival", "preference"),
    [("Paris", "Rome", 1), ("Rome", "Paris", 0), ("Rome", "Oslo", 0.5), ("", "Paris", 0)],
)
def test_the_better_of_two_meets_more(ours: str, rival: str, preference: float) -> None:
    assert verdict(pair("Capital of France?", ours, rival, checks=CHECKS)).score == preference


def test_a_question_without_checks_has_no_verdict_and_a_reason() -> None:
    judgment = verdict(single("Say something.", "Something."))
    assert judgment.score is None
    assert "no checks" in (judgment.reason or "")


def test_a_server_for_the_rubric_is_a_mistake() -> None:
    with pytest.raises(UserError, match="asks no server"):
        open_judge("rubric", options=JudgeOptions(base_url="http://127.0.0.1:1/v1"))


def test_unknown_judge_suggests_close_matches() -> None:
    with pytest.raises(UserError, match=r"unknown judge 'rubrik'\. Did you mean rubric\?"):
        open_judge("rubrik")
