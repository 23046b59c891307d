"""The optimisers that a recipe may name, as transformers' Trainer makes them of the same names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from zephyr_bench.recipe import Training
from zephyr_bench.training_runs.adapters import need_bitsandbytes


def optimizer_of(parameters: Iterable[Any], settings: Training) -> Any:
    """Of the parameters that learn; biases and norms don't decay. Raises UserError where bitsandbytes lacks."""
    import torch

    shared: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.weight_decay:
        listed = list(parameters)
        parameters = [
            {"params": [part for part in listed if part.ndim > 1]},
            {"params": [part for part in listed if part.ndim <= 1], "weight_decay": 0.0},
        ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, fused=True, **shared)
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, **shared)
    bitsandbytes = need_bitsandbytes(f"optimizer {settings.optimizer}", instead="optimizer to adamw")
    return bitsandbytes.optim.AdamW(parameters, optim_bits=32, is_paged=True, **shared)


def state_of(optimizer: Any, part: Any) -> Mapping[str, Any]:
    """What it keeps for one parameter, as tensors; bitsandbytes counts steps by an int."""
    import torch

    return {key: torch.as_tensor(value) for key, value in optimizer.state.get(part, {}).items()}


def put_state(optimizer: Any, part: Any, values: Mapping[str, Any]) -> None:
    """What `state_of` told, where the optimiser wants it: bitsandbytes' in paged memory."""
    state = optimizer.state[part]
    if hasattr(optimizer, "init_state"):
        optimizer.init_state(optimizer.param_groups[0], part, 0, 0)
    for key, value in values.items():
        if isinstance(state.get(key), int):
            state[key] = int(value)
        elif key in state:
            state[key].copy_(value)
        else:
            state[key] = value.to(part.device)
