"""Continues token sequences in batches whose rows come and go.

In: prompts as token ids, each with its own sampling. Out: each result the moment its row ends. Rows are
padded on the left, so that all end at the same column; a place that falls free is given to the next
prompt. Rows whose result is known already keep their place and their length but are not computed, so that a
run taken up again computes the rest in the very batches of an unbroken one. Knows no chat and no template.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size

from zephyr_bench.engines import kv_cache
from zephyr_bench.engines.loading import Batching, LoadedModel, free_memory
from zephyr_bench.engines.protocol import CompletionRequest
from zephyr_bench.engines.rows import Begun, Follow, Queue, Row, Rows, common_beginning, groups, share_beginnings
from zephyr_bench.engines.sampling import choose, likeliest
from zephyr_bench.engines.token_texts import told_tokens
from zephyr_bench.engines.tree_masks import turns_by_length
from zephyr_bench.errors import UserError
from zephyr_bench.records import Generation

_REFILL_SHARE = 4  # new prompts are read when a quarter of the places is free
_STOP_SLACK = 4  # tokens looked at before the longest stop string: the first may decode differently alone
_NO_TOKEN = 0  # stands where a known row's token would be: nobody reads what is computed from it


@dataclass
class _Computed:
    """What the model made of a batch. The rows' newest tokens are in `tokens`, not yet in the cache."""

    cache: Any
    mask: torch.Tensor  # (rows, columns), 0 for padding
    tokens: torch.Tensor  # (rows,)


@dataclass
class _Batch:
    """Rows under way. Nothing is computed while the results of all of them are known."""

    rows: list[Row]
    columns: int  # of the cache
    computed: _Computed | None


def decode(
    loaded: LoadedModel,
    requests: Iterable[CompletionRequest],
    *,
    max_length: int,
    then: Follow,
) -> Iterator[Generation]:
    """Each request's continuation, as it ends, but for known ones.

    `then` gives the requests that follow from a result; of a known one it is asked at once. What it raises of a user's
    mistake (a template that refuses the chat) is raised once everything else has ended. A prompt that follows and
    leaves no room for an answer has an empty one, cut at the length. Where memory runs out, the rows under way begin
    again, half of them at once from then on; UserError where one alone has no room.
    """
    rows = Rows(then, max_length)
    queue = Queue()
    first = [rows.row(request) for request in requests]
    if not turns_by_length(loaded.model):
        share_beginnings([row for row in first if row.limit > 0], room=loaded.batching.begun_tokens)
    for row in first:
        if row.limit > 0:
            queue.add(row)
        else:
            for after in (yield from _told(loaded, rows, row, _generation(loaded, row, "", "length"))):
                queue.add(after)
    batching, running = loaded.batching, None
    while queue or running:
        fresh = _admit(batching, queue, running)
        unfinished = {id(row): row for row in (*(running.rows if running else ()), *fresh)}
        try:
            running = yield from _turn(loaded, rows, queue, running, fresh, unfinished)
            continue
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            if len(unfinished) < 2:
                raise _too_long_for_memory(loaded, *unfinished.values()) from error
        running = None
        free_memory(on_gpu=loaded.device.type == "cuda")
        batching = replace(batching, rows=len(unfinished) // 2)
        for row in unfinished.values():
            row.begin_again()
            queue.add(row)
    if rows.refused is not None:
        raise rows.refused


def _too_long_for_memory(loaded: LoadedModel, row: Row) -> UserError:
    return UserError(
        f"memory ran out on {loaded.device} while one answer alone was made, after a prompt of {len(row.prompt)} "
        f"tokens and {len(row.made)} of at most {row.limit} of its own; what was done is stored: set --dtype bfloat16, "
        "free memory there, or take a smaller model."
    )


def _turn(
    loaded: LoadedModel, rows: Rows, queue: Queue, running: _Batch | None, fresh: list[Row], unfinished: dict[int, Row]
) -> Generator[Generation, None, _Batch | None]:
    """Reads the fresh rows' prompts or, without any, takes the batch one token further; yields what ended.

    Returns what goes on. `unfinished` loses the rows that ended, and has at any time those that stand nowhere else.
    """
    going_on: list[_Batch] = []
    computed: Iterable[tuple[_Batch, torch.Tensor | None]]
    if fresh:
        computed = (_read_prompts(loaded, group) for group in groups(fresh, loaded.batching.prompt_tokens))
        going_on += [running] if running else []
    else:
        assert running is not None
        computed = [_step(loaded, running)]
    for batch, logits in computed:
        ended = _advance(loaded, batch, logits)
        for number, result in ended.items():
            del unfinished[id(batch.rows[number])]
            following = yield from _told(loaded, rows, batch.rows[number], result)
            unfinished |= {id(row): row for row in following}
            for row in following:
                row.begun = _begun(row, batch, number, room=loaded.batching.begun_tokens - queue.begun)
                queue.add(row)
                del unfinished[id(row)]
        going_on += _without(batch, ended)
    return _merged(going_on)


def _told(loaded: LoadedModel, rows: Rows, row: Row, result: Generation) -> Generator[Generation, None, list[Row]]:
    """Yields a new result, then what follows from it and has no room for an answer. Returns what follows and has."""
    if row.known is None:
        yield result
    following: list[Row] = []
    for after in rows.after(row, result):
        if after.limit > 0:
            following.append(after)
        else:
            following += yield from _told(loaded, rows, after, _generation(loaded, after, "", "length"))
    return following


def _begun(row: Row, batch: _Batch, number: int, *, room: int) -> Begun | None:
    """What the prompt of a row that follows shares with the prompt that it follows, row `number` of the batch.

    The answer between them is read again: of a stored answer that would have to be computed again, token by token.
    """
    before = batch.rows[number]
    shared = common_beginning(before, row)
    if not 0 < shared <= room:
        return None
    if row.known and not row.begins_others:
        return Begun(shared)
    if before.kept is None:
        assert batch.computed is not None
        start = batch.columns - (before.length - 1)  # the newest token is not in the cache yet
        return Begun(shared, kv_cache.columns_of(batch.computed.cache, number, start, shared))
    return Begun(shared, before.kept.first(shared))


def _admit(batching: Batching, queue: Queue, running: _Batch | None) -> list[Row]:
    """The prompts to start now: none while few places are free."""
    if not queue:
        return []
    taken = running.rows if running else []
    columns = max(row.longest for row in (*taken, queue.next))
    free = batching.rows_of(columns) - len(taken)
    if taken and free < max(1, batching.rows_of(columns) // _REFILL_SHARE):
        return []
    fresh: list[Row] = []
    while queue and len(fresh) < free:
        columns = max(columns, queue.next.longest)
        if (taken or fresh) and len(taken) + len(fresh) >= batching.rows_of(columns):
            break
        fresh.append(queue.take())
    return fresh


@torch.inference_mode()
def _read_prompts(loaded: LoadedModel, rows: list[Row]) -> tuple[_Batch, torch.Tensor | None]:
    """The batch that the prompts begin, and the logits after each (rows, vocabulary).

    The last `new` tokens of every prompt are read, so many that nobody lacks any: between what was read before and
    what is read now there is no padding.
    """
    columns, new = max(len(row.prompt) for row in rows), max(row.unread for row in rows)
    if all(row.known and not row.begins_others for row in rows):
        for row in rows:
            row.begun = None
        return _Batch(rows, columns, None), None
    ids = torch.zeros(len(rows), new, dtype=torch.long)  # (rows, new)
    for number, row in enumerate(rows):
        tail = row.prompt[-new:]
        ids[number, new - len(tail) :] = torch.tensor(tail)
    mask = _mask([len(row.prompt) for row in rows], columns)
    ids, mask = ids.to(loaded.device), mask.to(loaded.device)
    for row in rows:
        if row.begun and row.begun.shared and row.begun.columns is None and (row.known is None or row.begins_others):
            row.begun.columns = _read_beginning(loaded, row.begun.shared)
    cache = kv_cache.new_cache()
    if columns > new:
        begun = [row.begun.columns if row.begun else None for row in rows]
        cache = kv_cache.begun_with(begun, [len(row.prompt) - new for row in rows])
    output = loaded.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, -new:],  # (rows, new)
        past_key_values=cache,
        use_cache=True,
        **loaded.last_logits_only,
    )
    for number, row in enumerate(rows):
        row.begun = None
        if row.known and row.begins_others:
            row.kept = kv_cache.columns_of(cache, number, columns - len(row.prompt), len(row.prompt))
    return _Batch(rows, columns, _Computed(cache, mask, ids[:, -1])), output.logits[:, -1]


@torch.inference_mode()
def _read_beginning(loaded: LoadedModel, tokens: tuple[int, ...]) -> kv_cache.Columns:
    """By itself, so that its numbers hang on nothing else."""
    cache = kv_cache.new_cache()
    ids = torch.tensor([tokens], device=loaded.device)
    loaded.model(input_ids=ids, past_key_values=cache, use_cache=True, **loaded.last_logits_only)
    return kv_cache.columns_of(cache, 0, 0, len(tokens))


def _mask(lengths: list[int], columns: int) -> torch.Tensor:
    """1 in the last `length` columns of each row (rows, columns)."""
    return (torch.arange(columns) >= columns - torch.tensor(lengths)[:, None]).long()


@torch.inference_mode()
def _step(loaded: LoadedModel, batch: _Batch) -> tuple[_Batch, torch.Tensor | None]:
    """The batch, and the logits after each row's newest token (rows, vocabulary)."""
    batch.columns += 1
    if batch.computed is None:
        return batch, None
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
    return batch, output.logits[:, -1]


def _advance(loaded: LoadedModel, batch: _Batch, logits: torch.Tensor | None) -> dict[int, Generation]:
    """Gives every row its next token. The number of each row that ends, with its result."""
    tokens = [_NO_TOKEN] * len(batch.rows)
    if batch.computed is not None:
        assert logits is not None
        rows = batch.rows
        batch.computed.tokens = choose(logits, [row.request.sampling for row in rows], [row.chance for row in rows])
        tokens = batch.computed.tokens.tolist()
        _note_likeliest(rows, logits, batch.computed.tokens)
    for row, token in zip(batch.rows, tokens, strict=True):
        row.made.append(token)
    results = ((number, _result(loaded, row)) for number, row in enumerate(batch.rows))
    return {number: result for number, result in results if result is not None}


def _note_likeliest(rows: list[Row], logits: torch.Tensor, tokens: torch.Tensor) -> None:
    asking = [number for number, row in enumerate(rows) if row.request.top_logprobs and row.known is None]
    if asking:
        count = max(rows[number].request.top_logprobs for number in asking)
        for number, found in zip(asking, likeliest(logits[asking], tokens[asking], count), strict=True):
            rows[number].likeliest.append(found)


def _result(loaded: LoadedModel, row: Row) -> Generation | None:
    """The row's result if its newest token ended it."""
    if row.known is not None:
        return row.known if len(row.made) >= (row.known.completion_tokens or 0) else None
    if row.made[-1] in loaded.end_tokens:
        return _generation(loaded, row, loaded.tokenizer.decode(row.made[:-1], skip_special_tokens=True), "stop")
    if row.request.sampling.stop:
        text = _cut_at_stop(loaded.tokenizer, row)
        if text is not None:
            return _generation(loaded, row, text, "stop")
    if len(row.made) >= row.limit:
        return _generation(loaded, row, loaded.tokenizer.decode(row.made, skip_special_tokens=True), "length")
    return None


def _cut_at_stop(tokenizer: Any, row: Row) -> str | None:
    """The text up to the first stop string, if any. Only the newest tokens are decoded at each step."""
    stops = row.request.sampling.stop
    tail = max(len(stop.encode()) for stop in stops) + _STOP_SLACK  # a token holds a byte or more
    recent = tokenizer.decode(row.made[-tail:], skip_special_tokens=True)
    if not any(stop in recent for stop in stops):
        return None
    text = tokenizer.decode(row.made, skip_special_tokens=True)
    found = [text.index(stop) for stop in stops if stop in text]
    return text[: min(found)] if found else None


def _generation(loaded: LoadedModel, row: Row, text: str, reason: str) -> Generation:
    told = tuple(told_tokens(loaded.tokenizer, row.made, row.likeliest))
    return Generation(row.request.key, text, reason, len(row.prompt), len(row.made), told)


@torch.inference_mode()
def _without(batch: _Batch, ended: Mapping[int, Generation]) -> list[_Batch]:
    """The batch without these rows, and without columns that only they needed; none if none is left."""
    alive = [number for number in range(len(batch.rows)) if number not in ended]
    if not alive:
        return []
    rows = [batch.rows[number] for number in alive]
    columns = max(row.length for row in rows) - 1  # the newest token is not in the cache yet
    computed = batch.computed
    if computed is None or all(row.known for row in rows):
        return [_Batch(rows, columns, None)]
    if not ended:
        return [batch]
    where = torch.tensor(alive, device=computed.tokens.device)
    kv_cache.keep(computed.cache, where, columns=columns)
    computed = _Computed(computed.cache, computed.mask[where][:, -columns:], computed.tokens[where])
    return [_Batch(rows, columns, computed)]


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
