from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_model import let_add_bos

from zephyr_bench.engines.chat_tokens import encode_chat
from zephyr_bench.errors import UserError
from zephyr_bench.records import Message
from zephyr_bench.training_data.data import Pair
from zephyr_bench.training_data.tokens import Example, encode_dialogue, encode_pair

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


def test_a_tokenizer_that_cannot_tell_a_tokens_characters_learns_whole_chats_only(tokenizer: Any) -> None:
    from transformers import ByT5Tokenizer

    python = ByT5Tokenizer()
    python.chat_template = tokenizer.chat_template
    with pytest.raises(UserError, match=r"tokenizer\.json is missing.*set loss_on: all"):
        encode_dialogue(python, CHAT, max_length=500, loss_on="assistant")
    assert encode_dialogue(python, CHAT, max_length=500, loss_on="all").targets


PAIR = Pair("p", (CHAT[0],), {"role": "assistant", "content": "Yes."}, {"role": "assistant", "content": "No, never."})


def test_a_pair_is_prompt_and_two_answers_with_their_ends(tokenizer: Any) -> None:
    example = encode_pair(tokenizer, PAIR, max_length=500)
    assert tokenizer.decode(example.prompt) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(example.answers[0]) == "Yes.<|im_end|>\n"
    assert tokenizer.decode(example.answers[1]) == "No, never.<|im_end|>\n"


def test_a_pair_whose_prompt_fills_the_row_has_no_answer_left(tokenizer: Any) -> None:
    cut = encode_pair(tokenizer, PAIR, max_length=12)
    assert (len(cut.prompt), cut.answers) == (12, ((), ()))


def test_unlike_ends_of_a_prompt_stand_before_each_answer(tokenizer: Any) -> None:
    whole = encode_pair(tokenizer, PAIR, max_length=500)
    cut = encode_pair(tokenizer, PAIR, max_length=30, truncation_mode="keep_end")
    for (before, answer), full in zip(cut.sides, whole.answers, strict=True):
        assert before + answer == (whole.prompt + full)[-30:]
    stems = [tree.stem for tree in cut.tree.unrolled()]
    assert [stem.ids for stem in stems] == [before + answer for before, answer in cut.sides]
    assert [sum(stem.learn) for stem in stems] == [len(answer) for answer in cut.answers]


def test_the_beginning_that_cut_pairs_share_stands_once(tokenizer: Any) -> None:
    """Both answers are as long, so both lose the same of the prompt."""
    pair = Pair("p", (CHAT[0],), {"role": "assistant", "content": "Yes."}, {"role": "assistant", "content": "No!!"})
    cut = encode_pair(tokenizer, pair, max_length=20, truncation_mode="keep_end")
    assert cut.prompt
    assert cut.before == ()


def test_a_template_that_rewrites_an_answered_prompt_is_refused(tokenizer: Any, tiny_model_dir: Path) -> None:
    from transformers import AutoTokenizer

    other = AutoTokenizer.from_pretrained(tiny_model_dir)
    other.chat_template = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(UserError, match="rewrites the prompt once it is answered"):
        encode_pair(other, PAIR, max_length=500)
