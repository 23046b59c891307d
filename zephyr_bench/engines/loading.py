"""Loads a causal language model and says how much of it fits at once.

Out: a LoadedModel, which decoding.py and scoring.py run. Imports torch when it loads, not before.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from zephyr_bench.engines.adapters import with_adapter
from zephyr_bench.engines.locate import base_of, hub_place
from zephyr_bench.engines.model_files import has_tokenizer, is_adapter
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.engines.quiet import quiet_transformers, readable
from zephyr_bench.errors import UserError, did_you_mean

_DTYPES = ("float32", "bfloat16", "float16")
# keys and values of a layer are all that our cache holds; recurrent states are something else
_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}
_CPU_KV_BYTES = 3 << 29  # beside weights and activations, in a machine of a few GiB
_CPU_ROWS = 64  # twice as many gain a tenth more, and need the memory
_GPU_ROWS = 256
_GPU_KV_SHARE = 0.6  # of the memory that is free once the weights are there
_BEGUN_SHARE = 3  # a third as much again as the batch's keys and values
_CPU_FORWARD_TOKENS = 4096
_CPU_PROMPT_TOKENS = 1024  # more are read slower, and need more padding
_GPU_FORWARD_TOKENS = 32768
_CPU_TREE_TOKENS = 1024  # more don't multiply faster
_GPU_TREE_TOKENS = 4096


@dataclass(frozen=True)
class Batching:
    """How much may be in memory at once."""

    rows: int
    kv_tokens: int  # rows times columns of the key-value cache
    forward_tokens: int  # rows times columns of one forward pass that scores in groups
    tree_tokens: int  # of one that scores along a tree
    prompt_tokens: int  # rows times columns of one that reads prompts
    begun_tokens: int  # whose keys and values are held, outside any batch, for prompts that begin with them

    def rows_of(self, columns: int) -> int:
        """How many sequences of that length may run together; at least one."""
        return max(1, min(self.rows, self.kv_tokens // max(1, columns)))


@dataclass
class LoadedModel:
    """A model with its tokenizer, on its device."""

    model: Any
    tokenizer: Any
    device: Any  # torch.device
    end_tokens: frozenset[int]
    batching: Batching
    scores_along_trees: bool | None = None  # whether the architecture can; found out at the first score

    @cached_property
    def last_logits_only(self) -> dict[str, Any]:
        """Arguments that keep the forward pass from computing logits nobody reads."""
        known = inspect.signature(self.model.forward).parameters
        return {"logits_to_keep": 1} if "logits_to_keep" in known else {}


def resolve_device(device: str) -> str:
    """'cuda' or 'cpu' for 'auto'. Raises UserError for a device that isn't here."""
    if device == "cpu" or (device == "auto" and "+cpu" in version("torch")):
        return "cpu"  # known without importing torch
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # torch raises either for an absent or unknown device
        raise UserError(f"--device {device}: torch {torch.__version__} finds no such device here; use cpu.") from None
    return device


def resolve_dtype(dtype: str, device: str) -> str:
    """bfloat16 on a GPU and float32 elsewhere for 'auto'. Raises UserError for an unknown name."""
    if dtype == "auto":
        return "bfloat16" if device.startswith("cuda") else "float32"
    if dtype not in _DTYPES:
        raise UserError(f"--dtype {dtype}: unknown.{did_you_mean(dtype, (*_DTYPES, 'auto'))}")
    return dtype


def load_tokenizer(location: str, options: EngineOptions) -> Any:
    """An adapter's own, or else its base's."""
    from transformers import AutoTokenizer

    while is_adapter(location) and not has_tokenizer(Path(location)):
        location = base_of(location, include=options.include).location
    with quiet_transformers(), readable(f"model {location}"):
        place, revision = hub_place(location)
        return AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=options.trust_remote_code)


def default_template(tokenizer: Any) -> str | None:
    """The chat template of an ordinary chat; some tokenizers have others beside it, for tools."""
    template = tokenizer.chat_template
    return template.get("default") if isinstance(template, dict) else template


def load_config(location: str, options: EngineOptions) -> Any:
    from transformers import AutoConfig

    location = _whole(location, options)
    with quiet_transformers(), readable(f"model {location}"):
        place, revision = hub_place(location)
        return AutoConfig.from_pretrained(place, revision=revision, trust_remote_code=options.trust_remote_code)


def _whole(location: str, options: EngineOptions) -> str:
    """Where the whole model below an adapter is."""
    while is_adapter(location):
        location = base_of(location, include=options.include).location
    return location


def load_weights(location: str, options: EngineOptions, *, dtype: Any, merged: bool) -> Any:
    """transformers' causal model in a torch dtype, on the CPU. Raises UserError for what can't be read.

    Of an adapter it is the base with the adapter in it: merged into its weights, or beside them. Merging loses nothing
    in float32; in bfloat16 it rounds away most of what small steps changed.
    """
    from transformers import AutoModelForCausalLM

    if is_adapter(location):
        base = load_weights(base_of(location, include=options.include).location, options, dtype=dtype, merged=True)
        with quiet_transformers(), readable(f"model {location}"):
            return with_adapter(base, location, merged=merged)
    with quiet_transformers(), readable(f"model {location}"):
        place, revision = hub_place(location)
        return AutoModelForCausalLM.from_pretrained(
            place,
            revision=revision,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=options.trust_remote_code,
        )


def load_model(location: str, tokenizer: Any, options: EngineOptions, *, device: str, dtype: str) -> LoadedModel:
    """Weights on the device, ready to run. Raises UserError for what can't be read or run."""
    import torch

    model = load_weights(location, options, dtype=getattr(torch, dtype), merged=dtype == "float32")
    model = model.to(device).eval()
    config = model.config.get_text_config(decoder=True)
    other = set(getattr(config, "layer_types", None) or ()) - _ATTENTION
    if other or getattr(model, "_is_stateful", False):
        kind = ", ".join(sorted(other)) or "recurrent state"
        raise UserError(
            f"model {location}: {config.model_type} has layers that engine transformers can't batch ({kind})."
        )
    return LoadedModel(model, tokenizer, model.device, end_tokens_of(model, tokenizer), _batching(model, options))


def end_tokens_of(model: Any, tokenizer: Any) -> frozenset[int]:
    """Those at which generation stops: the tokenizer's EOS and what the generation config declares."""
    own = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
    return declared_ends(model.generation_config).union(own)


def declared_ends(generation_config: Any) -> frozenset[int]:
    """The end tokens that a generation config names: none, one or several."""
    declared = getattr(generation_config, "eos_token_id", None)
    ends = declared if isinstance(declared, list) else [declared]
    return frozenset(token for token in ends if token is not None)


def config_ends(location: str, options: EngineOptions) -> frozenset[int]:
    """The end tokens of the generation config that transformers loads beside the weights."""
    from transformers import GenerationConfig

    location = _whole(location, options)
    place, revision = hub_place(location)
    try:
        config = GenerationConfig.from_pretrained(place, revision=revision)
    except OSError:  # as transformers, where generation_config.json is absent
        config = GenerationConfig.from_model_config(load_config(location, options))
    return declared_ends(config)


def _batching(model: Any, options: EngineOptions) -> Batching:
    on_gpu = model.device.type == "cuda"
    forward_tokens = _GPU_FORWARD_TOKENS if on_gpu else _CPU_FORWARD_TOKENS
    tree_tokens = _GPU_TREE_TOKENS if on_gpu else _CPU_TREE_TOKENS
    prompt_tokens = _GPU_FORWARD_TOKENS if on_gpu else _CPU_PROMPT_TOKENS
    kv_bytes = _CPU_KV_BYTES
    if on_gpu:
        import torch

        free, _ = torch.cuda.mem_get_info(model.device)
        kv_bytes = int(free * _GPU_KV_SHARE)
    kv_tokens = kv_bytes // _kv_bytes_per_token(model)
    begun_tokens = kv_tokens // _BEGUN_SHARE
    if options.batch_size is not None:
        return Batching(options.batch_size, 1 << 62, forward_tokens, tree_tokens, prompt_tokens, begun_tokens)
    rows = _GPU_ROWS if on_gpu else _CPU_ROWS
    return Batching(rows, kv_tokens, forward_tokens, tree_tokens, prompt_tokens, begun_tokens)


def _kv_bytes_per_token(model: Any) -> int:
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)


def max_length(config: Any, tokenizer: Any) -> int:
    """Longest sequence in tokens, as lm-eval 0.4.13 finds it (models/utils.py, resolve_max_length)."""
    text = getattr(config, "text_config", None) or config
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        if getattr(text, name, None) is not None:
            return int(getattr(text, name))
    declared = getattr(tokenizer, "model_max_length", None)
    if declared is not None and declared < 10**18:  # transformers writes 1e30 for "unset", GGUF files 1e18
        return int(declared)
    return 2048


def free(loaded: LoadedModel) -> None:
    """Gives the device's memory back."""
    on_gpu = loaded.device.type == "cuda"
    loaded.model = None
    free_memory(on_gpu=on_gpu)


def free_memory(*, on_gpu: bool) -> None:
    """What nobody refers to any more, to the system and the device."""
    import gc

    gc.collect()
    if on_gpu:
        import torch

        torch.cuda.empty_cache()
