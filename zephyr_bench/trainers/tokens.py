"""From chats to token ids through the tokenizer's own chat template; which ids carry loss is marked here.

Text is rendered first and encoded as for answering (engines/chat_tokens.py): one BOS, where the tokenizer has one.
Pure given a tokenizer of transformers; knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
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

    def then(self, other: Example) -> Example:
        return Example(self.ids + other.ids, self.learn + other.learn)


@dataclass(frozen=True)
class Tree:
    """A beginning and what follows it, each branch by itself. Of a stem with branches nothing is learned."""

    stem: Example
    branches: tuple[Example, ...] = ()

    @property
    def size(self) -> int:
        return len(self.stem.ids) + sum(len(branch.ids) for branch in self.branches)

    @property
    def sequences(self) -> int:
        """How many it stands for: one a branch, or itself."""
        return max(1, len(self.branches))

    def unrolled(self) -> list[Tree]:
        """The same sequences, each with a stem of its own."""
        return [Tree(self.stem.then(branch)) for branch in self.branches] or [self]


@dataclass(frozen=True)
class PairExample:
    """A prompt's tokens and its answers': chosen, rejected and, where a loss asks, one of the reference's own."""

    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]

    @cached_property
    def tree(self) -> Tree:
        answers = (Example(answer, (True,) * len(answer)) for answer in self.answers)
        return Tree(Example(self.prompt, (False,) * len(self.prompt)), tuple(answers))


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


def encode_pair(tokenizer: Any, pair: Pair, *, max_length: int, max_prompt_length: int | None = None) -> PairExample:
    """A pair that is too long first loses the beginning of its prompt, then the end of its answers.

    As TRL 0.7's DPODataCollatorWithPadding, truncation_mode keep_end, which trained the paper's models.
    """
    prompt_text = render(tokenizer, pair.prompt, add_generation_prompt=True)
    prompt = encode_chat(tokenizer.encode, prompt_text)
    answers = []
    for answer in pair.answers:
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
    return PairExample(tuple(prompt), tuple(map(tuple, answers)))
