"""What a forward pass keeps for the backward one, and what is computed again instead."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal


def keep_less(model: Any, how: bool | Literal["selective"]) -> None:
    """Selective: of each layer only its input and its products (matrices, attention) are kept; the rest is cheap.

    True: only the input of each layer.
    """
    if how is False:
        return
    options: dict[str, Any] = {"use_reentrant": False}
    if how == "selective":
        from torch.utils.checkpoint import create_selective_checkpoint_contexts

        options["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)


def _policy(_: Any, operation: Any, *__: Any, **___: Any) -> Any:
    from torch.utils.checkpoint import CheckpointPolicy

    name = str(operation)
    product = any(word in name for word in (".mm.", ".addmm.", ".bmm.", ".baddbmm.", "attention"))
    return CheckpointPolicy.MUST_SAVE if product else CheckpointPolicy.PREFER_RECOMPUTE
