"""alpaca_eval's rows: what a file is, what is accepted in it, and what is refused, with its place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from alpaca_eval_rows import annotation, output, write

from zephyr_bench.errors import UserError
from zephyr_bench.interop.alpaca_rows import read_alpaca_rows


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz", "annotations.txt.gz", "model_outputs.json"])
def test_a_file_is_what_its_content_says(name: str, tmp_path: Path) -> None:
    rows = [annotation(0), annotation(1, None)]
    found = read_alpaca_rows([write(tmp_path / name, rows), write(tmp_path / "outputs", [output()])])
    assert [line.raw for line in found.annotations] == rows
    assert [[line.raw for line in lines] for lines in found.outputs] == [[output()]]
    assert found.annotations[1].place == f"{tmp_path / name} row 2"


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_byte_order_mark_is_passed_over(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, [output()])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [[line.raw for line in lines] for lines in read_alpaca_rows([path]).outputs] == [[output()]]


def test_the_first_generator_is_the_baseline(tmp_path: Path) -> None:
    (line,) = read_alpaca_rows([write(tmp_path / "a.json", [annotation(model="mine")])]).annotations
    assert (line.row.model, line.row.baseline) == ("mine", "text_davinci_003")


def test_pandas_nan_is_null_but_for_the_inside_of_a_reply(tmp_path: Path) -> None:
    reply = {"logprobs": [float("nan"), float("-inf")]}
    row = annotation(preference=float("nan"), price_per_example=float("nan"), raw_completion=reply, x=[float("nan")])
    path = write(tmp_path / "a.json", [row])
    assert "NaN" in path.read_text()
    (line,) = read_alpaca_rows([path]).annotations
    assert line.row.preference is None
    assert [line.raw[key] for key in ("preference", "price_per_example", "x")] == [None, None, [None]]
    assert json.dumps(line.raw["raw_completion"]) == json.dumps(reply)


def test_a_row_that_two_files_hold_is_one_row_and_one_that_stands_twice_is_two(tmp_path: Path) -> None:
    twice = [annotation(), annotation(), annotation(1)]
    paths = [write(tmp_path / "a.json", twice), write(tmp_path / "b.jsonl", [*twice, annotation(2)])]
    assert [line.raw["instruction"][-2:] for line in read_alpaca_rows(paths).annotations] == ["0.", "0.", "1.", "2."]


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in annotation().items() if name != key}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (without("preference"), "row 2: key 'preference' is missing."),
        (without("output_1"), "row 2: key 'output_1' is missing."),
        (without("annotator"), "row 2: key 'annotator' is missing."),
        (without("generator_2"), "row 2: key 'generator_2' is missing."),
        (annotation(generator_2=""), "row 2: generator_2: expected a name, found ''."),
        (annotation(output_2=None), "row 2: output_2: Input should be a valid string, found None."),
        (annotation(instruction=7), "row 2: instruction: Input should be a valid string, found 7."),
        (annotation(0, 3), "row 2: preference: expected 1 (output_1 is better) to 2 (output_2 is), 0 for a draw, or"),
        (annotation(0, 0.5), "row 2: preference: expected 1 (output_1 is better) to 2"),
        (annotation(0, -1), "row 2: preference: expected 1 (output_1 is better) to 2"),
        (annotation(0, True), "row 2: preference: expected a number or null, found True."),
        (annotation(0, "1"), "row 2: preference: expected a number or null, found '1'."),
        (annotation(0, float("inf")), "row 2: malformed JSON: Infinity is not a number that JSON has."),
        (output(), "row 2: found an output (instruction, output, generator), expected an annotation"),
        ({"a": 1, "b": 2}, "row 2: expected an annotation (instruction, output_1"),
        ({}, "found the keys (none)."),
    ],
)
def test_what_is_no_annotation_is_refused_with_file_and_row(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [annotation(1), row])
    with pytest.raises(UserError, match=re.escape(message)) as refused:
        read_alpaca_rows([path])
    assert str(refused.value).startswith(f"{path} row 2: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{]", "malformed JSON: "),
        ("[1]", "row 1: expected a JSON object, found int."),
        ("[]", "holds no rows; expected an annotation"),
        ("", "holds no rows; expected an annotation"),
        (
            '{"instruction": {"0": "a"}, "output": {"0": "b"}, "generator": {"0": "m"}}',
            "holds one JSON object; expected a list of rows, or JSON lines with a row on each.",
        ),
        ('{"columns": ["instruction"], "index": [0], "data": [["a"]]}', "holds one JSON object; expected a list"),
        ('{\n  "instruction": "a",\n  "output": "b"\n}', "holds one JSON object; expected a list of rows"),
        ('{"instruction": "a", "output": "b"}', "row 1: key 'generator' is missing."),
        ('[{"instruction": "a", "output": ["b"], "generator": "m"}]', "row 1: output: Input should be a valid string"),
        (f'[{{"output": "a", "x": {"[" * 100_000}{"]" * 100_000}}}]', "malformed JSON: "),
    ],
)
def test_what_is_no_file_of_rows_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(message)) as refused:
        read_alpaca_rows([path])
    assert str(refused.value).startswith(f"{path}")


def test_a_missing_dataset_is_none(tmp_path: Path) -> None:
    rows = [annotation(dataset=None), without("dataset")]
    assert [line.row.dataset for line in read_alpaca_rows([write(tmp_path / "a.json", rows)]).annotations] == ["", ""]
