"""Reading df_gamed.csv: what is in it, and what is said where it isn't as it should be."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from gamed_file import write_gamed_file

from zephyr_bench.errors import UserError
from zephyr_bench.stats.gamed_rows import GamedRows, read_gamed_rows

HEADER = "model,preference,index,std_delta_len,instruction_difficulty,not_gamed_baseline"
ROWS = ["a,0.25,0,1.5,-2,False", "a,1,1,0.5,3,False", "b,,0,-1,-2,False", "b,0,1,-0.5,3,False"]


def read(*lines: str) -> GamedRows:
    return read_gamed_rows(lines, name="df_gamed.csv")


def test_rows_keep_the_files_order_and_instructions_that_of_their_first_row() -> None:
    gamed = read(HEADER, *ROWS)
    np.testing.assert_array_equal(gamed.preferences, [0.25, 1, math.nan, 0])
    assert gamed.std_delta_len.tolist() == [1.5, 0.5, -1, -0.5]
    assert gamed.instruction_difficulty.tolist() == [-2, 3, -2, 3]
    assert gamed.difficulties.tolist() == [-2, 3]


def test_columns_may_stand_in_any_order_and_beside_others() -> None:
    order = [5, 0, 3, 2, 4, 1]
    lines = [",".join([line.split(",")[column] for column in order] + ["more"]) for line in (HEADER, *ROWS)]
    mixed, plain = read(*lines), read(HEADER, *ROWS)
    for name in ("preferences", "std_delta_len", "instruction_difficulty", "difficulties"):
        np.testing.assert_array_equal(getattr(mixed, name), getattr(plain, name))


def test_a_file_as_large_as_the_published_one(tmp_path: Path) -> None:
    path = write_gamed_file(tmp_path / "df_gamed.csv")
    with path.open(encoding="utf-8", newline="") as lines:
        gamed = read_gamed_rows(lines, name=path.name)
    assert (gamed.preferences.shape, gamed.difficulties.shape) == ((1610,), (805,))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "line 1: no column model, preference, .*; found nothing"),
        (["index,preference"], "line 1: no column model, std_delta_len, .*; found index, preference"),
        ([HEADER], "no rows"),
        ([HEADER, "a,0.5,0,1.5,-2"], "line 2: not as many fields as the 6 columns"),
        ([HEADER, "a,0.5,0,1.5,-2,False,7"], "line 2: not as many fields"),
        ([HEADER, *ROWS, "c,0.5,0,x,1,False"], "line 6, column std_delta_len: found 'x', expected a number"),
        ([HEADER, "a,0.5,0,,1,False"], "line 2, column std_delta_len: found '', expected a number"),
        ([HEADER, "a,0.5,0,1,inf,False"], "column instruction_difficulty: found 'inf', expected a number"),
        ([HEADER, "a,1.5,0,1,1,False"], "column preference: found '1.5', expected 0 to 1"),
        ([HEADER, "a,1,0.0,1,1,False"], "column index: found '0.0', expected a whole number"),
        ([HEADER, "a,1,0,1,1,True"], "column not_gamed_baseline: found 'True', expected False"),
        ([HEADER, *ROWS, "b,0.5,2,1,1,False"], "line 6, column index: found '2', expected one of the first model's"),
        ([HEADER, 'a,"0.5'], "line 2: not CSV"),
    ],
)
def test_a_malformed_file_is_told_by_line_and_column(lines: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"^df_gamed.csv.*{message}"):
        read(*lines)
