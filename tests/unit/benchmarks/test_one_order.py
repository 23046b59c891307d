"""The order in which a judge sees two answers: drawn for each instruction, as alpaca_eval draws it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.benchmarks.alpaca_data import baseline_answer, question_of
from zephyr_bench.benchmarks.one_order import Pair, grade_in_one_order, model_stands_first
from zephyr_bench.records import Answer, Judgment, Match


class PrefersFirst:
    name = "first"
    fingerprint = "first"

    def __init__(self, *, fixed_order: bool = False) -> None:
        self.fixed_order = fixed_order
        self.shown: list[tuple[str, str]] = []

    def grade(self, matches: Iterable[Match]) -> Iterator[Judgment]:
        for match in matches:
            assert match.rival is not None
            self.shown.append((match.answers[0].model, match.rival[0].model))
            yield Judgment(match.key(self.fingerprint), self.name, 0.9)


class NoStore:
    """A run that knows nothing and keeps nothing."""

    def judgments(self, keys: object) -> dict[str, Judgment]:
        return {}

    def use_judgments(self, keys: object) -> None: ...

    def add_judgments(self, judged: object) -> None: ...


def job(judge: Any) -> Any:
    from zephyr_bench.benchmarks.protocol import Job
    from zephyr_bench.engines.protocol import ModelSource
    from zephyr_bench.progress import Progress

    class Engine:
        model = ModelSource("own", "", "own")

    return Job(Engine(), judge, NoStore(), Progress(quiet=True))  # type: ignore[arg-type]


def pair(instruction: str, *, same: bool = False) -> Pair:
    question = question_of(instruction, "")
    baseline = baseline_answer("baseline", question, "blue")
    text = "blue" if same else "red"
    return Pair(question, Answer(f"own {instruction}", "own", question.id, 1, text), baseline)


def test_the_draw_is_alpaca_evals() -> None:
    """Computed by alpaca_eval 0.6.6 itself: utils.random_seeded_choice of its seed, see tests/parity."""
    drawn = [model_stands_first(f"instruction {number}") for number in range(16)]
    assert drawn == [bool(int(bit)) for bit in "0110111000110011"]


@given(st.text())
def test_the_draw_hangs_on_the_instruction_alone(text: str) -> None:
    assert model_stands_first(text) is model_stands_first(text)


def test_the_preference_is_for_the_model_wherever_it_stands() -> None:
    judge = PrefersFirst()
    pairs = [pair(f"instruction {number}") for number in range(16)]
    found = {p.question.turns[0]: verdict.value for p, verdict in grade_in_one_order(job(judge), pairs)}
    assert set(judge.shown) == {("own", "baseline"), ("baseline", "own")}
    for text, value in found.items():
        assert value == pytest.approx(0.9 if model_stands_first(text) else 0.1)


def test_a_judge_of_fixed_order_sees_the_baseline_first() -> None:
    judge = PrefersFirst(fixed_order=True)
    pairs = [pair(f"instruction {number}") for number in range(8)]
    assert all(verdict.value == pytest.approx(0.1) for _, verdict in grade_in_one_order(job(judge), pairs))
    assert set(judge.shown) == {("baseline", "own")}


def test_equal_answers_are_a_tie_that_no_judge_is_asked_about() -> None:
    judge = PrefersFirst()
    ((_, verdict),) = grade_in_one_order(job(judge), [pair("instruction", same=True)])
    assert (verdict.value, judge.shown) == (0.5, [])
