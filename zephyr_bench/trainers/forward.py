"""One forward pass: log-probabilities of the learned tokens of several sequences, with their gradients.

Sequences share rows (packing.py), a pair's prompt is computed once, and the head runs only where a token is learned,
a chunk at a time: no tensor of rows by tokens by vocabulary is there, but where an architecture caps its logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from zephyr_bench.engines.token_scores import Head
from zephyr_bench.engines.tree_masks import masks
from zephyr_bench.engines.tree_scoring import takes_trees
from zephyr_bench.trainers.head_log_probs import head_log_probs
from zephyr_bench.trainers.packing import Ints, Rows, fitted, laid_out
from zephyr_bench.training_data.tokens import Tree
from zephyr_bench.training_runs.adapters import adapters_off
from zephyr_bench.training_runs.group import ALONE, Group

T = TypeVar("T")
Then = Callable[[Any, Tensor], T]  # of the head, and states (tokens, width) that it makes logits of


@dataclass(frozen=True)
class Predicted:
    log_probs: Tensor  # (tokens,) of every learned token, in float32
    sequences: Tensor  # (tokens,) which sequence each belongs to
    count: int  # of sequences

    @property
    def sums(self) -> Tensor:
        """By sequence (count,)."""
        return self.log_probs.new_zeros(self.count).index_add(0, self.sequences, self.log_probs)


class _Pass(torch.nn.Module):
    """Body and head as one module: what spreads a model over processes acts when a module is called."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        parts = Head(model)
        self.body, self.head = parts.body, parts.head

    def forward(self, then: Then[T], places: Tensor, **inputs: Any) -> T:
        states = self.body(**inputs, use_cache=False)[0]  # (rows, columns, width)
        return then(self.head, states.flatten(0, 1)[places])


class Predictor:
    """A model that learns, and how it is run: along trees where its architecture takes them, else row by row."""

    def __init__(self, model: Any, *, pad: int, group: Group = ALONE) -> None:
        self.model = model
        self.group = group
        self._pad = pad
        training = model.training
        model.eval()  # a try must not hang on dropout
        with adapters_off(model):  # in bfloat16 they run under autocast only
            one = _Pass(model)
            self._trees = takes_trees(model)
        model.train(training)
        self._pass = group.spread(one)

    def __call__(self, trees: Sequence[Tree], *, length: int | None = None) -> Predicted:
        """`length` is that of a row that holds several; of the longest tree by default."""
        rows = self._rows(trees, length)
        targets, sequences = self._here(rows.targets), self._here(rows.sequences)
        log_probs = self._run(rows, lambda head, states: head_log_probs(head, states, targets))
        return Predicted(log_probs, sequences, rows.count)

    def read(self, trees: Sequence[Tree], then: Then[T]) -> T:
        """What `then` makes of the head and of the states before each learned token; nowhere else is the head whole."""
        return self._run(self._rows(trees, None), then)

    def _rows(self, trees: Sequence[Tree], length: int | None) -> Rows:
        if not self._trees:
            trees = [one for tree in trees for one in tree.unrolled()]
            return laid_out(trees, [[number] for number in range(len(trees))], pad=self._pad)
        sizes = [tree.size for tree in trees]
        return laid_out(trees, fitted(sizes, length=max(length or 0, *sizes)), pad=self._pad)

    def _run(self, rows: Rows, then: Then[T]) -> T:
        ids, positions, places = (self._here(part) for part in (rows.ids, rows.positions, rows.places))
        mask = self._mask(rows)
        return self._pass(then, places, input_ids=ids, attention_mask=mask, position_ids=positions)

    def _here(self, part: Ints) -> Tensor:
        return torch.from_numpy(part).to(self.model.device)

    def _mask(self, rows: Rows) -> Any:
        """Each token sees its own branch and the stem before it; padding sees itself."""
        device = self.model.device
        if rows.plain:
            return None if rows.present.all() else torch.from_numpy(rows.present).long().to(device)
        trees, branches, positions = (
            torch.from_numpy(part).to(device) for part in (rows.trees, rows.branches, rows.positions)
        )
        same_tree = trees[:, :, None] == trees[:, None]  # (rows, queries, keys)
        on_path = (branches[:, None] == 0) | (branches[:, :, None] == branches[:, None])
        seen = (same_tree & on_path).tril_()
        mixed = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if mixed else self.model.dtype
        return masks(self.model, seen, positions, positions, dtype=dtype)
