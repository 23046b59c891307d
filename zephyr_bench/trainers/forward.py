"""One forward pass over rows of unlike length: log-probabilities' ingredients at the places that carry loss.

Logits are computed only for columns that some row needs: a vocabulary of 50,000 is most of the work and of
the memory of a small model.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zephyr_bench.trainers.tokens import Example


class Predicted(NamedTuple):
    logits: Tensor  # (places, vocabulary)
    targets: Tensor  # (places,) token that stands there
    rows: Tensor  # (places,) row that each place belongs to


def predict(model: Any, examples: Sequence[Example], *, pad: int) -> Predicted:
    """Logits of every learned token of the rows, padded on the right."""
    length = max(len(example.ids) for example in examples)
    ids = torch.full((len(examples), length), pad)  # (rows, tokens)
    present = torch.zeros_like(ids)
    learn = torch.zeros_like(ids, dtype=torch.bool)
    for row, example in enumerate(examples):
        end = len(example.ids)
        ids[row, :end] = torch.tensor(example.ids)
        present[row, :end] = 1
        learn[row, :end] = torch.tensor(example.learn)
    learn = learn[:, 1:]  # (rows, tokens - 1): column t says whether token t + 1 is learned
    columns = learn.any(dim=0).nonzero().squeeze(1)  # (columns,)
    device = model.device
    inputs = {"input_ids": ids.to(device), "attention_mask": present.to(device)}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        logits = model(**inputs, use_cache=False, logits_to_keep=columns.to(device)).logits
    else:
        logits = model(**inputs, use_cache=False).logits[:, columns.to(device)]
    wanted = learn[:, columns].to(device)  # (rows, columns)
    targets = ids[:, 1:][:, columns].to(device)
    rows = wanted.nonzero()[:, 0]
    return Predicted(logits[wanted], targets[wanted], rows)
