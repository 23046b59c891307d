"""A model's own generation_config.json: what is taken, and what is refused with its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zephyr_bench.benchmarks.own_sampling import own_sampling
from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.recipe import SamplingSpec


def own(folder: Path, settings: Any) -> SamplingSpec:
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return own_sampling(ModelSource("m", str(folder), "f"), max_new_tokens=8)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ([], "generation_config.json: expected a JSON object, found list"),
        ({"do_sample": True, "temperature": "hot"}, "temperature: Input should be a valid number, found 'hot'"),
        ({"do_sample": True, "temperature": float("nan")}, "temperature: Input should be a finite number"),
        ({"do_sample": True, "temperature": -1}, "temperature: Input should be greater than or equal to 0"),
        ({"do_sample": True, "top_p": 2}, "top_p: Input should be less than or equal to 1, found 2"),
        ({"do_sample": "perhaps"}, "do_sample: Input should be a valid boolean"),
        ({"do_sample": True, "top_k": 20}, "asks for top_k 20"),
        ({"do_sample": True, "min_p": 0.1}, "asks for min_p 0.1"),
        ({"num_beams": 4}, "asks for num_beams 4"),
        ({"repetition_penalty": 1.2}, "asks for repetition_penalty 1.2"),
        ({"no_repeat_ngram_size": 3}, "asks for no_repeat_ngram_size 3"),
        ({"do_sample": True, "repetition_penalty": 1.2}, "asks for repetition_penalty 1.2"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(tmp_path: Path, settings: Any, told: str) -> None:
    with pytest.raises(UserError, match=r"generation_config\.json") as refused:
        own(tmp_path, settings)
    assert told in str(refused.value)


def test_null_says_no_more_than_an_absent_key(tmp_path: Path) -> None:
    found = own(tmp_path, {"do_sample": True, "temperature": None, "top_p": 0.9, "num_beams": None})
    assert (found.temperature, found.top_p) == (1.0, 0.9)


def test_what_only_sampling_heeds_changes_no_greedy_answer(tmp_path: Path) -> None:
    found = own(tmp_path, {"top_k": 20, "typical_p": 0.9, "min_p": 0.1, "temperature": 0.6, "top_p": 0.0})
    assert (found.temperature, found.top_p) == (0.0, 1.0)
