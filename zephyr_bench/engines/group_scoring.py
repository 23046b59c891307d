"""Scores of sequences in padded batches, those that begin alike together: what any architecture takes.

In: token ids of contexts and continuations. Out: each score as its group is computed. How sequences are grouped is
prefix_plan.py's matter. tree_scoring.py is faster, where the architecture takes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size

from zephyr_bench.engines import kv_cache
from zephyr_bench.engines.loading import LoadedModel, free_memory
from zephyr_bench.engines.prefix_plan import Group, absorb, plan
from zephyr_bench.engines.score_inputs import model_input
from zephyr_bench.engines.token_scores import Head
from zephyr_bench.engines.tree_masks import turns_by_length
from zephyr_bench.records import ScoredTokens, ScoreRequest


@dataclass(frozen=True)
class _Reading:
    """Where one request's scores stand: after input position `first + i` comes `targets[i]`."""

    key: str
    first: int
    targets: tuple[int, ...]

    def pairs(self) -> list[tuple[int, int]]:
        return list(enumerate(self.targets, start=self.first))


# (log-probability of a token, whether it was the first choice) by (position, token)
_Scores = dict[tuple[int, int], tuple[float, bool]]


def score_in_groups(loaded: LoadedModel, asked: Sequence[ScoreRequest], *, max_length: int) -> Iterator[ScoredTokens]:
    """Each request's score, as soon as its group is computed."""
    wanted: dict[tuple[int, ...], list[_Reading]] = defaultdict(list)
    for request in asked:
        inputs, first = model_input(request, max_length)
        wanted[inputs].append(_Reading(request.key, first, request.continuation))
    readings: dict[tuple[int, ...], list[_Reading]] = defaultdict(list)
    alone = turns_by_length(loaded.model)
    for inputs, longest in ({key: key for key in wanted} if alone else absorb(list(wanted))).items():
        readings[longest] += wanted[inputs]
    sequences = list(readings)
    reader = _Reader(loaded)
    for group in [Group(0, (number,)) for number in range(len(sequences))] if alone else plan(sequences):
        for number, scores in _score_group(reader, sequences, group, readings):
            for reading in readings[sequences[number]]:
                found = [scores[pair] for pair in reading.pairs()]
                log_prob = sum(value for value, _ in found)
                yield ScoredTokens(reading.key, log_prob, all(first for _, first in found), len(found))


def _score_group(
    reader: _Reader,
    sequences: Sequence[tuple[int, ...]],
    group: Group,
    readings: dict[tuple[int, ...], list[_Reading]],
) -> Iterator[tuple[int, _Scores]]:
    """(sequence number, its scores). The prefix first, then the rest of each member in padded batches."""
    pairs = {
        member: {pair for reading in readings[sequences[member]] for pair in reading.pairs()}
        for member in group.members
    }
    shared: _Scores = {}
    cache = None
    if group.prefix:
        cache = kv_cache.new_cache()
        prefix = sequences[group.members[0]][: group.prefix]
        inside = {pair for own in pairs.values() for pair in own if pair[0] < group.prefix}
        (shared,) = reader.read([prefix], [inside], cache=cache, offset=0)
    for members in _batches(reader.loaded, sequences, group):
        yield from _score_batch(reader, sequences, group, members, pairs, cache, shared)


def _score_batch(
    reader: _Reader,
    sequences: Sequence[tuple[int, ...]],
    group: Group,
    members: Sequence[int],
    pairs: dict[int, set[tuple[int, int]]],
    cache: Any,
    shared: _Scores,
) -> Iterator[tuple[int, _Scores]]:
    """Halved where memory runs out."""
    rests = [sequences[member][group.prefix :] for member in members]
    asked = [{pair for pair in pairs[member] if pair[0] >= group.prefix} for member in members]
    found = None
    try:
        copies = kv_cache.expanded(cache, len(members)) if cache is not None else None
        found = reader.read(rests, asked, cache=copies, offset=group.prefix)
    except RuntimeError as error:
        if len(members) == 1 or not should_reduce_batch_size(error):
            raise
    if found is None:
        free_memory(on_gpu=reader.loaded.device.type == "cuda")
        half = len(members) // 2
        for some in (members[:half], members[half:]):
            yield from _score_batch(reader, sequences, group, some, pairs, cache, shared)
        return
    for member, own in zip(members, found, strict=True):
        yield member, {**shared, **own}


def _batches(loaded: LoadedModel, sequences: Sequence[tuple[int, ...]], group: Group) -> Iterator[list[int]]:
    """Members of like length together, the longest first, as many as fit."""
    waiting = sorted(group.members, key=lambda member: -len(sequences[member]))
    while waiting:
        longest = len(sequences[waiting[0]])
        by_forward = max(1, loaded.batching.forward_tokens // max(1, longest - group.prefix))
        count = min(loaded.batching.rows_of(longest), by_forward)
        yield waiting[:count]
        waiting = waiting[count:]


class _Reader:
    """Runs the model over padded rows and reads log-probabilities at chosen positions only."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self._head = Head(loaded.model)

    @torch.inference_mode()
    def read(
        self,
        rows: Sequence[tuple[int, ...]],
        asked: Sequence[set[tuple[int, int]]],
        *,
        cache: Any,
        offset: int,
    ) -> list[_Scores]:
        """Scores of each row's asked (position, token) pairs; the cache holds `offset` tokens already."""
        device = self.loaded.device
        columns = max(len(row) for row in rows)
        ids = torch.tensor([[*row, *[0] * (columns - len(row))] for row in rows], device=device)  # (rows, columns)
        lengths = torch.tensor([offset + len(row) for row in rows], device=device)
        mask = torch.arange(offset + columns, device=device)[None] < lengths[:, None]  # (rows, offset + columns)
        positions = torch.arange(offset, offset + columns, device=device).expand(len(rows), -1)
        states = self._head.body(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        )[0]  # (rows, columns, width)
        pairs = sorted((row, position, token) for row, own in enumerate(asked) for position, token in own)
        places = sorted({(row, position) for row, position, _ in pairs})
        number = {place: n for n, place in enumerate(places)}
        picked = states[[row for row, _ in places], [position - offset for _, position in places]]  # (places, width)
        log_probs, likeliest = self._head.read(
            picked,
            np.array([number[row, position] for row, position, _ in pairs], dtype=np.int64),
            np.array([token for *_, token in pairs], dtype=np.int64),
        )
        found: list[_Scores] = [{} for _ in rows]
        for (row, position, token), log_prob, first in zip(pairs, log_probs, likeliest, strict=True):
            found[row][position, token] = float(log_prob), bool(first)
        return found
