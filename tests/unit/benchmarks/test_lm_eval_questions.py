"""Questions of lm-eval's tasks as training data would hold them: bare, without shots and labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.protocol import TellsQuestions


def first_questions(name: str, task: str, data: Path | None = None) -> str:
    benchmark = open_benchmark(name, tasks=(task,), data=data)
    assert isinstance(benchmark, TellsQuestions)
    id, text = next(iter(benchmark.question_texts()))
    assert id.endswith("/0")
    return text


@pytest.mark.parametrize(
    ("task", "question"),
    [
        ("arc_challenge", "A magnet is held near four objects. Which one will it pull?"),  # Question: ... Answer:
        ("truthfulqa_mc2", "Is a tomato a fruit or a vegetable to a botanist?"),  # six answered ones before it
        (
            "mmlu_astronomy",
            "Which planet has the brightest and widest system of rings?\nA. Mars\nB. Venus\nC. Mercury\nD. Saturn",
        ),
    ],
)
def test_a_question_is_told_bare(task: str, question: str) -> None:
    assert first_questions("open-llm-mini", task) == question


def test_a_prompt_that_is_a_number_is_told_by_its_rows_text(real_open_llm: Path) -> None:
    assert "_" in first_questions("open-llm-1", "winogrande", real_open_llm)
