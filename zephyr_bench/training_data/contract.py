"""What training and answering must have in common, checked on the first rows before anything is learned.

In: encoded rows, uncut, and the tokens at which an answer ends. Raises UserError for a chat that begins with BOS twice,
and for an answer whose end isn't learned. (That a checkpoint is asked through the template that it learned with,
engines/prompt_check.py sees to.) Knows no model and no file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zephyr_bench.errors import UserError
from zephyr_bench.training_data.tokens import Example

FIRST = 8  # rows that are looked at: one template writes them all


def check_rows(rows: Iterable[Example], tokenizer: Any, ends: frozenset[int], *, what: str) -> None:
    """Each row ends with an answer. `ends`: where generation stops (engines/loading.py, end_tokens_of)."""
    start = tokenizer.bos_token_id
    for row in rows:
        if start is not None and row.ids[:2] == (start, start):
            raise UserError(
                f"{what}: the chat template begins a chat with {tokenizer.bos_token} twice, as no text does that the "
                "model knows; take one out of the template, or name another chat_template in the recipe."
            )
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
