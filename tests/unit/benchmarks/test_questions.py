"""Question files: both forms are read, and a bad line is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.mt_bench import MtBench
from zephyr_bench.benchmarks.questions import read_questions
from zephyr_bench.errors import UserError

GOOD = {"id": "a", "category": "math", "turns": ["1+1?"], "checks": [[{"check": "number", "value": 2}]]}


def write(folder: Path, *rows: object) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"id": "b"\n', r"line 2: malformed JSON"),
        ("[1]\n", r"line 2: expected a JSON object, found list"),
        ({"id": "b", "turns": ["x"]}, r"line 2: key 'category' is missing"),
        ({"id": "b", "category": "c", "turns": []}, r"line 2: turns:"),
        ({"id": "b", "category": "c", "turns": ["  "]}, r"line 2: a turn is empty"),
        ({**GOOD}, r"line 2: id 'a' stands in line 1 already"),
        ({**GOOD, "id": "b", "checks": []}, None),
        ({**GOOD, "id": "b", "checks": [[], []]}, r"line 2: 1 turns but 2 lists of checks"),
        ({**GOOD, "id": "b", "checks": [[{"check": "nonsense"}]]}, r"line 2, checks of turn 1"),
        (
            {**GOOD, "id": "b", "checks": [[{"check": "words"}]]},
            r"line 2, checks of turn 1: .*needs min or max",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: object, message: str | None) -> None:
    path = write(tmp_path, GOOD, row)
    if message is None:
        assert len(read_questions(path)) == 2
        return
    with pytest.raises(UserError, match=message):
        read_questions(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no questions"):
        read_questions(write(tmp_path))


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n\xff\xfe\n")
    with pytest.raises(UserError, match="is not UTF-8"):
        read_questions(path)


def test_the_real_mt_bench_has_80_questions_with_references_for_30() -> None:
    benchmark = open_benchmark("mt-bench")
    assert isinstance(benchmark, MtBench)
    assert len(benchmark.questions) == 80
    assert sum(bool(question.reference) for question in benchmark.questions) == 30
    assert {question.category for question in benchmark.questions if question.reference} == {
        "math",
        "reasoning",
        "coding",
    }
    assert benchmark.size(None) == {"questions": 80, "answers": 160, "judgments": 160, "max_new_tokens": 1024}


def test_mt_bench_temperatures_are_those_of_the_installed_fastchat() -> None:
    from fastchat.llm_judge.common import temperature_config

    benchmark = open_benchmark("mt-bench")
    assert isinstance(benchmark, MtBench)
    for question in benchmark.questions:
        assert benchmark.sampling(question).temperature == temperature_config[question.category]
