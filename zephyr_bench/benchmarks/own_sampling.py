"""How a model itself says that it wants to be sampled: its generation_config.json.

In: a model that was found. Out: temperature and top_p. What our engines can't do is refused, never passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.recipe import SamplingSpec
from zephyr_bench.yaml_file import explain

_FILE = "generation_config.json"
# values that change nothing, by transformers' names (GenerationConfig, 4.57); the first change greedy answers, too
_NEUTRAL: Mapping[str, Any] = {
    "num_beams": 1,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "penalty_alpha": 0.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "guidance_scale": 1.0,
    "min_length": 0,
    "min_new_tokens": 0,
    "bad_words_ids": [],
    "suppress_tokens": [],
    "begin_suppress_tokens": [],
    "sequence_bias": {},
}
_NEUTRAL_SAMPLED: Mapping[str, Any] = {
    "top_k": 0,
    "typical_p": 1.0,
    "min_p": 0.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
}


class _Chosen(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    do_sample: bool = False


class _Sampled(_Chosen):
    temperature: float = Field(1.0, ge=0, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1)


def own_sampling(model: ModelSource, *, max_new_tokens: int) -> SamplingSpec:
    """Greedy where the model doesn't ask to be sampled. Raises UserError where it doesn't say, or asks for more.

    A top_k that the file leaves out is none, where transformers' own `generate` would take 50.
    """
    file = Path(model.location) / _FILE
    if not file.is_file():
        raise UserError(f"--sampling own: model {model.name} has no {_FILE} here; leave out --sampling, or say greedy.")
    settings = _read(file)
    _refuse_others(file, settings, _NEUTRAL)
    try:
        if not _Chosen.model_validate(settings).do_sample:
            return SamplingSpec(temperature=0.0, max_new_tokens=max_new_tokens)
        _refuse_others(file, settings, _NEUTRAL_SAMPLED)
        found = _Sampled.model_validate(settings)
    except ValidationError as error:
        raise UserError(explain(error, _Sampled, {}, str(file))) from None
    return SamplingSpec(temperature=found.temperature, top_p=found.top_p, max_new_tokens=max_new_tokens)


def _read(file: Path) -> dict[str, Any]:
    """Without nulls, which say no more than an absent key."""
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} can't be read ({error}).") from None
    if not isinstance(settings, dict):
        raise UserError(f"{file}: expected a JSON object, found {type(settings).__name__}.")
    return {name: value for name, value in settings.items() if value is not None}


def _refuse_others(file: Path, settings: Mapping[str, Any], neutral: Mapping[str, Any]) -> None:
    for name, value in neutral.items():
        if settings.get(name, value) != value:
            raise UserError(f"{file}: asks for {name} {settings[name]}, which engines here don't know; say greedy.")
