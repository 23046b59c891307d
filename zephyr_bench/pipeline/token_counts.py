"""How many tokens a stage trains on, where its rows and the model's tokenizer are on this machine: for a plan.

In: a recipe and a stage. Out: tokens of an epoch, counted on a sample of rows; None where that takes a download, or
where the rows are not made yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from zephyr_bench.engines import missing_for
from zephyr_bench.engines.locate import locate
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import UserError
from zephyr_bench.recipe import DataSource, DdpoStage, DsftStage, Recipe, Training
from zephyr_bench.training_data.reading import read_dialogues, read_pairs
from zephyr_bench.training_data.tokens import Example, PairExample, encode_dialogue, encode_pair
from zephyr_bench.training_runs.checkpoint import tokenizer_of

Row = TypeVar("Row")
_SAMPLE = 1000  # rows encoded, spread over all


@dataclass(frozen=True)
class TokenCount:
    """Of one epoch; of one row where it is a row's."""

    tokens: float  # a pair's prompt once
    learned: float
    length: float  # of the sequence that a token stands in, in the mean
    at_once: tuple[float, float] = (0, 0)  # tokens, and learned ones, of the longest rows that one pass takes


def counted(recipe: Recipe, stage: DsftStage | DdpoStage, options: EngineOptions) -> TokenCount | None:
    """Raises UserError for rows that can't be read."""
    if (
        not stage.data
        or not all(_is_here(source, recipe) for source in stage.data)
        or missing_for(recipe.model, options)
    ):
        return None
    try:
        tokenizer = tokenizer_of(locate(recipe.model, include=options.include), recipe, include=options.include)
    except UserError:
        return None  # the plan tells what is missing
    if isinstance(stage, DsftStage):
        encode = partial(encode_dialogue, tokenizer, max_length=stage.max_length, loss_on=stage.loss_on)
        dialogues = read_dialogues(*stage.data, recipe=recipe).items
        return _sampled(dialogues, lambda row: _of_dialogue(encode(row.messages)), stage)
    cut = {name: getattr(stage, name) for name in ("max_length", "max_prompt_length", "truncation_mode")}
    pairs = read_pairs(*stage.data, recipe=recipe).items
    return _sampled(pairs, lambda pair: _of_pair(encode_pair(tokenizer, pair, **cut)), stage)


def _is_here(source: DataSource, recipe: Recipe) -> bool:
    return source.file is not None and recipe.resolve(source.file).is_file()


def _sampled(rows: Sequence[Row], count: Callable[[Row], TokenCount], stage: DsftStage | DdpoStage) -> TokenCount:
    size = min(len(rows), _SAMPLE)
    some = [count(rows[number * len(rows) // size]) for number in range(size)]
    share = len(rows) / len(some)
    tokens, learned = sum(one.tokens for one in some), sum(one.learned for one in some)
    length = sum(one.length * one.tokens for one in some) / tokens
    longest = sorted(some, key=lambda one: one.tokens)[-(stage.micro_batch or stage.global_batch) :]
    at_once = sum(one.tokens for one in longest), sum(one.learned for one in longest)
    if isinstance(stage, DsftStage) and stage.packing:
        at_once = longest_at_once(stage)  # rows are filled
    return TokenCount(share * tokens, share * learned, length, at_once)


def longest_at_once(stage: Training) -> tuple[float, float]:
    """As `TokenCount.at_once`, of rows as long as they may be."""
    rows = stage.micro_batch or stage.global_batch
    if isinstance(stage, DdpoStage):
        answer = longest_answer(stage)
        return rows * (stage.max_length + answer), rows * 2 * answer
    return rows * stage.max_length, rows * stage.max_length


def longest_answer(stage: DdpoStage) -> int:
    """Tokens of each of two; a pair with its prompt once has `max_length` more."""
    return stage.max_length - (stage.max_prompt_length or 1)


def _of_dialogue(example: Example) -> TokenCount:
    return TokenCount(len(example.ids), example.targets, len(example.ids))


def _of_pair(example: PairExample) -> TokenCount:
    tokens, sequences = example.tree.size, example.tree.unrolled()
    return TokenCount(
        tokens,
        sum(one.stem.targets for one in sequences),
        sum(len(one.stem.ids) for one in sequences) / len(sequences),
    )
