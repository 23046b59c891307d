"""How fast this machine trains: floating-point operations a second, by some layers of a model's shape.

In: an architecture. Out: FLOP/s. Random weights; nothing is loaded.
"""

from __future__ import annotations

import time
from functools import cache
from math import gcd

from zephyr_bench.recipe import Architecture

_LAYERS = 8  # fewer might stay in a CPU's cache, as a whole model never does: two gave a rate half as high again
_VOCABULARY, _TOKENS = 1024, 1024


@cache
def measured_flop_per_second(shape: Architecture, *, device: str, bf16: bool) -> float:
    """Of a forward and a backward pass over one sequence, the second of two."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    layers, head_width = min(_LAYERS, shape.layers), gcd(128, shape.attention_width, shape.kv_width)
    config = LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_attention_heads=shape.attention_width // head_width,
        num_key_value_heads=shape.kv_width // head_width,
        head_dim=head_width,
        vocab_size=_VOCABULARY,
        use_cache=False,
    )
    with torch.random.fork_rng(), torch.device(device):
        model = LlamaForCausalLM(config)
        ids = torch.zeros(1, _TOKENS, dtype=torch.long)
    for _ in range(2):
        started = time.perf_counter()
        with torch.autocast(device.partition(":")[0], dtype=torch.bfloat16, enabled=bf16):
            model.model(input_ids=ids)[0].float().sum().backward()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        took = time.perf_counter() - started
    return _TOKENS * layers * 6 * (shape.layer_parameters + 2 * shape.attention_width * _TOKENS) / took
