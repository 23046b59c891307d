"""How near tests/speed/open_llm.py's side of ours is to what the machine allows: tokens, FLOP and memory.

Tokens are counted at the model's door, distinct ones by hashing each beginning; a plain matmul of the model's own
shapes says what FLOP/s there are to have.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_MODULUS = (1 << 61) - 1
_BASE = 1_000_003
_MATMUL_ROUNDS = 5


@dataclass
class Passed:
    """What went through a model."""

    tokens: int = 0
    passes: int = 0


@contextlib.contextmanager
def counted(model: Any) -> Iterator[Passed]:
    passed = Passed()

    def count(_: Any, __: Any, options: dict[str, Any]) -> None:
        passed.tokens += options["input_ids"].numel()
        passed.passes += 1

    hook = model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield passed
    finally:
        hook.remove()


@dataclass(frozen=True)
class Tree:
    """Of sequences: their distinct beginnings, the tokens that these attend to in all, and distinct places read."""

    tokens: int
    attended: int
    read: int


def tree_of(inputs: Sequence[tuple[int, ...]], read_from: Sequence[int]) -> Tree:
    """By hashing every beginning: nothing of the engine's own counts it."""
    found: dict[tuple[int, int], bool] = {}
    for tokens, first in zip(inputs, read_from, strict=True):
        known = 0
        for place, token in enumerate(tokens):
            known = (known * _BASE + token + 1) % _MODULUS
            found[known, place] = found.get((known, place), False) or place >= first
    return Tree(len(found), sum(place + 1 for _, place in found), sum(found.values()))


def flop(model: Any, tree: Tree) -> float:
    """Of the least work: each distinct token through the layers once, the head only where a token is read."""
    config = model.config
    width = config.num_attention_heads * getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    linear = sum(part.weight.numel() for _, part in _linears(model.base_model))
    attention = 4 * width * config.num_hidden_layers * tree.attended
    return float(2 * linear * tree.tokens + attention + 2 * model.get_output_embeddings().weight.numel() * tree.read)


@torch.inference_mode()
def matmul_flop_per_second(model: Any, rows: int) -> float:
    """`rows` tokens through every linear map of the model's layers, one after the other, with nothing between."""
    weights = [part.weight for _, part in _linears(model.base_model)]
    inputs = {weight.shape[1]: torch.randn(rows, weight.shape[1]) for weight in weights}
    best = float("inf")
    for _ in range(_MATMUL_ROUNDS):
        started = time.perf_counter()
        for weight in weights:
            torch.nn.functional.linear(inputs[weight.shape[1]], weight)
        best = min(best, time.perf_counter() - started)
    return 2 * rows * sum(weight.numel() for weight in weights) / best


def _linears(body: Any) -> list[tuple[str, Any]]:
    return [(name, part) for name, part in body.named_modules() if isinstance(part, torch.nn.Linear)]


def peak_bytes() -> int:
    """The most memory that this process has held."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
