"""Memory and time that a training stage takes, from the shape of the model. Loads no weights.

In: a stage's settings and the model's architecture. Out: bytes and floating-point operations. What is kept for the
backward pass is counted as a transformers decoder of Llama's kind keeps it under torch's autograd: two RMSNorms,
rotary attention by SDPA, a gated feed-forward part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zephyr_bench.engines.launch import in_shards, launched
from zephyr_bench.engines.loading import resolve_device
from zephyr_bench.pipeline.token_counts import TokenCount, longest_at_once
from zephyr_bench.recipe import Architecture, DdpoStage, Lora, Training
from zephyr_bench.trainers.rate import measured_flop_per_second

_LOGITS_BYTES = 1 << 26  # of the head at once (trainers/head_log_probs.py); three such tensors are there
_NF4_BYTES = 0.5 + 8.25 / 64 / 8  # a weight: 4 bits, and per 64 of them an 8-bit scale, itself quantised
_GIB = 1024**3
# where a model is too large for the CPU that the plan is made on: what NVIDIA states for an A100 in bf16, and the
# share of it that training a 7B model reaches
_GPU, _GPU_FLOP_PER_SECOND, _REACHED = "A100", 312e12, 0.4
_GPUS = 8
_CPU_PARAMETERS = 1e9
_MOMENTS = {"adamw": 8, "paged_adamw_32bit": 8, "rmsprop": 4}  # bytes a parameter

Measure = Callable[..., float]  # as `measured_flop_per_second`


@dataclass(frozen=True)
class Memory:
    """Bytes on one device."""

    states: float  # weights, gradients, optimiser
    activations: float  # and all else that a step holds for a while

    @property
    def total(self) -> float:
        return self.states + self.activations


@dataclass(frozen=True)
class Resources:
    """What a stage takes on the devices that `where` tells."""

    gib_a_device: float
    states_gib_a_device: float  # weights, gradients, optimiser
    hours: float
    where: str


def resources(
    stage: Training, shape: Architecture, count: TokenCount, *, device: str, measure: Measure = measured_flop_per_second
) -> Resources:
    """On this machine; for a large model on a machine without GPUs, on the GPUs that it takes."""
    here = resolve_device(device)
    planned = here == "cpu" and shape.parameters > _CPU_PARAMETERS
    launch = launched()
    sharded = in_shards() if launch else planned and stage.lora is None
    devices = launch.world if launch else _GPUS if sharded else 1
    bf16 = stage.dtype == "bfloat16" or (stage.dtype == "auto" and (planned or here != "cpu"))
    memory = training_memory(stage, shape, bf16=bf16, devices=devices if sharded else 1, at_once=count.at_once)
    flop = training_flop(stage, shape, count)
    if planned:
        rate = devices * _GPU_FLOP_PER_SECOND * _REACHED
        each = f"{_GPU_FLOP_PER_SECOND / 1e12:.0f} TFLOP/s"
        on = f"each of {devices} {_GPU}s, by FSDP2" if devices > 1 else f"one {_GPU}"
        where = f"{on}, if {_REACHED:.0%} of {each} is reached"
    else:
        each_rate = measure(shape, device=here, bf16=bf16)
        rate = devices * each_rate
        on = f"each of {devices} processes" if devices > 1 else "this machine"
        where = f"{on}, {here}, {each_rate / 1e9:.3g} GFLOP/s measured on layers of the model's shape"
    return Resources(memory.total / _GIB, memory.states / _GIB, flop / rate / 3600, where)


def training_memory(
    stage: Training, shape: Architecture, *, bf16: bool, devices: int = 1, at_once: tuple[float, float] | None = None
) -> Memory:
    """On each of `devices` that hold the states in equal parts (FSDP2); 1: all on one.

    `at_once`: tokens, and learned ones, of one pass; by default the most that the stage's lengths allow.
    """
    tokens, learned = at_once or longest_at_once(stage)
    states = _states(stage, shape, bf16=bf16)
    passing = 2.0 * shape.parameters if bf16 and not stage.lora else 0.0  # autocast's copies of the weights
    if devices > 1:
        gathered = 4 * (2 * shape.layer_parameters + shape.embedding_parameters)  # this layer and the next
        passing = gathered + passing / devices
    return Memory(states / devices, passing + _kept(stage, shape, tokens, learned, bf16=bf16))


def _states(stage: Training, shape: Architecture, *, bf16: bool) -> float:
    each = 4 + 4 + _MOMENTS[stage.optimizer]  # float32 weights and gradients
    if stage.lora is None:
        return each * shape.parameters
    frozen = shape.parameters * (2.0 if bf16 else 4.0)
    if stage.lora.quantize:
        frozen = shape.layers * shape.layer_parameters * _NF4_BYTES + shape.embedding_parameters * 2
    return frozen + each * adapter_parameters(stage.lora, shape)


def adapter_parameters(lora: Lora, shape: Architecture) -> int:
    """Of rank-r factors beside each matrix that is named."""
    sizes = shape.matrices
    named = sizes if lora.targets == "all-linear" else {name: sizes[name] for name in lora.targets if name in sizes}
    return shape.layers * sum(lora.rank * (inputs + outputs) for inputs, outputs in named.values())


def _kept(stage: Training, shape: Architecture, tokens: float, learned: float, *, bf16: bool) -> float:
    """Bytes held for the backward pass, at most, with what it adds itself."""
    width, heads, pairs, inner = shape.width, shape.attention_width, shape.kv_width, shape.feed_forward
    low = 2 if bf16 else 4
    norm = 2 * 4 * width + (low * width if bf16 else 4 * width)  # its input, that normed, what the matrices read
    attention = low * (heads + 2 * heads + heads)  # queries, keys and values once a head, its output
    feed = low * 4 * inner  # gate, its activation, up, their product
    layer = 2 * norm + attention + feed
    if stage.gradient_checkpointing == "selective":
        each, again = 4 * width + low * (2 * heads + 2 * pairs + 2 * width + 2 * inner), layer
    elif stage.gradient_checkpointing:
        each, again = 4 * width, layer
    else:
        each, again = layer, 0
    backward = low * 3 * inner + 4 * 2 * width
    rows = stage.micro_batch or stage.global_batch
    mask = (4 + 3) * tokens * tokens / rows  # (rows, queries, keys)
    head = 3 * min(_LOGITS_BYTES, 4 * learned * shape.vocabulary) + 4 * 3 * learned * width
    return tokens * (shape.layers * each + again + backward + 4 * 4 * width) + mask + head


def training_flop(stage: Training, shape: Architecture, count: TokenCount) -> float:
    """Of all forward and backward passes over all epochs.

    2 a weight and token forward, twice that backward, and forward again where activations are computed twice; frozen
    weights have no gradient of their own.
    """
    body = shape.layers * shape.layer_parameters
    again = 2 if stage.gradient_checkpointing is True else 0
    passes = (4 if stage.lora else 6) + again
    attention = shape.layers * 2 * shape.attention_width * count.length  # causal: half of the keys, read and summed
    head = shape.width * shape.vocabulary * count.learned / count.tokens
    per_token = passes * (body + attention) + (8 if not stage.lora else 6) * head  # logits are made twice
    reference = 2 * (body + attention + head) / stage.epochs if isinstance(stage, DdpoStage) else 0
    return stage.epochs * count.tokens * (per_token + reference)
