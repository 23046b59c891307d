"""The question sets and training data that we wrote: whole, checkable, and apart from each other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zephyr_bench import catalogue
from zephyr_bench.benchmarks.questions import read_questions
from zephyr_bench.expectations import parse_checks
from zephyr_bench.judges.checks import share_met

TRAINING = sorted((catalogue.root() / "trainers" / "smol").glob("*.jsonl"))
EVALUATION = [
    path
    for name in ("mt-bench-mini", "alpaca-eval-mini", "open-llm-mini")
    for path in sorted((catalogue.root() / "benchmarks" / name).rglob("*.jsonl"))
]
WINDOW = 8  # words; GPT-3's decontamination used 13, a shorter run is stricter


def rows(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def texts(value: Any) -> Iterator[str]:
    """Every text that a model could be shown or taught: all strings but those of checks and ids."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in ("checks", "id", "prompt_id", "ind", "source_id", "split", "split_type", "category", "role"):
                yield from texts(item)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def runs_of_words(path: Path) -> set[tuple[str, ...]]:
    found = set()
    for row in rows(path):
        for text in texts(row):
            said = words(text)
            found.update(tuple(said[i : i + WINDOW]) for i in range(len(said) - WINDOW + 1))
    return found


def prompts(path: Path) -> Iterator[str]:
    """What a model is asked: the user's side only."""
    for row in rows(path):
        if "messages" in row:
            yield from (message["content"] for message in row["messages"] if message["role"] == "user")
        elif "turns" in row:
            yield from row["turns"]
        else:
            yield next(row[key] for key in ("prompt", "question", "ctx") if key in row)


@pytest.mark.parametrize("training", TRAINING, ids=lambda path: path.name)
def test_training_shares_no_run_of_eight_words_with_evaluation(training: Path) -> None:
    taught = runs_of_words(training)
    assert taught
    for path in EVALUATION:
        assert not taught & runs_of_words(path), path


def test_no_evaluation_question_is_asked_in_training() -> None:
    taught = {" ".join(words(prompt)) for path in TRAINING for prompt in prompts(path)}
    asked = {" ".join(words(prompt)) for path in EVALUATION for prompt in prompts(path)}
    assert len(asked) > 300
    assert not taught & asked


def test_no_evaluation_question_is_nearly_one_of_training() -> None:
    """More than three quarters of a question's runs of three words in one training prompt would be a paraphrase."""

    def triples(text: str) -> set[tuple[str, ...]]:
        said = words(text)
        return {tuple(said[i : i + 3]) for i in range(len(said) - 2)}

    taught = [triples(prompt) for path in TRAINING for prompt in prompts(path)]
    for path in EVALUATION:
        for prompt in prompts(path):
            asked = triples(prompt)
            nearest = max((len(asked & other) / len(asked) for other in taught if asked), default=0)
            assert nearest <= 0.75, prompt


def test_held_out_prompts_are_not_trained_on() -> None:
    folder = catalogue.root() / "trainers" / "smol"
    held_out = {" ".join(words(prompt)) for prompt in prompts(folder / "prompts.test.jsonl")}
    trained = {
        " ".join(words(prompt))
        for name in ("prompts.train.jsonl", "dialogues.jsonl")
        for prompt in prompts(folder / name)
    }
    assert not held_out & trained


def test_mt_bench_mini_has_four_two_turn_questions_in_each_category() -> None:
    questions = [
        question for _, question in read_questions(catalogue.root() / "benchmarks/mt-bench-mini/questions.jsonl")
    ]
    categories = [question.category for question in questions]
    assert {categories.count(category) for category in set(categories)} == {4}
    assert set(categories) == {
        *("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"),
    }
    assert all(len(question.turns) == len(question.checks) == 2 for question in questions)
    assert all(all(checks for checks in question.checks) for question in questions)


def test_every_reference_of_mt_bench_mini_meets_all_its_checks() -> None:
    for _, question in read_questions(catalogue.root() / "benchmarks/mt-bench-mini/questions.jsonl"):
        assert len(question.reference) == 2, question.id
        for turn, (reference, checks) in enumerate(zip(question.reference, question.checks, strict=True), start=1):
            assert share_met(reference, parse_checks(checks)) == 1, (question.id, turn)


def test_alpaca_eval_mini_has_baselines_of_mixed_quality() -> None:
    shares = []
    for row, question in read_questions(catalogue.root() / "benchmarks/alpaca-eval-mini/instructions.jsonl"):
        assert row.output is not None
        shares.append(share_met(row.output, parse_checks(question.checks[0])))
    assert len(shares) == 48
    assert 0.25 <= sum(share == 1 for share in shares) / len(shares) <= 0.75


def test_open_llm_mini_has_forty_short_rows_a_task() -> None:
    folder = catalogue.root() / "benchmarks" / "open-llm-mini"
    sizes = {
        path.name: len(list(rows(path)))
        for path in folder.rglob("*.jsonl")
        if "test" in path.name or path.name.endswith("validation.jsonl")
    }
    asked = {name: size for name, size in sizes.items() if size > 10}
    assert len(asked) == 6
    assert set(asked.values()) == {40}
    longest = max(len(" ".join(texts(row))) for path in folder.rglob("*.jsonl") for row in rows(path))
    assert longest < 1500
