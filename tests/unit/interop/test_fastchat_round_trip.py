"""Import, export, import: every row comes back as it was, and a second store holds the same."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fastchat_files import QUESTIONS, Row, answer, multiset, pair, put, read, single, told, write
from hypothesis import given, settings
from hypothesis import strategies as st

from zephyr_bench.interop.fastchat_export import export_fastchat
from zephyr_bench.store import Store


def there_and_back(folder: Path, *paths: Path) -> Path:
    """The export of all runs of those files. Checks that another store made of it holds the same."""
    with Store(f"sqlite:///{folder / 'first.db'}") as first, Store(f"sqlite:///{folder / 'second.db'}") as second:
        put(first, *paths)
        export_fastchat(first, [run.id for run in first.runs()], folder / "out")
        put(second, *sorted((folder / "out").rglob("*.jsonl")))
        assert told(second) == told(first)
        export_fastchat(second, [run.id for run in second.runs()], folder / "again")
    for path in (folder / "out").rglob("*.jsonl"):
        assert (folder / "again" / path.relative_to(folder / "out")).read_bytes() == path.read_bytes()
    return folder / "out"


def rows_below(folder: Path, pattern: str) -> list[Row]:
    return [row for path in sorted(folder.glob(pattern)) for row in read(path)]


def test_real_judgments_and_answers_come_back(real_mt_bench: Path, tmp_path: Path) -> None:
    paths = sorted(real_mt_bench.glob("*.jsonl.gz"))
    whole = [json.loads(line) for path in paths for line in gzip.decompress(path.read_bytes()).splitlines()]
    out = there_and_back(tmp_path, *paths)
    assert multiset(rows_below(out, "model_judgment/*")) == multiset(row for row in whole if "judgment" in row)
    assert multiset(rows_below(out, "model_answer/*")) == multiset(row for row in whole if "choices" in row)


@pytest.mark.parametrize("text", ["\ud800 alone \udfff", "\x00 \x10d800 \x1b[0m", "é" * 100_000, "", " \r\n\u2028"])
def test_hostile_texts_come_back(text: str, tmp_path: Path) -> None:
    files = [[single(judgment=text, user_prompt=text, note={text: [text]})], [answer("m", 81, (text, text))]]
    files.append([pair("m", text or "b", ("tie", "tie"), g1_judgment=text, g2_judgment=text)])
    paths = [write(tmp_path / f"{number}.jsonl", rows) for number, rows in enumerate(files)]
    out = there_and_back(tmp_path, *paths)
    for row, kind in zip(files, ("model_judgment/*_single*", "model_answer/*", "model_judgment/*_pair*"), strict=True):
        assert rows_below(out, kind) == row


def test_questions_come_back_with_their_notes(tmp_path: Path) -> None:
    rows = [single("m", question["question_id"]) for question in QUESTIONS]
    out = there_and_back(tmp_path, write(tmp_path / "q.jsonl", QUESTIONS), write(tmp_path / "a.jsonl", rows))
    assert read(out / "question.jsonl") == QUESTIONS


TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=3,
)
# fields of someone's own, none of which FastChat knows
BESIDE = st.dictionaries(TEXT.map(lambda name: f"x_{name}"), JSON, max_size=2)
MODELS = st.sampled_from(["m", "org/m", "M", "é\ud800", "1"])
ASKED = st.sampled_from([81, "81", 101, "own-1"])
SCORES = st.sampled_from([-1, -1.0, 1, 7, 7.0, 8.5, 10, 0, None, 1e99, -3]) | st.integers(-(2**70), 2**70)
WINNERS = st.sampled_from(["model_1", "model_2", "tie", "error"])


@st.composite
def judges(draw: st.DrawFn, turn: int, *, kind: str) -> dict[str, Any]:
    """`judge`, and `turn` where it is told."""
    name = draw(st.sampled_from(["gpt-4", "claude/v1"]))
    prompt = draw(st.sampled_from([f"{kind}-v1", f"{kind}-math-v1"])) + ("-multi-turn" if turn == 2 else "")
    judge = draw(st.sampled_from([[name, prompt], [name], name, [name, prompt, "more"]]))
    told_by_prompt = turn == 1 or (isinstance(judge, list) and len(judge) > 1)
    return {"judge": judge, **({} if told_by_prompt and draw(st.booleans()) else {"turn": turn})}


@st.composite
def singles(draw: st.DrawFn) -> Row:
    reply = {"judgment": draw(TEXT)} if draw(st.booleans()) else {}
    row = {"question_id": draw(ASKED), "model": draw(MODELS), "score": draw(SCORES), **reply, **draw(BESIDE)}
    return {**row, **draw(judges(draw(st.sampled_from([1, 2])), kind="single"))}


@st.composite
def pairs(draw: st.DrawFn) -> Row:
    one, two = draw(st.lists(MODELS, min_size=2, max_size=2, unique=True))
    winners = draw(
        st.fixed_dictionaries({"g1_winner": WINNERS, "g2_winner": WINNERS})
        | st.fixed_dictionaries({"winner": WINNERS | st.just("inconsistent")})
    )
    replies = {key: draw(TEXT) for key in ("g1_judgment", "g2_judgment") if draw(st.booleans())}
    row = {"question_id": draw(ASKED), "model_1": one, "model_2": two, **winners, **replies, **draw(BESIDE)}
    return {**row, **draw(judges(draw(st.sampled_from([1, 2])), kind="pair"))}


@st.composite
def answers(draw: st.DrawFn) -> Row:
    row = {"question_id": draw(ASKED), draw(st.sampled_from(["model_id", "model"])): draw(MODELS), **draw(BESIDE)}
    if draw(st.booleans()):
        return {**row, "text": draw(TEXT), "metadata": {}}
    choices = []
    for index in draw(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True)):
        turns = draw(st.lists(TEXT, min_size=1, max_size=2))
        choices.append({"index": index, "turns": turns, **draw(BESIDE)})
    if draw(st.booleans()):
        choices = [{key: value for key, value in choice.items() if key != "index"} for choice in choices]
    return {**row, "choices": choices}


@settings(max_examples=20, deadline=None)
@given(
    graded=st.lists(singles(), max_size=8),
    compared=st.lists(pairs(), max_size=6),
    answered=st.lists(answers(), max_size=6),
)
def test_any_rows_come_back(graded: Sequence[Row], compared: Sequence[Row], answered: Sequence[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = {name: rows for name, rows in (("s", graded), ("p", compared), ("a", answered)) if rows}
        if not files:
            return
        paths = [write(Path(folder, f"{name}.jsonl"), rows) for name, rows in [*files.items(), ("q", QUESTIONS)]]
        out = there_and_back(Path(folder), *paths)
        assert multiset(rows_below(out, "model_judgment/*_single.jsonl")) == multiset(graded)
        assert multiset(rows_below(out, "model_judgment/*_pair.jsonl")) == multiset(compared)
        assert multiset(rows_below(out, "model_answer/*")) == multiset(answered)
