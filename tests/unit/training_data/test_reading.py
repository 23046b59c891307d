"""Rows of training data: read, chosen, cleaned, and told with their line where they are bad or left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_hub import fake_hub
from tiny_data import DIALOGUES, PAIRS, write_jsonl

from zephyr_bench.errors import UserError
from zephyr_bench.recipe import DataSource, Recipe
from zephyr_bench.training_data.reading import (
    StageData,
    read_dialogues,
    read_pairs,
    read_prompts,
    read_recipe,
    write_left_out,
)

MakeRecipe = Callable[..., Recipe]


def pairs_of(rows: list[dict[str, Any]], tmp_path: Path, make_recipe: MakeRecipe) -> Any:
    path = write_jsonl(tmp_path / "given.jsonl", rows)
    return read_pairs(DataSource(file=path), recipe=make_recipe()).items


def test_handbook_pairs_are_read(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    pairs = pairs_of(PAIRS, tmp_path, make_recipe)
    assert len(pairs) == 6
    assert pairs[0].prompt == ({"role": "user", "content": "Name colour 0."},)
    assert pairs[0].chosen == {"role": "assistant", "content": "Blue 0."}


def test_plain_text_pairs_are_read(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    (pair,) = pairs_of([{"prompt": "Hi", "chosen": "Hello.", "rejected": "No."}], tmp_path, make_recipe)
    assert (pair.prompt[0]["content"], pair.chosen["content"], pair.rejected["role"]) == ("Hi", "Hello.", "assistant")


def test_a_parquet_file_that_is_damaged_inside_is_told(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "dialogues.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(DIALOGUES), path, compression="snappy")
    whole = bytearray(path.read_bytes())
    whole[4:60] = b"\xff" * 56  # the first page; the footer stays
    path.write_bytes(whole)
    with pytest.raises(UserError, match=r"dialogues\.parquet row 1: can't be read: "):
        read_dialogues(DataSource(file=path), recipe=make_recipe())


def test_parquet_gives_the_same_as_json_lines(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(DIALOGUES), tmp_path / "dialogues.parquet")
    recipe = make_recipe()
    lines = read_dialogues(DataSource(file=Path("dialogues.jsonl")), recipe=recipe)
    parquet = read_dialogues(DataSource(file=Path("dialogues.parquet")), recipe=recipe)
    assert parquet.items == lines.items
    assert parquet.places[1] == f"{tmp_path / 'dialogues.parquet'} row 2"


def test_limit_takes_the_first_rows(make_recipe: MakeRecipe) -> None:
    source = DataSource(file=Path("dialogues.jsonl"), limit=2)
    assert len(read_dialogues(source, recipe=make_recipe()).items) == 2


def test_another_number_of_rows_than_the_recipe_declares_is_an_error(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    with pytest.raises(UserError, match=r"dialogues.jsonl: holds 6 rows, and the recipe declares 7, so .*; set rows"):
        read_dialogues(DataSource(file=Path("dialogues.jsonl"), rows=7), recipe=recipe)
    for right in ({"rows": 6}, {"rows": 6, "weight": 0.5}, {"rows": 7, "limit": 6}):
        assert read_dialogues(DataSource(file=Path("dialogues.jsonl"), **right), recipe=recipe).items


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


def numbered(count: int, tmp_path: Path) -> Path:
    """Dialogues that say their line."""
    said = [[{"role": "user", "content": "?"}, {"role": "assistant", "content": str(n)}] for n in range(1, count + 1)]
    return write_jsonl(tmp_path / "numbered.jsonl", [{"messages": messages} for messages in said])


def lines_of(source: DataSource, recipe: Recipe) -> list[int]:
    return [int(dialogue.messages[1]["content"]) for dialogue in read_dialogues(source, recipe=recipe).items]


@pytest.mark.parametrize("weight", [0.01, 0.25, 0.999])
def test_a_share_is_the_rows_that_the_handbooks_mixer_takes(
    weight: float, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    from datasets import Dataset

    path = numbered(200, tmp_path)
    shuffled = Dataset.from_dict({"line": list(range(1, 201))}).shuffle(seed=7)
    expected = shuffled.select(range(int(200 * weight)))["line"]
    assert lines_of(DataSource(file=path, weight=weight), make_recipe(seed=7)) == list(expected)


def test_a_share_is_the_seeds_and_keeps_its_places(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    source = DataSource(file=numbered(50, tmp_path), weight=0.4)
    rows = read_dialogues(source, recipe=make_recipe(seed=1))
    assert rows == read_dialogues(source, recipe=make_recipe(seed=1))
    assert rows.items != read_dialogues(source, recipe=make_recipe(seed=2)).items
    said = [dialogue.messages[1]["content"] for dialogue in rows.items]
    assert [place.rpartition(" ")[2] for place in rows.places] == said


def test_a_share_is_of_the_first_rows(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    drawn = lines_of(DataSource(file=numbered(50, tmp_path), limit=10, weight=0.5), make_recipe())
    assert len(drawn) == 5
    assert max(drawn) <= 10


def test_all_rows_stay_in_the_files_order(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    assert lines_of(DataSource(file=numbered(9, tmp_path)), make_recipe()) == list(range(1, 10))


def test_a_share_of_no_row_is_told(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    with pytest.raises(UserError, match=r"numbered.jsonl: weight 0.1 of its 9 rows is none; raise weight"):
        lines_of(DataSource(file=numbered(9, tmp_path), weight=0.1), make_recipe())


def spoiled(tmp_path: Path, bad: int) -> Path:
    """A good row, then bad ones of two kinds, then a good row."""
    good = json.dumps(DIALOGUES[0])
    lines = [good, *("{oops" if n % 2 else '{"messages": []}' for n in range(bad)), good]
    path = tmp_path / "spoiled.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_all_bad_rows_are_told_at_once(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    path = spoiled(tmp_path, bad=13)
    with pytest.raises(UserError) as told:
        read_dialogues(DataSource(file=path), recipe=make_recipe())
    lines = str(told.value).splitlines()
    assert lines[0] == "13 rows are bad; mend them, or have them left out by bad_rows: leave-out:"
    assert lines[1].startswith(f"  - {path} line 2: messages: List should have at least 2 items")
    assert lines[2].startswith(f"  - {path} line 3: malformed JSON")
    assert lines[-1] == "  - and 3 more"
    assert len(lines) == 12


def test_bad_rows_of_a_shuffled_share_are_told_by_line(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    path = spoiled(tmp_path, bad=8)
    with pytest.raises(UserError) as told:
        read_dialogues(DataSource(file=path, weight=0.9), recipe=make_recipe())
    numbers = [int(line.split(" line ")[1].split(":")[0]) for line in str(told.value).splitlines()[1:]]
    assert numbers == sorted(numbers)
    assert len(numbers) > 5


def test_bad_rows_can_be_left_out_and_are_listed(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    path = spoiled(tmp_path, bad=3)
    rows = read_dialogues(DataSource(file=path, bad_rows="leave-out"), recipe=make_recipe())
    assert len(rows.items) == 2
    assert rows.told() == "3 rows left out (3 bad row)"
    write_left_out(tmp_path / "out", StageData(rows))
    listed = [json.loads(line) for line in (tmp_path / "out" / "left_out.jsonl").read_text().splitlines()]
    assert [row["row"] for row in listed] == [f"{path} line {number}" for number in (2, 3, 4)]
    assert listed[1]["reason"].startswith("malformed JSON")
    assert {row["kind"] for row in listed} == {"bad row"}
    write_left_out(tmp_path / "out", StageData(read_dialogues(DataSource(file=path, limit=1), recipe=make_recipe())))
    assert not (tmp_path / "out" / "left_out.jsonl").exists(), "an old list stays where nothing is left out"


def test_a_source_whose_rows_are_all_left_out_is_told(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", [{"messages": []}, {}])
    with pytest.raises(UserError, match=r"line 1: messages.*and no row of 2 is left to learn from"):
        read_dialogues(DataSource(file=path, bad_rows="leave-out"), recipe=make_recipe())


def test_dialogues_are_cleaned_as_ultrachat_was(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    chats = [("hello. how are you?", "fine. thanks."), ("Are you sad?", "As an AI, I do not have emotions.")]
    rows = [
        {"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": reply}]}
        for said, reply in chats
    ]
    source = DataSource(file=write_jsonl(tmp_path / "chats.jsonl", rows), clean=("true-case", "refusals"))
    cleaned = read_dialogues(source, recipe=make_recipe())
    (kept,) = cleaned.items
    assert [message["content"] for message in kept.messages] == ["Hello. How are you?", "fine. thanks."]
    (left_out,) = cleaned.left_out
    assert (left_out.place.rpartition(" ")[2], left_out.kind, left_out.reason) == (
        "2",
        "refusal",
        "a reply says 'As an AI'",
    )
    assert cleaned.told() == "1 rows left out (1 refusal); 1 prompts all in lower case got their capitals"


def test_pairs_of_one_prompt_are_told_apart_across_sources(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    row = {"prompt": "Hi", "prompt_id": "p", "chosen": "Hello.", "rejected": "No."}
    source = DataSource(file=write_jsonl(tmp_path / "p.jsonl", [row]))
    assert [pair.id for pair in read_pairs(source, source, recipe=make_recipe()).items] == ["p", "p#2"]


def test_a_whole_recipe_is_read_by_stage(make_recipe: MakeRecipe) -> None:
    dialogues, pairs = {"file": "dialogues.jsonl"}, {"file": "pairs.jsonl"}
    training = {"learning_rate": 1e-3, "global_batch": 4}
    recipe = make_recipe(
        dsft={**training, "data": [dialogues], "held_out": {**dialogues, "limit": 1}},
        dsft2={**training, "data": [{**dialogues, "limit": 2}]},
        ddpo={**training, "data": [pairs], "beta": 0.1},
    )
    data = read_recipe(recipe)
    assert {stage: (len(d.train.items), len(d.held_out.items)) for stage, d in data.items()} == {
        "dsft": (6, 1),
        "dsft2": (2, 0),
        "ddpo": (6, 0),
    }


CARD = """\
---
configs:
- {config_name: default, data_files: [{split: train, path: one.jsonl}]}
- {config_name: second, data_files: [{split: train, path: one.jsonl}, {split: few, path: few.jsonl}]}
---
"""


def test_a_hub_data_set_is_read_by_configuration_and_split(
    tmp_path: Path, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "owner" / "chats"  # in the hub's layout: datasets takes its place for a name
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    write_jsonl(folder / "one.jsonl", DIALOGUES)
    write_jsonl(folder / "few.jsonl", DIALOGUES[2:4])
    source = DataSource(hub=str(folder), config="second", split="few")
    rows = read_dialogues(source, recipe=make_recipe())
    assert [dialogue.messages[0]["content"] for dialogue in rows.items] == ["Say blue.", "Say yellow."]
    assert rows.places[1] == f"{folder} (second, few) row 2"
    with pytest.raises(UserError, match=r"chats, configuration third, split few, can't be loaded"):
        read_dialogues(source.model_copy(update={"config": "third"}), recipe=make_recipe())


def test_a_hub_data_set_is_asked_for_by_its_revision(
    tmp_path: Path, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    asked: list[str] = []

    def reply(path: str) -> bytes | None:
        asked.append(path)
        return None  # there is no such data set

    source = DataSource(hub="someone/chats", split="few", revision="v1.2")
    with fake_hub(reply, commit=lambda: "0" * 40) as address:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # this hub is on this machine
        monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
        files_at = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", files_at)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr("datasets.config.HF_ENDPOINT", address)
        with pytest.raises(UserError, match=r"someone/chats, revision v1.2, split few, can't be loaded"):
            read_dialogues(source, recipe=make_recipe())
    assert any("v1.2" in path for path in asked), asked
