from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_model import let_add_bos

from zephyr_bench.engines.chat_tokens import encode_chat
from zephyr_bench.errors import UserError
from zephyr_bench.records import Message
from zephyr_bench.trainers.data import Pair
from zephyr_bench.trainers.tokens import Example, encode_dialogue, encode_pair

CHAT: list[Message] = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Farewell."},
]


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model_dir)


def learned_text(tokenizer: Any, example: Example) -> str:
    return str(tokenizer.decode([token for token, learn in zip(example.ids, example.learn, strict=True) if learn]))


def test_loss_is_on_what_the_assistant_says_and_on_its_end(tokenizer: Any) -> None:
    example = encode_dialogue(tokenizer, CHAT, max_length=500, loss_on="assistant")
    assert learned_text(tokenizer, example) == "Hello.<|im_end|>\nFarewell.<|im_end|>\n"


def test_tokens_are_those_of_the_whole_rendered_chat(tokenizer: Any) -> None:
    whole = tokenizer(tokenizer.apply_chat_template(CHAT, tokenize=False), add_special_tokens=False)["input_ids"]
    for loss_on in ("assistant", "all"):
        assert list(encode_dialogue(tokenizer, CHAT, max_length=500, loss_on=loss_on).ids) == whole  # type: ignore[arg-type]


def test_a_row_begins_with_the_one_bos_that_answering_begins_with(tiny_model_dir: Path) -> None:
    """As with Zephyr: the template writes no BOS, and the tokenizer puts one before any text."""
    from transformers import AutoTokenizer

    adds_bos = AutoTokenizer.from_pretrained(tiny_model_dir)
    adds_bos.chat_template = (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    )
    let_add_bos(adds_bos, and_eos=True)
    asked = encode_chat(
        adds_bos.encode, adds_bos.apply_chat_template(CHAT[:1], tokenize=False, add_generation_prompt=True)
    )
    pair = Pair("1", (CHAT[0],), CHAT[1], CHAT[3])
    assert encode_pair(adds_bos, pair, max_length=500).prompt == tuple(asked)
    for loss_on in ("assistant", "all"):
        ids = encode_dialogue(adds_bos, CHAT, max_length=500, loss_on=loss_on).ids  # type: ignore[arg-type]
        assert ids[: len(asked)] == tuple(asked)
        assert (ids[0], ids.count(1)) == (1, 1)


def test_loss_on_all_leaves_nothing_out(tokenizer: Any) -> None:
    assert all(encode_dialogue(tokenizer, CHAT, max_length=500, loss_on="all").learn)


def test_a_long_dialogue_is_cut_at_its_end(tokenizer: Any) -> None:
    whole = encode_dialogue(tokenizer, CHAT, max_length=500, loss_on="assistant")
    cut = encode_dialogue(tokenizer, CHAT, max_length=20, loss_on="assistant")
    assert cut == Example(whole.ids[:20], whole.learn[:20])


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer: Any, tiny_model_dir: Path) -> None:
    from transformers import AutoTokenizer

    other = AutoTokenizer.from_pretrained(tiny_model_dir)
    other.chat_template = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(UserError, match="rewrites earlier turns"):
        encode_dialogue(other, CHAT, max_length=500, loss_on="assistant")


PAIR = Pair("p", (CHAT[0],), {"role": "assistant", "content": "Yes."}, {"role": "assistant", "content": "No, never."})


def test_a_pair_is_prompt_and_two_answers_with_their_ends(tokenizer: Any) -> None:
    example = encode_pair(tokenizer, PAIR, max_length=500)
    assert tokenizer.decode(example.prompt) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(example.answers[0]) == "Yes.<|im_end|>\n"
    assert tokenizer.decode(example.answers[1]) == "No, never.<|im_end|>\n"


def test_a_long_pair_loses_the_beginning_of_its_prompt_then_the_end_of_its_answers(tokenizer: Any) -> None:
    whole = encode_pair(tokenizer, PAIR, max_length=500)
    cut = encode_pair(tokenizer, PAIR, max_length=12, max_prompt_length=6)
    assert cut.prompt == whole.prompt[-6:]
    assert cut.answers == tuple(answer[:6] for answer in whole.answers)
