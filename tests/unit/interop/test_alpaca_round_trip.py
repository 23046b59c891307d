"""Import, export, import: every row comes back as it was, and nothing is added."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from alpaca_eval_rows import OF_VERSION, Row, annotation, output, put, read, write
from fastchat_files import multiset
from hypothesis import given, settings
from hypothesis import strategies as st

from zephyr_bench.interop.alpaca_export import export_alpaca_eval
from zephyr_bench.store import Store


@pytest.fixture(autouse=True, scope="module")
def _no_hub() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


def there_and_back(folder: Path, *paths: Path) -> tuple[list[Row], list[Row]]:
    """All annotations and outputs that an export of each run writes. Checks that reading them again adds nothing."""
    annotations: list[Row] = []
    outputs: list[Row] = []
    with Store(f"sqlite:///{folder / 'first.db'}") as first, Store(f"sqlite:///{folder / 'second.db'}") as second:
        put(first, *paths)
        for run in first.runs():
            out = folder / run.id
            export_alpaca_eval(first, [run.id], out)
            files = sorted(out.rglob("*.json"))
            assert [done.new for done in put(first, *files)] == [False]
            (again,) = put(second, *files)
            assert again.new
            assert second.samples_of(again.run) == first.samples_of(run.id)
            assert second.scores_of([again.run])[again.run] == first.scores_of([run.id])[run.id]
            assert {j.key for j in second.judgments_of(again.run)} == {j.key for j in first.judgments_of(run.id)}
            annotations += [row for path in out.rglob("annotations.json") for row in read(path)]
            outputs += [row for path in out.rglob("model_outputs.json") for row in read(path)]
    return annotations, outputs


def test_real_rows_come_back(real_alpaca_eval: Path, tmp_path: Path) -> None:
    paths = sorted(real_alpaca_eval.glob("*.gz"))
    whole = [row for path in paths for row in json.loads(gzip.decompress(path.read_bytes()))]
    annotations, outputs = there_and_back(tmp_path, *paths)
    assert multiset(annotations) == multiset(row for row in whole if "preference" in row)
    assert Counter(multiset(outputs)) >= Counter(multiset(row for row in whole if "output" in row))


@pytest.mark.parametrize("text", ["\ud800 alone \udfff", "\x00 \x10d800 \x1b[0m", "é" * 100_000, "", " \r\n\u2028"])
def test_hostile_texts_come_back(text: str, tmp_path: Path) -> None:
    rows = [annotation(instruction=text, output_1=text, output_2=text + "!", raw_completion=text, note={text: [text]})]
    files = [write(tmp_path / "a.json", rows), write(tmp_path / "o.json", [output(output=text, model=text or "n")])]
    annotations, outputs = there_and_back(tmp_path, *files)
    assert annotations == rows
    assert output(output=text, model=text or "n") in outputs


TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=3,
)
BESIDE = st.dictionaries(TEXT.map(lambda name: f"x_{name}"), JSON, max_size=2)
MODELS = st.sampled_from(["m", "org/m", "M", "é\ud800", ".", "text_davinci_003"])
ASKED = st.sampled_from(["Why?", "why?", "\ud800", "", "Why? "])
PREFERENCES = st.sampled_from([None, 0, 0.0, 1, 1.0, 1.5, 2, 2.0, 1.25, 1.0000001]) | st.floats(1, 2)


@st.composite
def annotations(draw: st.DrawFn) -> Row:
    baseline, judge = OF_VERSION[draw(st.sampled_from([1, 2]))]
    row = {
        "instruction": draw(ASKED),
        "output_1": draw(TEXT),
        "generator_1": baseline,
        "output_2": draw(TEXT),
        "generator_2": draw(MODELS),
        "annotator": draw(st.sampled_from([judge, "chat/gpt"])),
        "preference": draw(PREFERENCES),
    }
    dataset = draw(st.sampled_from([{}, {"dataset": None}, {"dataset": "koala"}, {"dataset": "\x00"}]))
    replies = {key: draw(JSON) for key in ("raw_completion", "preference_raw_completion") if draw(st.booleans())}
    return {**row, **dataset, **replies, **draw(BESIDE)}


@st.composite
def outputs(draw: st.DrawFn) -> Row:
    row = {"instruction": draw(ASKED), "output": draw(TEXT), "generator": draw(st.sampled_from(["m", "o", "org/m"]))}
    return {**row, **draw(BESIDE)}


@settings(max_examples=15, deadline=None)
@given(judged=st.lists(annotations(), max_size=8), answered=st.lists(outputs(), max_size=6))
def test_any_rows_come_back(judged: Sequence[Row], answered: Sequence[Row]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"a.jsonl": judged, "o.json": answered}
        paths = [write(folder / name, rows) for name, rows in files.items() if rows]
        if not paths:
            return
        found, generated = there_and_back(folder, *paths)
        assert multiset(found) == multiset(judged)
        assert Counter(multiset(generated)) >= Counter(multiset(answered))
