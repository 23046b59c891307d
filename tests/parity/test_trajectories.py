"""Training walks as it was recorded: loss, gradient norm and margin of its first 50 steps on the embedded model."""

from __future__ import annotations

import json

import pytest
from trajectories.walk import HERE, STEPS, walked


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["dsft", "ddpo"])
def test_training_walks_as_it_was_recorded(embedded_model: str, stage: str) -> None:
    recorded = json.loads((HERE / f"{stage}.json").read_text(encoding="utf-8"))["steps"]
    found = walked(stage)
    assert len(found) == len(recorded) == STEPS
    for number, (step, expected) in enumerate(zip(found, recorded, strict=True), start=1):
        assert step == pytest.approx(expected, rel=2e-3, abs=2e-4), f"step {number}"
