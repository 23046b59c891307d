"""From chats to token ids through the tokenizer's own chat template; which ids carry loss is marked here.

Text is rendered first and encoded as for answering (engines/chat_tokens.py): one BOS, where the tokenizer has one.
Pure given a tokenizer of transformers; knows no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zephyr_bench.engines.chat_tokens import encode_chat
from zephyr_bench.errors import UserError
from zephyr_bench.records import Message
from zephyr_bench.trainers.data import Pair


@dataclass(frozen=True)
class Example:
    """A row of tokens; `learn[i]` says whether predicting token i carries loss."""

    ids: tuple[int, ...]
    learn: tuple[bool, ...]

    @property
    def targets(self) -> int:
        """Predicted tokens with loss; the first token of a row is predicted by nothing."""
        return sum(self.learn[1:])


@dataclass(frozen=True)
class PairExample:
    """A prompt's tokens and those of its two answers."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]

    def row(self, answer: tuple[int, ...]) -> Example:
        return Example((*self.prompt, *answer), (False,) * len(self.prompt) + (True,) * len(answer))


def render(tokenizer: Any, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
    from jinja2 import TemplateError

    try:
        return str(
            tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=add_generation_prompt)
        )
    except TemplateError as error:
        raise UserError(f"the chat template refuses a training chat: {error}.") from None


def pad_token(tokenizer: Any) -> int:
    """Padding is masked everywhere: any token will do."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0)


def encode_dialogue(
    tokenizer: Any, messages: Sequence[Message], *, max_length: int | None, loss_on: Literal["assistant", "all"]
) -> Example:
    """A dialogue, cut at `max_length` tokens (None: whole). Loss on the assistant's text and its end mark, or on all.

    Raises UserError for a template that rewrites earlier turns, where the assistant's part can't be told.
    """
    text = render(tokenizer, messages)
    if loss_on == "all":
        whole = encode_chat(tokenizer.encode, text)[:max_length]
        return Example(tuple(whole), (True,) * len(whole))
    ids: list[int] = []
    learn: list[bool] = []
    for piece, is_assistant in _pieces(tokenizer, messages, text):
        more = _encode(tokenizer, piece) if ids else encode_chat(tokenizer.encode, piece)
        ids += more
        learn += [is_assistant] * len(more)
    return Example(tuple(ids[:max_length]), tuple(learn[:max_length]))


def _encode(tokenizer: Any, text: str) -> list[int]:
    """As it goes on within a row."""
    return list(tokenizer.encode(text, add_special_tokens=False))


def _pieces(tokenizer: Any, messages: Sequence[Message], text: str) -> Iterator[tuple[str, bool]]:
    """The rendered chat cut where the assistant begins and ends, so that tokens end there as when answering."""
    done = ""
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        asked = render(tokenizer, messages[:number], add_generation_prompt=True)
        answered = render(tokenizer, messages[: number + 1])
        if not (asked.startswith(done) and answered.startswith(asked) and text.startswith(answered)):
            raise UserError(
                "the chat template rewrites earlier turns, so the assistant's tokens can't be told; "
                "set loss_on: all, or another chat_template."
            )
        yield asked[len(done) :], False
        yield answered[len(asked) :], True
        done = answered
    if text != done:
        yield text[len(done) :], False


def pack(examples: Iterable[Example], *, length: int) -> list[Example]:
    """Rows of `length` tokens filled with one dialogue after the other, each ended by the template's own mark.

    Dialogues see their neighbours in the row, and one may be cut by its end. The last row may be shorter.
    """
    ids: list[int] = []
    learn: list[bool] = []
    for example in examples:
        ids += example.ids
        learn += example.learn
    return [
        Example(tuple(ids[start : start + length]), tuple(learn[start : start + length]))
        for start in range(0, len(ids), length)
    ]


def encode_pair(tokenizer: Any, pair: Pair, *, max_length: int, max_prompt_length: int | None = None) -> PairExample:
    """A pair that is too long first loses the beginning of its prompt, then the end of its answers.

    As TRL 0.7's DPODataCollatorWithPadding, truncation_mode keep_end, which trained the paper's models.
    """
    prompt_text = render(tokenizer, pair.prompt, add_generation_prompt=True)
    prompt = encode_chat(tokenizer.encode, prompt_text)
    answers = []
    for answer in (pair.chosen, pair.rejected):
        whole = render(tokenizer, [*pair.prompt, answer])
        if not whole.startswith(prompt_text):
            raise UserError("the chat template rewrites the prompt once it is answered; set another chat_template.")
        answers.append(_encode(tokenizer, whole[len(prompt_text) :]))
    longest = max(map(len, answers))
    if len(prompt) + longest > max_length:
        keep = max_prompt_length or max(1, max_length // 2)
        prompt = prompt[-keep:]
        if len(prompt) + longest > max_length:
            answers = [answer[: max_length - keep] for answer in answers]
    return PairExample(tuple(prompt), tuple(answers[0]), tuple(answers[1]))
