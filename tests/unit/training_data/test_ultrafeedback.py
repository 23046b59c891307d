"""Rows of openbmb/UltraFeedback become pairs: the best answer against a random worse one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_data import write_jsonl

from zephyr_bench.errors import UserError
from zephyr_bench.recipe import DataSource, Recipe
from zephyr_bench.training_data.reading import read_pairs

MakeRecipe = Callable[..., Recipe]
ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")


def completion(text: str, overall: float | str, *ratings: str) -> dict[str, Any]:
    """In the published form: ratings are strings, and the model's words stand beside them."""
    annotations = {
        aspect: {"Rating": rating, "Rationale": "because"} for aspect, rating in zip(ASPECTS, ratings, strict=False)
    }
    return {"response": text, "model": f"model of {text}", "overall_score": overall, "annotations": annotations}


def row(*completions: dict[str, Any], instruction: str = "Name a colour.") -> dict[str, Any]:
    return {"source": "evol_instruct", "instruction": instruction, "models": [], "completions": list(completions)}


def read(rows: list[dict[str, Any]], tmp_path: Path, recipe: Recipe, **settings: Any) -> Any:
    source = DataSource(file=write_jsonl(tmp_path / "rated.jsonl", rows), **{"binarize": "overall", **settings})
    return read_pairs(source, recipe=recipe)


def sides(rows: Any) -> set[tuple[str, str]]:
    return {(pair.chosen["content"], pair.rejected["content"]) for pair in rows.items}


# overall says Red is best, the mean of the ratings says Blue
TOLD_APART = row(completion("Red", 8, "1", "1", "1", "1"), completion("Blue", 2, "5", "5", "5", "4"))


@pytest.mark.parametrize(("by", "best"), [("overall", "Red"), ("mean", "Blue")])
def test_the_best_is_that_of_the_score_that_the_recipe_names(
    by: str, best: str, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    (pair,) = read([TOLD_APART], tmp_path, make_recipe(), binarize=by).items
    assert pair.chosen["content"] == best
    assert pair.prompt == ({"role": "user", "content": "Name a colour."},)


def test_every_worse_answer_is_drawn_by_seed_and_row(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    four = (completion("a", 1), completion("b", 9), completion("c", 3), completion("d", 7))
    rows = [row(*four, instruction=f"Question {number}?") for number in range(40)]
    first = read(rows, tmp_path, make_recipe(seed=1))
    assert sides(first) == {("b", "a"), ("b", "c"), ("b", "d")}
    assert read(rows, tmp_path, make_recipe(seed=1)) == first
    assert read(rows, tmp_path, make_recipe(seed=2)) != first
    assert read(list(reversed(rows)), tmp_path, make_recipe(seed=1)).items == tuple(reversed(first.items)), (
        "what is drawn depends on the rows before"
    )


def test_an_aspect_that_is_not_applicable_is_left_out_of_the_mean(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    rated = row(completion("Red", 1, "5", "N/A", "5", "N/A"), completion("Blue", 1, "5", "4", "5", "4"))
    assert sides(read([rated], tmp_path, make_recipe(), binarize="mean")) == {("Red", "Blue")}


def test_an_answer_that_nobody_rated_is_not_used(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    rated = row(completion("Red", "N/A"), completion("Blue", 4), completion("Green", 2))
    assert sides(read([rated], tmp_path, make_recipe())) == {("Blue", "Green")}


def test_a_row_whose_answers_all_tie_is_left_out_and_told(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    tie = row(completion("Red", 5, "5"), completion("Blue", 5, "1"))
    rows = read([tie, TOLD_APART, row()], tmp_path, make_recipe())
    assert len(rows.items) == 1
    assert [(one.place.rpartition(" ")[2], one.reason) for one in rows.left_out] == [
        ("1", "the graded answers tie"),
        ("3", "no answer has a grade"),
    ]
    assert rows.told() == "2 rows left out (2 no pair)"


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (row(completion("Red", "high"), completion("Blue", 1)), "line 1: completions.0.overall_score: .* found 'high'"),
        (row(completion("Red", 1, "good")), "line 1: completions.0.annotations.instruction_following.Rating"),
        ({"prompt": "Hi", "chosen": "a", "rejected": "b"}, "line 1: key 'instruction' is missing"),
    ],
)
def test_a_row_of_another_form_is_told(
    broken: dict[str, Any], told: str, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    with pytest.raises(UserError, match=told):
        read([broken], tmp_path, make_recipe())
