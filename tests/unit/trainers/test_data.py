from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_data import DIALOGUES, PAIRS, write_jsonl

from zephyr_bench.errors import UserError
from zephyr_bench.recipe import DataSource, Recipe
from zephyr_bench.trainers.data import read_dialogues, read_pairs, read_prompts

MakeRecipe = Callable[..., Recipe]


def pairs_of(rows: list[dict[str, Any]], tmp_path: Path, make_recipe: MakeRecipe) -> Any:
    path = write_jsonl(tmp_path / "given.jsonl", rows)
    return read_pairs(DataSource(file=path), recipe=make_recipe())


def test_handbook_pairs_are_read(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    pairs = pairs_of(PAIRS, tmp_path, make_recipe)
    assert len(pairs) == 6
    assert pairs[0].prompt == ({"role": "user", "content": "Name colour 0."},)
    assert pairs[0].chosen == {"role": "assistant", "content": "Blue 0."}


def test_plain_text_pairs_are_read(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    (pair,) = pairs_of([{"prompt": "Hi", "chosen": "Hello.", "rejected": "No."}], tmp_path, make_recipe)
    assert (pair.prompt[0]["content"], pair.chosen["content"], pair.rejected["role"]) == ("Hi", "Hello.", "assistant")


def test_parquet_gives_the_same_as_json_lines(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(DIALOGUES), tmp_path / "dialogues.parquet")
    recipe = make_recipe()
    lines = read_dialogues(DataSource(file=Path("dialogues.jsonl")), recipe=recipe)
    assert read_dialogues(DataSource(file=Path("dialogues.parquet")), recipe=recipe) == lines


def test_limit_takes_the_first_rows(make_recipe: MakeRecipe) -> None:
    assert len(read_dialogues(DataSource(file=Path("dialogues.jsonl"), limit=2), recipe=make_recipe())) == 2


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": "Hi", "chosen": "Yes.", "rejected": "Yes. "}, "line 2: chosen and rejected are the same text"),
        ({"prompt": "Hi", "chosen": "Yes."}, "line 2: key 'rejected' is missing"),
        ({"prompt": "Hi", "chosen": "", "rejected": "No"}, "line 2: chosen"),
        (
            {"prompt": "Hi", "chosen": [{"role": "user", "content": "x"}], "rejected": "No"},
            "line 2: chosen ends with a message of the user",
        ),
    ],
)
def test_a_bad_pair_names_file_line_and_key(
    row: dict[str, Any], told: str, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    with pytest.raises(UserError, match=f"given.jsonl {told}"):
        pairs_of([PAIRS[0], row], tmp_path, make_recipe)


def test_an_empty_data_set_is_told(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    with pytest.raises(UserError, match="holds no rows"):
        pairs_of([], tmp_path, make_recipe)


def test_malformed_json_names_the_line(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(DIALOGUES[0]) + "\n{oops\n")
    with pytest.raises(UserError, match=r"bad\.jsonl line 2: malformed JSON"):
        read_dialogues(DataSource(file=path), recipe=make_recipe())


def test_a_dialogue_without_an_assistant_is_told(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    alone = {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}
    path = write_jsonl(tmp_path / "d.jsonl", [alone])
    with pytest.raises(UserError, match="line 1: no message of the assistant"):
        read_dialogues(DataSource(file=path), recipe=make_recipe())


def test_prompts_with_bad_checks_name_the_line(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    path = write_jsonl(tmp_path / "p.jsonl", [{"prompt": "x", "checks": [{"check": "wordz"}]}])
    with pytest.raises(UserError, match="line 1, checks"):
        read_prompts(DataSource(file=path), recipe=make_recipe())
