"""A chat begins with one BOS, whoever writes it; training and answering agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.engines.chat_tokens import encode_chat, put_before

BOS, EOS = 1, 2


def encoder(before: list[int], after: list[int]):
    """A byte tokenizer that puts tokens around a text when asked; `<s>` in a text is BOS."""

    def encode(text: str, *, add_special_tokens: bool) -> list[int]:
        pieces = text.split("<s>")
        ids = [byte + 10 for byte in pieces[0].encode()]
        for piece in pieces[1:]:
            ids += [BOS, *(byte + 10 for byte in piece.encode())]
        return [*before, *ids, *after] if add_special_tokens else ids

    return encode


@pytest.mark.parametrize("after", [[], [EOS]])
def test_bos_of_the_tokenizer_is_put_before_a_chat_that_lacks_it(after: list[int]) -> None:
    encode = encoder([BOS], after)
    assert put_before(encode) == (BOS,)
    assert encode_chat(encode, "hi") == [BOS, *encode("hi", add_special_tokens=False)]


def test_bos_of_the_template_is_not_doubled() -> None:
    encode = encoder([BOS], [])
    assert encode_chat(encode, "<s>hi") == encode("<s>hi", add_special_tokens=False)


@given(st.text())
def test_a_tokenizer_that_adds_nothing_leaves_the_chat_as_it_is(text: str) -> None:
    encode = encoder([], [])
    assert encode_chat(encode, text) == encode(text, add_special_tokens=False)


@given(st.text(alphabet="ab<s>"))
def test_a_chat_is_never_longer_than_by_what_the_tokenizer_adds(text: str) -> None:
    encode = encoder([BOS], [EOS])
    ids = encode_chat(encode, text)
    assert ids[0] == BOS
    assert ids in (encode(text, add_special_tokens=False), encode(text, add_special_tokens=True)[:-1])
