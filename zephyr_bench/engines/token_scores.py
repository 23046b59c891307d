"""Log-probabilities of chosen tokens; the head runs only where one is read.

In: a model's last states, and tokens asked after some of them. Out: values, and whether each token was the likeliest.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_LOGITS = 1 << 23  # held at once, rows times vocabulary: 32 MiB in float32


class Head:
    """A model in two: the body, whose first output is states, and the head, which makes logits of them.

    Some architectures scale or cap logits after the head, so the split is tried on a few tokens; where it doesn't
    give the model's own logits, the whole model stands for the body, and its logits for states.
    """

    def __init__(self, model: Any) -> None:
        self.body, self.head = _split(model)
        self._picks = self.body is model and "logits_to_keep" in inspect.signature(model.forward).parameters
        self._vocabulary = int(model.config.get_text_config(decoder=True).vocab_size)

    def states_at(self, places: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """States of these places of the one row (places, width); logits are made of no others."""
        if self._picks:
            return self.body(**inputs, logits_to_keep=places)[0][0]
        return self.body(**inputs)[0][0][places]

    @torch.inference_mode()
    def read(
        self, states: torch.Tensor, rows: NDArray[np.int64], targets: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(log-probability, whether likeliest) of `targets[i]` after `states[rows[i]]`: (n, width), rows ascending."""
        log_probs, likeliest = np.empty(len(rows)), np.empty(len(rows), dtype=np.bool_)
        step = max(1, _LOGITS // self._vocabulary)
        for begin in range(0, len(states), step):
            logits = self.head(states[begin : begin + step])  # (step, vocabulary)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            which = slice(*np.searchsorted(rows, (begin, begin + step)))
            at = torch.from_numpy(rows[which] - begin).to(logits.device)
            tokens = torch.from_numpy(targets[which]).to(logits.device)
            log_probs[which] = (logits[at, tokens] - logits.logsumexp(-1)[at]).cpu().numpy()
            likeliest[which] = (logits.argmax(-1)[at] == tokens).cpu().numpy()
        return log_probs, likeliest


@torch.inference_mode()
def _split(model: Any) -> tuple[Any, Any]:
    head, body = model.get_output_embeddings(), model.base_model
    if head is not None and body is not model:
        ids = torch.arange(1, 5, device=model.device)[None]
        whole = model(input_ids=ids, use_cache=False).logits.float()
        parts = head(body(input_ids=ids, use_cache=False)[0]).float()
        # the same operations, where nothing comes after the head
        near = 1e-6 if model.dtype in (torch.float32, torch.float64) else 1e-3
        if whole.shape == parts.shape and torch.allclose(whole, parts, rtol=10 * near, atol=near):
            return body, head
    return model, torch.nn.Identity()
