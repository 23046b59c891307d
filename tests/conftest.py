"""Models that tests run: a tiny one made in a moment, and the name of the embedded real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_model import make_tiny_model


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of safetensors with tokenizer and chat template. Read only: copy it to change it."""
    folder = make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 2
    return folder


@pytest.fixture(scope="session")
def embedded_model() -> str:
    """A real model's name, at hand offline once its package is installed."""
    return "smollm2-135m-instruct"
