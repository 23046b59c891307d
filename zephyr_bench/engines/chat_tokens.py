"""A rendered chat as token ids that begin as the model's own texts do, with one BOS and never two.

Templates disagree on who writes BOS: Llama 3's writes it, Zephyr's leaves it to the tokenizer (FastChat encodes the
prompt with special tokens). Training and answering encode through here, so that a checkpoint is asked as it learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

VERSION = 1  # raised with every change that could change a prompt's tokens
_ANY = "a"  # some text: what is put before it is put before every text

Encode = Callable[..., Sequence[int]]
"""A tokenizer's `encode(text, add_special_tokens=…)`."""


def encode_chat(encode: Encode, text: str, *, before: Sequence[int] | None = None) -> list[int]:
    """What the template wrote, after what the tokenizer puts before any text, unless the template wrote that too.

    Nothing is put at the end: the template ends a message. `before` is of `put_before`, where it is known already.
    """
    return begun(encode(text, add_special_tokens=False), put_before(encode) if before is None else before)


def begun(ids: Sequence[int], before: Sequence[int]) -> list[int]:
    """With `before` at the beginning, once."""
    ids, before = list(ids), list(before)
    return ids if ids[: len(before)] == before else [*before, *ids]


def put_before(encode: Encode) -> tuple[int, ...]:
    """BOS, for a tokenizer that adds it; often nothing."""
    plain, whole = list(encode(_ANY, add_special_tokens=False)), list(encode(_ANY, add_special_tokens=True))
    starts = range(len(whole) - len(plain) + 1)
    return next((tuple(whole[:start]) for start in starts if whole[start : start + len(plain)] == plain), ())
