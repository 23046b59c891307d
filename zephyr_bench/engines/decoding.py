"""Continues token sequences in batches whose rows come and go.

In: prompts as token ids, each with its own sampling. Out: each result the moment its row ends. Rows are
padded on the left, so that all end at the same column; a place that falls free is given to the next
prompt. Rows whose result is known already keep their place and their length but are not computed, so that a
run taken up again computes the rest in the very batches of an unbroken one. Knows no chat and no template.
"""

from __future__ import annotations

import random
from bisect import insort_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from zephyr_bench.engines import kv_cache
from zephyr_bench.engines.loading import Batching, LoadedModel
from zephyr_bench.engines.protocol import CompletionRequest
from zephyr_bench.engines.sampling import choose
from zephyr_bench.errors import UserError
from zephyr_bench.records import Generation

_REFILL_SHARE = 4  # new prompts are read when a quarter of the places is free
_STOP_SLACK = 4  # tokens looked at before the longest stop string: the first may decode differently alone
_NO_TOKEN = 0  # stands where a known row's token would be: nobody reads what is computed from it


@dataclass
class _Row:
    request: CompletionRequest
    limit: int  # new tokens at most
    follows: bool = False  # from the result of another
    made: list[int] = field(default_factory=list)
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.request.sampling.seed)

    @property
    def known(self) -> Generation | None:
        return self.request.made

    @property
    def length(self) -> int:
        """Tokens of this row in the cache, once its last token is read."""
        return len(self.request.prompt) + len(self.made)

    @property
    def longest(self) -> int:
        return len(self.request.prompt) + self.limit


@dataclass
class _Computed:
    """What the model made of a batch. The rows' newest tokens are in `tokens`, not yet in the cache."""

    cache: Any
    mask: torch.Tensor  # (rows, columns), 0 for padding
    tokens: torch.Tensor  # (rows,)


@dataclass
class _Batch:
    """Rows under way. Nothing is computed while the results of all of them are known."""

    rows: list[_Row]
    columns: int  # of the cache
    computed: _Computed | None


class _Queue:
    """Prompts that wait: those that others may follow from, then those that follow; the longest first of each.

    Of equals the earliest. A dialogue begun late would end alone, its second turn beside nothing.
    """

    def __init__(self) -> None:
        self._rows: list[_Row] = []  # the next one stands last

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: _Row) -> None:
        insort_left(self._rows, row, key=lambda waiting: (not waiting.follows, len(waiting.request.prompt)))

    @property
    def next(self) -> _Row:
        return self._rows[-1]

    def take(self) -> _Row:
        return self._rows.pop()


def decode(
    loaded: LoadedModel,
    requests: Iterable[CompletionRequest],
    *,
    max_length: int,
    then: Callable[[Generation], Iterable[CompletionRequest]],
) -> Iterator[Generation]:
    """Each request's continuation, as it ends, but for known ones.

    `then` gives the requests that follow from a result, known or new. What it raises of a user's mistake (a second
    turn too long for the model) is raised once everything else has ended.
    """
    queue = _Queue()
    for request in requests:
        queue.add(_Row(request, _limit(request, max_length)))
    running: _Batch | None = None
    refused: UserError | None = None
    while queue or running:
        if fresh := _admit(loaded.batching, queue, running):
            ended, running = _start(loaded, fresh, running)
        else:
            assert running is not None
            ended, running = _advance(loaded, running, _step(loaded, running))
        yield from (result for row, result in ended if row.known is None)
        for _, result in ended:
            try:
                following = list(then(result))
            except UserError as error:  # what is under way is finished first
                refused = refused or error
                continue
            for request in following:
                queue.add(_Row(request, _limit(request, max_length), follows=True))
    if refused is not None:
        raise refused


def _limit(request: CompletionRequest, max_length: int) -> int:
    return min(request.sampling.max_new_tokens, max_length - len(request.prompt))


def _admit(batching: Batching, queue: _Queue, running: _Batch | None) -> list[_Row]:
    """The prompts to start now: none while few places are free."""
    if not queue:
        return []
    taken = running.rows if running else []
    columns = max(row.longest for row in (*taken, queue.next))
    free = batching.rows_of(columns) - len(taken)
    if taken and free < max(1, batching.rows_of(columns) // _REFILL_SHARE):
        return []
    fresh: list[_Row] = []
    while queue and len(fresh) < free:
        columns = max(columns, queue.next.longest)
        if (taken or fresh) and len(taken) + len(fresh) >= batching.rows_of(columns):
            break
        fresh.append(queue.take())
    return fresh


def _start(
    loaded: LoadedModel, rows: list[_Row], running: _Batch | None
) -> tuple[list[tuple[_Row, Generation]], _Batch | None]:
    """Reads prompts, those of like length together, so that little is padding; each gets its first token.

    The rows join those that are running.
    """
    ended: list[tuple[_Row, Generation]] = []
    batches = [running]
    for group in _groups(sorted(rows, key=lambda row: -len(row.request.prompt)), loaded.batching.prompt_tokens):
        ended_now, batch = _advance(loaded, *_read_prompts(loaded, group))
        ended += ended_now
        batches.append(batch)
    return ended, _merged([batch for batch in batches if batch is not None])


def _groups(rows: list[_Row], most_tokens: int) -> Iterator[list[_Row]]:
    """Of so many tokens at most, padding included; `rows` come longest first."""
    start = 0
    while start < len(rows):
        fit = max(1, most_tokens // len(rows[start].request.prompt))
        yield rows[start : start + fit]
        start += fit


@torch.inference_mode()
def _read_prompts(loaded: LoadedModel, rows: list[_Row]) -> tuple[_Batch, torch.Tensor | None]:
    """The batch that the prompts begin, and the logits after each (rows, vocabulary)."""
    columns = max(len(row.request.prompt) for row in rows)
    if all(row.known for row in rows):
        return _Batch(rows, columns, None), None
    ids = torch.zeros(len(rows), columns, dtype=torch.long)  # (rows, columns)
    for number, row in enumerate(rows):
        prompt = row.request.prompt
        ids[number, columns - len(prompt) :] = torch.tensor(prompt)
    mask = _mask([len(row.request.prompt) for row in rows], columns)
    ids, mask = ids.to(loaded.device), mask.to(loaded.device)
    cache = kv_cache.new_cache()
    output = loaded.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0),  # (rows, columns)
        past_key_values=cache,
        use_cache=True,
        **loaded.last_logits_only,
    )
    return _Batch(rows, columns, _Computed(cache, mask, ids[:, -1])), output.logits[:, -1]


def _mask(lengths: list[int], columns: int) -> torch.Tensor:
    """1 in the last `length` columns of each row (rows, columns)."""
    return (torch.arange(columns) >= columns - torch.tensor(lengths)[:, None]).long()


@torch.inference_mode()
def _step(loaded: LoadedModel, batch: _Batch) -> torch.Tensor | None:
    """Logits after each row's newest token (rows, vocabulary)."""
    batch.columns += 1
    if batch.computed is None:
        return None
    computed = batch.computed
    computed.mask = torch.nn.functional.pad(computed.mask, (0, 1), value=1)
    positions = [row.length - 1 for row in batch.rows]
    output = loaded.model(
        input_ids=computed.tokens[:, None],
        attention_mask=computed.mask,
        position_ids=torch.tensor(positions, device=loaded.device)[:, None],
        past_key_values=computed.cache,
        use_cache=True,
        **loaded.last_logits_only,
    )
    return output.logits[:, -1]


def _advance(
    loaded: LoadedModel, batch: _Batch, logits: torch.Tensor | None
) -> tuple[list[tuple[_Row, Generation]], _Batch | None]:
    """Gives every row its next token; rows that end leave the batch."""
    tokens = [_NO_TOKEN] * len(batch.rows)
    if batch.computed is not None:
        assert logits is not None
        rows = batch.rows
        batch.computed.tokens = choose(logits, [row.request.sampling for row in rows], [row.chance for row in rows])
        tokens = batch.computed.tokens.tolist()
    ended: list[tuple[_Row, Generation]] = []
    alive: list[int] = []
    for number, (row, token) in enumerate(zip(batch.rows, tokens, strict=True)):
        row.made.append(token)
        result = _result(loaded, row)
        if result is None:
            alive.append(number)
        else:
            ended.append((row, result))
    return ended, _keep(batch, alive) if ended else batch


def _result(loaded: LoadedModel, row: _Row) -> Generation | None:
    """The row's result if its newest token ended it."""
    if row.known is not None:
        return row.known if len(row.made) >= row.known.completion_tokens else None
    if row.made[-1] in loaded.end_tokens:
        return _generation(row, loaded.tokenizer.decode(row.made[:-1], skip_special_tokens=True), "stop")
    if row.request.sampling.stop:
        text = _cut_at_stop(loaded.tokenizer, row)
        if text is not None:
            return _generation(row, text, "stop")
    if len(row.made) >= row.limit:
        return _generation(row, loaded.tokenizer.decode(row.made, skip_special_tokens=True), "length")
    return None


def _cut_at_stop(tokenizer: Any, row: _Row) -> str | None:
    """The text up to the first stop string, if any. Only the newest tokens are decoded at each step."""
    stops = row.request.sampling.stop
    tail = max(len(stop.encode()) for stop in stops) + _STOP_SLACK  # a token holds a byte or more
    recent = tokenizer.decode(row.made[-tail:], skip_special_tokens=True)
    if not any(stop in recent for stop in stops):
        return None
    text = tokenizer.decode(row.made, skip_special_tokens=True)
    found = [text.index(stop) for stop in stops if stop in text]
    return text[: min(found)] if found else None


def _generation(row: _Row, text: str, reason: str) -> Generation:
    return Generation(row.request.key, text, reason, len(row.request.prompt), len(row.made))


@torch.inference_mode()
def _keep(batch: _Batch, alive: list[int]) -> _Batch | None:
    """The batch without its ended rows and without columns that only they needed."""
    if not alive:
        return None
    rows = [batch.rows[number] for number in alive]
    columns = max(row.length for row in rows) - 1  # the newest token is not in the cache yet
    if batch.computed is None or all(row.known for row in rows):
        return _Batch(rows, columns, None)
    computed = batch.computed
    where = torch.tensor(alive, device=computed.tokens.device)
    kv_cache.keep(computed.cache, where, columns=columns)
    return _Batch(rows, columns, _Computed(computed.cache, computed.mask[where][:, -columns:], computed.tokens[where]))


@torch.inference_mode()
def _merged(batches: list[_Batch]) -> _Batch | None:
    """One batch of the rows of all, in their order."""
    if len(batches) < 2:
        return batches[0] if batches else None
    rows, columns = [row for batch in batches for row in batch.rows], max(batch.columns for batch in batches)
    some = next((batch.computed for batch in batches if batch.computed), None)
    if some is None:
        return _Batch(rows, columns, None)
    parts = [batch.computed or _placeholders(batch, some) for batch in batches]
    cache = kv_cache.joined([part.cache for part in parts])
    masks = [torch.nn.functional.pad(part.mask, (columns - part.mask.shape[1], 0)) for part in parts]
    return _Batch(rows, columns, _Computed(cache, torch.cat(masks), torch.cat([part.tokens for part in parts])))


def _placeholders(batch: _Batch, like: _Computed) -> _Computed:
    """For rows that nobody reads: of the shape that they would have."""
    mask = _mask([row.length - 1 for row in batch.rows], batch.columns).to(like.mask.device)
    tokens = like.tokens.new_full((len(batch.rows),), _NO_TOKEN)
    return _Computed(kv_cache.blank(like.cache, len(batch.rows), columns=batch.columns), mask, tokens)
