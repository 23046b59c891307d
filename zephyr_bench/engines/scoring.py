"""Log-probabilities of given continuations; what sequences begin with is computed once.

In: token ids of contexts and continuations. Out: each score as it is known. How sequences are grouped
is prefix_plan.py's matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from zephyr_bench.engines import kv_cache
from zephyr_bench.engines.loading import LoadedModel
from zephyr_bench.engines.prefix_plan import Group, absorb, plan
from zephyr_bench.errors import UserError
from zephyr_bench.records import ScoredTokens, ScoreRequest

_HEAD_ROWS = 256  # positions whose logits over the whole vocabulary are held at once


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


def score(loaded: LoadedModel, requests: Iterable[ScoreRequest], *, max_length: int) -> Iterator[ScoredTokens]:
    """Each request's score, as soon as its group is computed."""
    wanted: dict[tuple[int, ...], list[_Reading]] = defaultdict(list)
    for request in requests:
        if not request.continuation:
            yield ScoredTokens(request.key, 0.0, True, 0)
            continue
        inputs, reading = _reading(request, max_length)
        wanted[inputs].append(reading)
    readings: dict[tuple[int, ...], list[_Reading]] = defaultdict(list)
    for inputs, longest in absorb(list(wanted)).items():
        readings[longest] += wanted[inputs]
    sequences = list(readings)
    reader = _Reader(loaded)
    for group in plan(sequences):
        for number, scores in _score_group(reader, sequences, group, readings):
            for reading in readings[sequences[number]]:
                found = [scores[pair] for pair in reading.pairs()]
                log_prob = sum(value for value, _ in found)
                yield ScoredTokens(reading.key, log_prob, all(first for _, first in found), len(found))


def _reading(request: ScoreRequest, max_length: int) -> tuple[tuple[int, ...], _Reading]:
    """The model's input, and what is read from it. Too long a context loses its beginning.

    context 0 1 2 3, continuation 4 5 6   ->  input 0 1 2 3 4 5, read after 3, 4 and 5 the tokens 4, 5 and 6
    """
    if not request.context:
        raise UserError("a score needs a context of one token at least: put BOS or EOS before the continuation.")
    count = len(request.continuation)
    if count > max_length:
        raise UserError(f"a continuation of {count} tokens is longer than the model's {max_length}.")
    inputs = (request.context + request.continuation)[-(max_length + 1) :][:-1]
    return inputs, _Reading(request.key, len(inputs) - count, request.continuation)


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
        rests = [sequences[member][group.prefix :] for member in members]
        asked = [{pair for pair in pairs[member] if pair[0] >= group.prefix} for member in members]
        copies = kv_cache.expanded(cache, len(members)) if cache is not None else None
        for member, own in zip(members, reader.read(rests, asked, cache=copies, offset=group.prefix), strict=True):
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
        self._body, self._head = _split(loaded)

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
        states = self._body(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        )[0]  # (rows, columns, width)
        where: list[tuple[int, int]] = sorted({(row, pair[0]) for row, own in enumerate(asked) for pair in own})
        tokens: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, own in enumerate(asked):
            for position, token in own:
                tokens[row, position].append(token)
        found: list[_Scores] = [{} for _ in rows]
        for begin in range(0, len(where), _HEAD_ROWS):
            chunk = where[begin : begin + _HEAD_ROWS]
            picked = states[[row for row, _ in chunk], [position - offset for _, position in chunk]]  # (chunk, width)
            self._read_chunk(picked, chunk, tokens, found)
        return found

    def _read_chunk(
        self,
        states: torch.Tensor,  # (chunk, width)
        chunk: Sequence[tuple[int, int]],  # (row, position) of each state
        tokens: dict[tuple[int, int], list[int]],
        found: list[_Scores],
    ) -> None:
        log_probs = torch.log_softmax(self._head(states).float(), dim=-1)  # (chunk, vocabulary)
        asked = [(number, token) for number, place in enumerate(chunk) for token in tokens[place]]
        numbers, targets = [number for number, _ in asked], [token for _, token in asked]
        values = log_probs[numbers, targets].tolist()
        firsts = log_probs.argmax(-1)[numbers].tolist()
        for number, token, value, first in zip(numbers, targets, values, firsts, strict=True):
            row, position = chunk[number]
            found[row][position, token] = value, first == token


@torch.inference_mode()
def _split(loaded: LoadedModel) -> tuple[Any, Any]:
    """The model without its head, and the head.

    Some architectures scale or cap logits after the head, so the split is tried on a few tokens; where
    it doesn't give the model's own logits, the whole model stands for both.
    """
    model = loaded.model
    head, body = model.get_output_embeddings(), model.base_model
    if head is not None and body is not model:
        ids = torch.arange(1, 5, device=loaded.device)[None]
        whole = model(input_ids=ids, use_cache=False).logits.float()
        parts = head(body(input_ids=ids, use_cache=False)[0]).float()
        if whole.shape == parts.shape and torch.allclose(whole, parts, rtol=1e-3, atol=1e-3):
            return body, head
    return model, lambda logits: logits
