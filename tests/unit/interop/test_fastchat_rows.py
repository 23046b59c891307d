"""What a FastChat row is, of any release, and what is said of one that is none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from fastchat_files import QUESTIONS, answer, pair, single, write

from zephyr_bench.errors import UserError
from zephyr_bench.interop.fastchat_rows import PairRow, SingleRow, read_rows


def refused(path: Path) -> str:
    with pytest.raises(UserError) as error:
        read_rows([path])
    return str(error.value).replace(str(path), "FILE")


def without(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


def test_the_content_says_what_a_file_is_and_not_its_name(tmp_path: Path) -> None:
    zipped = tmp_path / "question.jsonl"  # neither questions nor, by its name, zipped
    zipped.write_bytes(gzip.compress(json.dumps(single()).encode()))
    paths = [
        zipped,
        write(tmp_path / "gpt-4_single.jsonl", [answer()]),
        write(tmp_path / "m.jsonl", [pair("a", "b", ("tie", "tie"))]),
        write(tmp_path / "gpt-4_pair.jsonl", QUESTIONS),
    ]
    rows = read_rows(paths)
    assert [len(found) for found in (rows.questions, rows.answers, rows.singles, rows.pairs)] == [3, 1, 1, 1]


def test_a_file_given_twice_counts_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [single(), single()])
    copy = tmp_path / "a.jsonl.gz"
    copy.write_bytes(gzip.compress(path.read_bytes()))
    assert len(read_rows([path, copy, path]).singles) == 2


@pytest.mark.parametrize(
    ("judge", "turn", "expected"),
    [
        (["gpt-4", "single-v1"], None, ("gpt-4", "single-v1", 1)),
        (["gpt-4", "single-math-v1-multi-turn"], None, ("gpt-4", "single-math-v1-multi-turn", 2)),
        ("gpt-4", None, ("gpt-4", None, 1)),
        ("gpt-4", 2, ("gpt-4", None, 2)),
        (["gpt-4"], 1, ("gpt-4", None, 1)),
    ],
)
def test_a_judge_is_a_pair_or_a_name_and_the_turn_may_be_told_by_the_prompt(
    judge: Any, turn: int | None, expected: tuple[str, str | None, int]
) -> None:
    row = SingleRow.model_validate({**single(), "judge": judge, "turn": turn})
    assert (row.judge_name, row.prompt, row.judged_turn) == expected


@pytest.mark.parametrize(
    ("told", "winners"),
    [
        ({"g1_winner": "model_1", "g2_winner": "tie"}, ("model_1", "tie")),
        ({"winner": "model_2"}, ("model_2", "model_2")),
        ({"winner": "error"}, ("error", "error")),
        ({"winner": "inconsistent"}, None),
        ({"g1_winner": "tie", "g2_winner": "error", "winner": "tie"}, ("tie", "error")),  # show_result reads these
    ],
)
def test_winners_stand_for_each_order_or_once_for_both(told: dict[str, str], winners: Any) -> None:
    row = without(pair("a", "b", ("tie", "tie")), "g1_winner", "g2_winner")
    assert PairRow.model_validate({**row, **told}).winners == winners


def test_a_choice_counts_by_its_place_as_fastchats_judge_takes_it(tmp_path: Path) -> None:
    choices = [{"turns": ["a"]}, {"index": 4, "turns": ["b"]}]
    rows = read_rows([write(tmp_path / "a.jsonl", [{**answer(), "choices": choices}])])
    assert rows.answers[0].row.chosen == [(0, ("a",)), (1, ("b",))]


def test_the_oldest_answers_and_questions_have_one_text(tmp_path: Path) -> None:
    old = {"question_id": 1, "text": "hello", "answer_id": "x", "model": "alpaca-13b:v1", "metadata": {}}
    asked = {"question_id": 1, "text": "Say hello.", "category": "generic"}
    rows = read_rows([write(tmp_path / "a.jsonl", [old]), write(tmp_path / "q.jsonl", [asked])])
    assert (rows.answers[0].row.model, rows.answers[0].row.chosen) == ("alpaca-13b:v1", [(0, ("hello",))])
    assert rows.questions[0].row.asked == ("Say hello.",)


def test_lines_of_two_kinds_in_a_file_are_refused(tmp_path: Path) -> None:
    message = refused(write(tmp_path / "a.jsonl", [single(), single(), answer()]))
    assert message == (
        "FILE line 3: found an answer (question_id, model_id, choices), expected a judgment (question_id, model, "
        "judge, score) as in the lines before."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}', "FILE line 1: expected a question (question_id, category, turns), an answer"),
        ("", "FILE: holds no rows; expected a question"),
        ("[1]", "FILE line 1: expected a JSON object, found list."),
        ('{"score": 1', "FILE line 1: malformed JSON"),
        (json.dumps(single()) + '\n\n{"score": NaN}', "FILE line 3: malformed JSON: NaN is not a number"),
        ('{"score": 1e999}', "FILE line 1: malformed JSON: 1e999 is too large"),
    ],
)
def test_a_line_that_is_no_row_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text, encoding="utf-8")
    assert refused(path).startswith(message)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (without(single(), "score"), "FILE line 2: key 'score' is missing."),
        (without(single(), "model"), "FILE line 2: key 'model' is missing."),
        (without(single(), "question_id"), "FILE line 2: key 'question_id' is missing."),
        (single(score="7"), "FILE line 2: score: expected a number or null, found '7'."),  # type: ignore[arg-type]
        (single(score=True), "FILE line 2: score"),
        (single(score=10**400), "FILE line 2: score: too large a number"),
        (single(turn=0), "FILE line 2: turn: Input should be greater than or equal to 1, found 0."),
        (single(judge=[]), "FILE line 2: judge"),
    ],
)
def test_a_missing_or_wrong_key_of_a_judgment_is_named(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert refused(write(tmp_path / "a.jsonl", [single(), row])).startswith(message)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (pair("a", "a", ("tie", "tie")), "model_1 and model_2 are both 'a'"),
        (pair("a", "b", ("tie", "A")), "g2_winner"),
        (without(pair("a", "b", ("tie", "tie")), "g2_winner"), "key 'g2_winner' is missing"),
        (without(pair("a", "b", ("tie", "tie")), "model_2"), "key 'model_2' is missing"),
        (without(answer(), "model_id"), "key 'model_id' is missing"),
        ({**answer(), "choices": [{"index": 0, "turns": []}]}, "choices.0.turns"),
        ({"question_id": 1, "category": "x"}, "key 'turns' is missing"),
    ],
)
def test_a_missing_or_wrong_key_of_another_row_is_named(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    told = refused(write(tmp_path / "a.jsonl", [row]))
    assert told.startswith("FILE line 1: ")
    assert message in told


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent.jsonl") == "FILE: can't be read: No such file or directory."
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(json.dumps(single()).encode())[:-12])
    assert refused(cut).startswith("FILE: is not a whole gzip file")
    binary = tmp_path / "latin.jsonl"
    binary.write_bytes(json.dumps(single()).encode() + b'\r\n{"text": "\xe9"}\n')
    assert refused(binary) == "FILE line 2: is not UTF-8 text."
