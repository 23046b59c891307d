"""Continues token sequences in batches whose rows come and go.

In: prompts as token ids, each with its own sampling. Out: each result the moment its row ends. Rows are
padded on the left, so that all end at the same column; a place that falls free is given to the next
prompt. Knows no chat and no template.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from zephyr_bench.engines import kv_cache
from zephyr_bench.engines.loading import LoadedModel
from zephyr_bench.engines.protocol import CompletionRequest
from zephyr_bench.records import Generation

_REFILL_SHARE = 4  # new prompts are read when a quarter of the places is free
_STOP_SLACK = 4  # tokens looked at before the longest stop string: the first may decode differently alone


@dataclass
class _Row:
    request: CompletionRequest
    limit: int  # new tokens at most
    made: list[int] = field(default_factory=list)
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.request.sampling.seed)

    @property
    def length(self) -> int:
        """Tokens of this row in the cache, once its last token is read."""
        return len(self.request.prompt) + len(self.made)

    @property
    def longest(self) -> int:
        return len(self.request.prompt) + self.limit


@dataclass
class _Batch:
    """Rows under way. Their newest tokens are in `tokens`, not yet in the cache."""

    rows: list[_Row]
    cache: Any
    mask: torch.Tensor  # (rows, columns), 0 for padding
    tokens: torch.Tensor  # (rows,)


def decode(loaded: LoadedModel, requests: Iterable[CompletionRequest], *, max_length: int) -> Iterator[Generation]:
    """Each request's continuation, as it ends; longest prompts are started first."""
    rows = [_Row(request, _limit(request, max_length)) for request in requests]
    queue = deque(sorted(rows, key=lambda row: -len(row.request.prompt)))
    running: _Batch | None = None
    while queue or running:
        fresh = _admit(loaded, queue, running)
        if fresh:
            logits, batch = _read_prompts(loaded, fresh)
            ended, started = _advance(loaded, batch, logits)
            running = _merge(running, started)
        else:
            assert running is not None
            ended, running = _advance(loaded, running, _step(loaded, running))
        yield from ended


def _limit(request: CompletionRequest, max_length: int) -> int:
    return min(request.sampling.max_new_tokens, max_length - len(request.prompt))


def _admit(loaded: LoadedModel, queue: deque[_Row], running: _Batch | None) -> list[_Row]:
    """The prompts to start now: none while few places are free."""
    batching = loaded.batching
    taken = list(running.rows) if running else []
    columns = max((row.longest for row in (*taken, *list(queue)[:1])), default=0)
    free = batching.rows_of(columns) - len(taken)
    if not queue or (taken and free < max(1, batching.rows_of(columns) // _REFILL_SHARE)):
        return []
    width = len(queue[0].request.prompt)
    fresh: list[_Row] = []
    while queue and len(fresh) < free and (len(fresh) + 1) * width <= max(width, batching.forward_tokens):
        columns = max(columns, queue[0].longest)
        if (taken or fresh) and len(taken) + len(fresh) >= batching.rows_of(columns):
            break
        fresh.append(queue.popleft())
    return fresh


@torch.inference_mode()
def _read_prompts(loaded: LoadedModel, rows: list[_Row]) -> tuple[torch.Tensor, _Batch]:
    """Logits after each prompt (rows, vocabulary), and the batch they begin."""
    columns = max(len(row.request.prompt) for row in rows)
    ids = torch.zeros(len(rows), columns, dtype=torch.long)  # (rows, columns)
    mask = torch.zeros(len(rows), columns, dtype=torch.long)  # (rows, columns)
    for number, row in enumerate(rows):
        prompt = row.request.prompt
        ids[number, columns - len(prompt) :] = torch.tensor(prompt)
        mask[number, columns - len(prompt) :] = 1
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
    return output.logits[:, -1], _Batch(rows, cache, mask, ids[:, -1])


@torch.inference_mode()
def _step(loaded: LoadedModel, batch: _Batch) -> torch.Tensor:
    """Logits after each row's newest token (rows, vocabulary)."""
    batch.mask = torch.nn.functional.pad(batch.mask, (0, 1), value=1)
    positions = [row.length - 1 for row in batch.rows]
    output = loaded.model(
        input_ids=batch.tokens[:, None],
        attention_mask=batch.mask,
        position_ids=torch.tensor(positions, device=loaded.device)[:, None],
        past_key_values=batch.cache,
        use_cache=True,
        **loaded.last_logits_only,
    )
    return output.logits[:, -1]


def _advance(loaded: LoadedModel, batch: _Batch, logits: torch.Tensor) -> tuple[list[Generation], _Batch | None]:
    """Gives every row its next token; rows that end leave the batch."""
    tokens = choose(logits, batch.rows)
    ended: list[Generation] = []
    alive: list[int] = []
    for number, (row, token) in enumerate(zip(batch.rows, tokens.tolist(), strict=True)):
        row.made.append(token)
        result = _result(loaded, row)
        if result is None:
            alive.append(number)
        else:
            ended.append(result)
    batch.tokens = tokens
    return ended, _keep(batch, alive) if ended else batch


@torch.inference_mode()
def choose(logits: torch.Tensor, rows: Sequence[_Row]) -> torch.Tensor:
    """The next token of each row (rows,), from logits (rows, vocabulary) and the row's own chance.

    One uniform number per row and step inverts the cumulative distribution, so that a row's tokens
    don't depend on the rows beside it.
    """
    tokens = logits.argmax(-1)
    chancy = [number for number, row in enumerate(rows) if row.request.sampling.temperature > 0]
    if not chancy:
        return tokens
    samplings = [rows[number].request.sampling for number in chancy]
    temperature = logits.new_tensor([s.temperature for s in samplings], dtype=torch.float32)[:, None]
    top_p = logits.new_tensor([s.top_p for s in samplings], dtype=torch.float32)[:, None]
    probabilities = torch.softmax(logits[chancy].float() / temperature, dim=-1)  # (chancy, vocabulary)
    if any(s.top_p < 1 for s in samplings):
        probabilities = _nucleus(probabilities, top_p)
    cumulative = probabilities.double().cumsum(-1)
    draws = cumulative.new_tensor([rows[number].chance.random() for number in chancy])[:, None]
    drawn = torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True)[:, 0]
    tokens[chancy] = drawn.clamp(max=logits.shape[-1] - 1)
    return tokens


def _nucleus(probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Zero outside the smallest set of likeliest tokens that holds top_p of the mass."""
    ordered, where = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(-1) - ordered  # mass of the likelier tokens
    ordered = ordered.masked_fill((before >= top_p) & (top_p < 1), 0.0)
    return torch.zeros_like(probabilities).scatter(-1, where, ordered)


def _result(loaded: LoadedModel, row: _Row) -> Generation | None:
    """The row's result if its newest token ended it."""
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
    where = torch.tensor(alive, device=batch.tokens.device)
    kv_cache.keep(batch.cache, where, columns=columns)
    return _Batch(rows, batch.cache, batch.mask[where][:, -columns:], batch.tokens[where])


@torch.inference_mode()
def _merge(running: _Batch | None, started: _Batch | None) -> _Batch | None:
    if running is None or started is None:
        return running or started
    kv_cache.join(running.cache, started.cache)
    columns = max(running.mask.shape[1], started.mask.shape[1])
    masks = [torch.nn.functional.pad(mask, (columns - mask.shape[1], 0)) for mask in (running.mask, started.mask)]
    return _Batch(
        running.rows + started.rows,
        running.cache,
        torch.cat(masks),
        torch.cat([running.tokens, started.tokens]),
    )
