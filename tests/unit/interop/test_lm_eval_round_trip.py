"""Import, export, import: scores and rows come back, whatever the texts are, and nothing is added."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval_files_made import Row, put, results, write, written_row

from zephyr_bench.interop.json_lines import objects_in
from zephyr_bench.interop.lm_eval_export import export_lm_eval
from zephyr_bench.store import Store


def there_and_back(folder: Path, *paths: Path, **options: Any) -> list[Row]:
    """The rows that an export of the run writes. Checks that reading it again adds nothing and gives the same."""
    with Store(f"sqlite:///{folder / 'first.db'}") as first, Store(f"sqlite:///{folder / 'second.db'}") as second:
        (run,) = put(first, *paths, **options)
        written = list(export_lm_eval(first, [run.run], folder / "out"))
        assert [done.new for done in put(first, *written, **options)] == [False]
        (again,) = put(second, *written, **options)
        assert second.samples_of(again.run) == first.samples_of(run.run)
        assert second.scores_of([again.run])[again.run] == first.scores_of([run.run])[run.run]
        samples = [path for path in written if path.name.startswith("samples_")]
        return [row for path in samples for _, row in objects_in(path.read_bytes(), path)]


TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=3,
)


@st.composite
def gsm8k(draw: st.DrawFn, number: int) -> list[Row]:
    """A document's rows: under both filters, or one."""
    replies = draw(st.lists(TEXT, min_size=1, max_size=2))
    prompt, doc = draw(TEXT), draw(JSON)
    found = []
    for name in draw(st.sampled_from([("strict-match",), ("strict-match", "flexible-extract")])):
        value = draw(st.sampled_from([0.0, 1.0, 0.25, None]))
        row = written_row(number, "", {"exact_match": value}, filter=name, task="gsm8k")
        options = {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": [draw(TEXT)]}}}
        found.append({**row, "doc": doc, "resps": [replies], "arguments": options, "target": draw(TEXT)})
    return found


@settings(max_examples=15, deadline=None)
@given(data=st.data(), documents=st.lists(st.integers(0, 50), min_size=1, max_size=4, unique=True))
def test_any_written_rows_come_back(data: st.DataObject, documents: Sequence[int]) -> None:
    of_each = [data.draw(gsm8k(number)) for number in documents]
    by_filter = [rows[place] for place in range(2) for rows in of_each if place < len(rows)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graded = [row["exact_match"] for row in by_filter if row["filter"] == "strict-match"]
        known = [value for value in graded if value is not None]
        told = results({"gsm8k": [written_row(0, "", {"exact_match": 1.0}, filter="strict-match")]}, task_hashes={})
        mean = sum(known) / len(known) if known else None
        told["results"]["gsm8k"]["exact_match,strict-match"] = mean
        paths = write(folder / "r.json", told), write(folder / "samples_gsm8k_1.jsonl", by_filter)
        assert there_and_back(folder, *paths) == by_filter


@pytest.mark.parametrize("text", ["\ud800 alone \udfff", "\x00 \x10d800 \x1b[0m", "é" * 100_000, "", " \r\n\u2028"])
def test_hostile_texts_come_back(text: str, tmp_path: Path) -> None:
    row = written_row(0, text, {"exact_match": 1.0}, filter="strict-match", task="gsm8k")
    row |= {"target": text, "doc": {text: text}, "arguments": [[text, {"until": [text]}]]}
    path = write(tmp_path / "m" / "samples_gsm8k_1.jsonl", [row])
    assert there_and_back(tmp_path, path, benchmark="open-llm-1", model=text or "m") == [row]
