from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.trainers.packing import fitted, laid_out
from zephyr_bench.training_data.tokens import Example, Tree


def learned(*ids: int) -> Example:
    return Example(ids, (True,) * len(ids))


def given_only(*ids: int) -> Example:
    return Example(ids, (False,) * len(ids))


PAIR = Tree(given_only(1, 2), (learned(3, 4), learned(5, 6, 7)))
ALONE = Tree(learned(8, 9))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(30, 60))
def test_every_size_stands_once_and_no_row_is_too_long(sizes: list[int], length: int) -> None:
    rows = fitted(sizes, length=length)
    assert sorted(number for row in rows for number in row) == list(range(len(sizes)))
    assert all(sum(sizes[number] for number in row) <= length for row in rows)
    half_empty = [row for row in rows if sum(sizes[number] for number in row) * 2 <= length]
    assert len(half_empty) <= 1  # two such would have shared one


def test_a_prompt_stands_once_and_its_answers_go_on_from_it() -> None:
    rows = laid_out([PAIR, ALONE], [[0, 1]], pad=0)
    assert rows.ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9]]
    assert rows.positions.tolist() == [[0, 1, 2, 3, 2, 3, 4, 0, 1]]
    assert rows.branches.tolist() == [[0, 0, 1, 1, 2, 2, 2, 0, 0]]
    assert rows.trees.tolist() == [[0] * 7 + [1] * 2]
    # the first token of each answer is read after the prompt's last
    read = list(zip(rows.places.tolist(), rows.targets.tolist(), rows.sequences.tolist(), strict=True))
    assert read == [(1, 3, 0), (2, 4, 0), (1, 5, 1), (4, 6, 1), (5, 7, 1), (7, 9, 2)]
    assert rows.count == 3


def test_rows_are_padded_on_the_right() -> None:
    rows = laid_out([PAIR, ALONE], [[0], [1]], pad=63)
    assert rows.ids[1].tolist() == [8, 9, 63, 63, 63, 63, 63]
    assert rows.present.sum(axis=1).tolist() == [7, 2]
    assert rows.places.tolist()[-1] == 7
    assert not rows.plain


def test_rows_of_one_sequence_each_are_plain() -> None:
    alone = [one for tree in (PAIR, ALONE) for one in tree.unrolled()]
    rows = laid_out(alone, [[0], [1], [2]], pad=0)
    assert rows.plain
    assert [row[row != 0].tolist() for row in rows.ids] == [[1, 2, 3, 4], [1, 2, 5, 6, 7], [8, 9]]
    assert not laid_out(alone, [[0, 1], [2]], pad=0).plain
    both = laid_out([PAIR, ALONE], [[0, 1]], pad=0)
    assert sorted(both.targets.tolist()) == sorted(rows.targets.tolist())


def test_a_token_that_nothing_comes_before_is_not_read() -> None:
    rows = laid_out([Tree(given_only(), (learned(3, 4),))], [[0]], pad=0)
    assert rows.targets.tolist() == [4]
    assert np.array_equal(rows.places, [0])
