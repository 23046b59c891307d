"""What each token of an answer says, and what might have stood in its place. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zephyr_bench.records import GeneratedToken

_HALF_A_CHARACTER = "\ufffd"  # what a tokenizer writes for bytes that are no character yet


def told_tokens(
    tokenizer: Any, made: Sequence[int], likeliest: Sequence[Mapping[int, float]]
) -> Iterator[GeneratedToken]:
    """`likeliest` are the alternatives at the place of each token made, itself among them.

    The texts are together the answer's: each is read after the token before it, since one alone may lose its blank.

    A character of several tokens is the last one's. Special tokens have no text.
    """
    begin, end = 0, 0  # of the tokens that the next one is read after
    for number, alternatives in enumerate(likeliest):
        known = len(tokenizer.decode(made[begin:end], skip_special_tokens=True))
        texts = {
            token: tokenizer.decode([*made[begin:number], token], skip_special_tokens=True)[known:]
            for token in alternatives
        }
        text = texts[made[number]]
        if text.endswith(_HALF_A_CHARACTER):
            text = ""
        else:
            begin, end = end, number + 1
        # of alternatives with the same text the likelier; a server tells no more
        in_order = sorted(alternatives.items(), key=lambda told: told[1])
        yield GeneratedToken(text, {texts[token]: log_prob for token, log_prob in in_order})
