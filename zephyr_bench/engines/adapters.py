"""An adapter's weights put on its base: merged, or beside the base's own.

In: the loaded base, and a folder as peft writes it (locate.py finds the base). Out: the model of both.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from zephyr_bench.engines.model_files import ADAPTER_WEIGHTS, base_is_checked
from zephyr_bench.errors import UserError
from zephyr_bench.progress import Progress


def with_adapter(model: Any, location: str, *, merged: bool) -> Any:
    """The base with the adapter merged into its weights, or beside them. Raises UserError where they don't fit."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    folder = Path(location)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Found missing adapter keys")  # told below
        warnings.filterwarnings("ignore", category=FutureWarning)  # what peft uses of transformers
        # merged: summed in float32 and rounded once; else computed in the base's own arithmetic, as trained
        adapted = PeftModel.from_pretrained(
            model, folder, autocast_adapter_dtype=merged, torch_device=str(model.device)
        )
    with safe_open(folder / ADAPTER_WEIGHTS, "pt") as file:
        there = set(file.keys())
    wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if unlike := sorted(wanted - there) + sorted(name for name in there - wanted if ".lora_" in name):
        raise UserError(f"adapter {folder}: doesn't fit its base: only one of them has {unlike[0]}.")
    if not base_is_checked(folder):
        told = f"adapter {folder}: whether it was trained on {model.name_or_path} can't be checked: no lineage.json"
        Progress().warn(told)
    return adapted.merge_and_unload() if merged else adapted.get_base_model()
