"""The next token of each row of a batch, from its logits and its own chance.

In: logits (rows, vocabulary) with each row's settings and random numbers. Out: tokens (rows,). Pure tensor work; knows
no cache and no model.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from zephyr_bench.records import Sampling


@torch.inference_mode()
def choose(logits: torch.Tensor, samplings: Sequence[Sampling], chances: Sequence[random.Random]) -> torch.Tensor:
    """Greedy where the temperature is 0, else drawn.

    One uniform number per row and step inverts the cumulative distribution, so that a row's tokens
    don't depend on the rows beside it.
    """
    tokens = logits.argmax(-1)
    chancy = [number for number, sampling in enumerate(samplings) if sampling.temperature > 0]
    if not chancy:
        return tokens
    drawing = [samplings[number] for number in chancy]
    temperature = logits.new_tensor([s.temperature for s in drawing], dtype=torch.float32)[:, None]
    top_p = logits.new_tensor([s.top_p for s in drawing], dtype=torch.float32)[:, None]
    probabilities = torch.softmax(logits[chancy].float() / temperature, dim=-1)  # (chancy, vocabulary)
    if any(s.top_p < 1 for s in drawing):
        probabilities = _nucleus(probabilities, top_p)
    cumulative = probabilities.double().cumsum(-1)
    draws = cumulative.new_tensor([chances[number].random() for number in chancy])[:, None]
    drawn = torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True)[:, 0]
    tokens[chancy] = drawn.clamp(max=logits.shape[-1] - 1)
    return tokens


@torch.inference_mode()
def likeliest(logits: torch.Tensor, tokens: torch.Tensor, count: int) -> list[dict[int, float]]:
    """Of each row (rows, vocabulary) the `count` likeliest tokens, and its own, with their natural log-probability."""
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    values, places = log_probs.topk(min(count, logits.shape[-1]))
    own = log_probs.gather(-1, tokens[:, None])[:, 0].tolist()
    found = [dict(zip(*both, strict=True)) for both in zip(places.tolist(), values.tolist(), strict=True)]
    return [{**some, token: value} for some, token, value in zip(found, tokens.tolist(), own, strict=True)]


def _nucleus(probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Zero outside the smallest set of likeliest tokens that holds top_p of the mass."""
    ordered, where = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(-1) - ordered  # mass of the likelier tokens
    ordered = ordered.masked_fill((before >= top_p) & (top_p < 1), 0.0)
    return torch.zeros_like(probabilities).scatter(-1, where, ordered)
