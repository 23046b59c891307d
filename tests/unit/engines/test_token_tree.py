from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.engines.token_tree import planted

sequences = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9).map(tuple), min_size=1, max_size=14)


def beginnings(found):
    return {sequence[:end] for sequence in found for end in range(1, len(sequence) + 1)}


@given(sequences)
def test_every_distinct_beginning_is_one_node(found):
    rooted = planted(found, [0] * len(found))
    assert rooted.tree.size == len(beginnings(found))
    by_beginning = {}
    for sequence, nodes in zip(found, rooted.nodes, strict=True):
        assert list(rooted.tree.tokens[nodes]) == list(sequence)
        for end, node in enumerate(nodes, start=1):
            assert by_beginning.setdefault(sequence[:end], node) == node
            assert rooted.tree.depth(int(node)) == end - 1


@given(sequences, st.integers(1, 7))
def test_a_token_sees_its_own_beginning_and_nothing_else(found, size):
    rooted = planted(found, [0] * len(found))
    text = {}  # node -> the sequence up to it
    for sequence, nodes in zip(found, rooted.nodes, strict=True):
        text |= {int(node): sequence[:end] for end, node in enumerate(nodes, start=1)}
    path: list[int] = []  # the nodes whose keys and values are kept
    for first in range(0, rooted.tree.size, size):
        stop = min(rooted.tree.size, first + size)
        block = rooted.tree.block(first, stop)
        assert rooted.tree.depth(first) == len(path)
        columns = [*path, *range(first, stop)]
        for row, node in enumerate(range(first, stop)):
            seen = [columns[column] for column in np.flatnonzero(block.seen[row])]
            assert [text[other] for other in seen] == [text[node][:end] for end in range(1, len(text[node]) + 1)]
            assert block.positions[row] == len(text[node]) - 1
        assert [len(text[node]) - 1 for node in columns] == list(block.depths)
        path = [columns[column] for column in block.kept]
        assert list(block.kept) == sorted(block.kept)
    assert path == []


@given(sequences, st.data())
def test_nodes_are_told_from_the_asked_position_on_and_walked_in_order(found, data):
    read_from = [data.draw(st.integers(0, len(sequence) - 1)) for sequence in found]
    rooted = planted(found, read_from)
    assert [len(nodes) for nodes in rooted.nodes] == [len(s) - f for s, f in zip(found, read_from, strict=True)]
    ends = [int(rooted.nodes[number][-1]) for number in rooted.order]
    assert ends == sorted(ends)


def test_large_token_ids_sort_as_numbers():
    found = [(70_000, 3), (256, 1), (1, 70_000), (70_000, 2**31 - 1)]
    rooted = planted(found, [0] * len(found))
    assert [found[number] for number in rooted.order] == sorted(found)
    assert list(rooted.tree.tokens) == [1, 70_000, 256, 1, 70_000, 3, 2**31 - 1]
