"""Tiny random models of other architectures, with the tiny model's tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest

_LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_ARCHITECTURES = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512},  # learned positions
    # logits capped after the head, every other layer with a window shorter than a prompt
    "gemma2": {
        **_LAYERS,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": 16,
        "final_logit_softcapping": 2.0,
    },
    "mistral": {**_LAYERS, "num_key_value_heads": 2, "sliding_window": 16},
    "gpt_neox": _LAYERS,  # the head has another name
}


@pytest.fixture(params=_ARCHITECTURES)
def other_architecture(request: pytest.FixtureRequest, tiny_model_dir: Path, tmp_path: Path) -> Path:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    tokens = {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    config = AutoConfig.for_model(request.param, initializer_range=0.3, **tokens, **_ARCHITECTURES[request.param])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / request.param)
    tokenizer.save_pretrained(tmp_path / request.param)
    return tmp_path / request.param
