"""How a model itself says that it wants to be sampled: its generation_config.json.

In: a model that was found. Out: temperature and top_p. What our engines can't do is refused, never passed over.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.recipe import SamplingSpec

_FILE = "generation_config.json"
_NEUTRAL = {"top_k": 0, "typical_p": 1.0, "repetition_penalty": 1.0, "min_p": 0.0, "num_beams": 1}  # change nothing


def own_sampling(model: ModelSource, *, max_new_tokens: int) -> SamplingSpec:
    """Greedy where the model doesn't ask to be sampled. Raises UserError where it doesn't say, or asks for more.

    A top_k that the file leaves out is none, where transformers' own `generate` would take 50.
    """
    file = Path(model.location) / _FILE
    if not file.is_file():
        raise UserError(f"--sampling own: model {model.name} has no {_FILE} here; leave out --sampling, or say greedy.")
    try:
        settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} can't be read ({error}).") from None
    if not settings.get("do_sample", False):
        return SamplingSpec(temperature=0.0, max_new_tokens=max_new_tokens)
    for name, neutral in _NEUTRAL.items():
        if settings.get(name) is not None and settings[name] != neutral:
            raise UserError(f"{file}: asks for {name} {settings[name]}, which engines here don't know; say greedy.")
    temperature, top_p = settings.get("temperature", 1.0), settings.get("top_p", 1.0)
    return SamplingSpec(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
