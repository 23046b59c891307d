"""What training and answering must have in common, checked before anything is learned.

In: encoded rows, and the tokens at which an answer ends. Raises UserError for a chat that begins with BOS twice, and
for an answer whose end isn't learned. (That a checkpoint is asked through the template that it learned with,
engines/prompt_check.py sees to.) Knows no model and no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from zephyr_bench.errors import UserError
from zephyr_bench.training_data.tokens import Example

FIRST = 8  # rows whose ends are looked at, encoded once more for it, uncut: one template writes the ends of all


def check_beginnings(rows: Iterable[tuple[str, Sequence[int]]], tokenizer: Any, *, what: str) -> None:
    """No row, each with its name, begins with BOS twice. All are looked at: what a chat says may be a BOS, too."""
    start = tokenizer.bos_token_id
    for name, ids in rows:
        if start is not None and tuple(ids[:2]) == (start, start):
            raise UserError(
                f"{what}: {name} begins with {tokenizer.bos_token} twice, as no text does that the model knows; take "
                "one out of the chat template or the row, or name another chat_template in the recipe."
            )


def check_ends(rows: Iterable[Example], tokenizer: Any, ends: frozenset[int], *, what: str) -> None:
    """Each row, uncut, ends with an answer. `ends`: where generation stops (engines/loading.py, end_tokens_of)."""
    for row in rows:
        learned = (token for token, learn in zip(row.ids, row.learn, strict=True) if learn)
        written = [token for token in learned if tokenizer.decode([token]).strip()]  # a line break may follow the end
        if not written or written[-1] not in ends:
            found = repr(tokenizer.decode(written[-1:]))
            stops = ", ".join(repr(tokenizer.decode([end])) for end in sorted(ends)) or "no token"
            raise UserError(
                f"{what}: what is learned of an answer ends with {found}, and generation stops at {stops}, so answers "
                "would never end; name a chat_template that ends an answer so, or put its end token into eos_token_id "
                "of the starting model's generation_config.json."
            )
