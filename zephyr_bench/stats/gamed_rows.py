"""AlpacaEval 2's published calibration: how hard each instruction is, and judgments of answers made to game lengths.

In: the lines of df_gamed.csv (tatsu-lab/alpaca_eval on the Hugging Face hub): the baseline told to be brief and told to
be verbose, each against itself as it is. Out: arrays for `length_control`. Knows not where the file lies.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zephyr_bench.errors import UserError

COLUMNS = ("model", "preference", "index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline")


@dataclass(frozen=True, eq=False)
class GamedRows:
    """The file's rows in its order, and its instructions' difficulties in order of first appearance.

    alpaca_eval 0.6.6 (metrics/glm_winrate.py) gives the annotation in place i the difficulty that stands in row i of
    the file, whatever that row's `index` says; in the published file they are the same.
    """

    preferences: NDArray[np.float64]  # (rows,), in [0, 1]; NaN for a missing one
    std_delta_len: NDArray[np.float64]  # (rows,), baseline's length - model's, by its standard deviation
    instruction_difficulty: NDArray[np.float64]  # (rows,), in logits
    difficulties: NDArray[np.float64]  # (instructions,), in logits


def read_gamed_rows(lines: Iterable[str], *, name: str) -> GamedRows:
    """Of CSV lines, columns in any order, further ones ignored. `name` is what a message calls the file.

    Raises UserError for a missing column, a row with too few or too many fields, or a value that isn't what the column
    holds.
    """
    reader = csv.DictReader(lines, strict=True)
    preferences, lengths, difficulties, firsts = list[float](), list[float](), list[float](), set[int]()
    models = set[str]()
    try:
        header = reader.fieldnames or ()
        if missing := [column for column in COLUMNS if column not in header]:
            raise UserError(
                f"{name} line 1: no column {', '.join(missing)}; found {', '.join(header) or 'nothing'}. "
                f"Expected AlpacaEval's df_gamed.csv."
            )
        for place, row in enumerate(reader):
            where = f"{name} line {reader.line_num}"
            if None in row or None in row.values():
                raise UserError(f"{where}: not as many fields as the {len(header)} columns of line 1")
            preferences.append(_preference(row, where))
            lengths.append(_number(row, "std_delta_len", where))
            difficulties.append(_number(row, "instruction_difficulty", where))
            if row["not_gamed_baseline"] not in ("False", "false", "FALSE"):
                raise _unexpected(row, "not_gamed_baseline", where, "False, for every row is a gamed baseline's")
            instruction = _index(row, where)
            if instruction not in firsts and place != len(firsts):
                expected = "one of the first model's, whose rows come first and name each instruction once"
                raise _unexpected(row, "index", where, expected)
            firsts.add(instruction)
            models.add(row["model"])
    except csv.Error as error:
        raise UserError(f"{name} line {reader.reader.line_num}: not CSV: {error}") from None
    if not preferences:
        raise UserError(f"{name}: no rows below the column names; expected AlpacaEval's df_gamed.csv")
    if len(models) < 2:
        raise UserError(f"{name}: rows of one model only, {models.pop()!r}; expected two gamed baselines', whole")
    difficulty = np.array(difficulties)
    return GamedRows(np.array(preferences), np.array(lengths), difficulty, difficulty[: len(firsts)])


def _preference(row: Mapping[str, str], where: str) -> float:
    if not row["preference"]:
        return math.nan  # alpaca_eval leaves the row out of its fit
    value = _number(row, "preference", where)
    if not 0 <= value <= 1:
        raise _unexpected(row, "preference", where, "0 to 1")
    return value


def _index(row: Mapping[str, str], where: str) -> int:
    try:
        return int(row["index"])
    except ValueError:
        raise _unexpected(row, "index", where, "a whole number") from None


def _number(row: Mapping[str, str], column: str, where: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _unexpected(row, column, where, "a number")
    return value


def _unexpected(row: Mapping[str, str], column: str, where: str, expected: str) -> UserError:
    return UserError(f"{where}, column {column}: found {row[column]!r}, expected {expected}")
