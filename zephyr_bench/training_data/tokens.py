"""From chats to token ids through the tokenizer's own chat template; which ids carry loss is marked here.

A text is rendered whole and encoded whole, as for answering (engines/chat_tokens.py): one BOS, where the tokenizer has
one. Pure given a tokenizer of transformers; knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any, Literal

from zephyr_bench.engines.chat_tokens import begun, encode_chat, put_before
from zephyr_bench.errors import UserError
from zephyr_bench.records import Message
from zephyr_bench.training_data.data import Pair

VERSION = 2  # raise it when the same rows would become other tokens


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
    # what stands between the prompt and each answer, where cutting left them unlike parts of it; (): nothing
    before: tuple[tuple[int, ...], ...] = ()
    merged: bool = (
        False  # an answer's first token holds the end of the prompt, which so is asked otherwise than learned
    )

    @property
    def sides(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """(all that stands before it, the answer) of each."""
        own = self.before or ((),) * len(self.answers)
        return [(self.prompt + before, answer) for before, answer in zip(own, self.answers, strict=True)]

    @cached_property
    def tree(self) -> Tree:
        shared = len(self.prompt)
        branches = (
            Example(before[shared:] + answer, (False,) * (len(before) - shared) + (True,) * len(answer))
            for before, answer in self.sides
        )
        return Tree(Example(self.prompt, (False,) * shared), tuple(branches))


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

    A token that holds a character of the assistant's part is learned (as TRL 1.16 with assistant_only_loss). Raises
    UserError for a template that rewrites earlier turns, where that part can't be told.
    """
    text = render(tokenizer, messages)
    if loss_on == "assistant" and not tokenizer.is_fast:  # one that transformers runs in Python
        raise UserError(
            "the tokenizer can't say which characters a token stands for (tokenizer.json is missing), so the "
            "assistant's tokens can't be told; set loss_on: all."
        )
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=loss_on == "assistant")
    ids = tuple(begun(encoded["input_ids"], put_before(tokenizer.encode)))
    if loss_on == "all":
        return Example(ids[:max_length], (True,) * len(ids[:max_length]))
    parts = list(_assistant_parts(tokenizer, messages, text))
    learn = [any(begin < end and last > first for first, end in parts) for begin, last in encoded["offset_mapping"]]
    learn = [False] * (len(ids) - len(learn)) + learn
    return Example(ids[:max_length], tuple(learn[:max_length]))


def _assistant_parts(tokenizer: Any, messages: Sequence[Message], text: str) -> Iterator[tuple[int, int]]:
    """(first, end) in characters of the rendered chat: from where answering begins to where the turn is over."""
    done = ""
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        asked = render(tokenizer, messages[:number], add_generation_prompt=True)
        done_before, done = done, render(tokenizer, messages[: number + 1])
        if not (asked.startswith(done_before) and done.startswith(asked) and text.startswith(done)):
            raise UserError(
                "the chat template rewrites earlier turns, so the assistant's tokens can't be told; "
                "set loss_on: all, or another chat_template."
            )
        yield len(asked), len(done)


def encode_pair(
    tokenizer: Any,
    pair: Pair,
    *,
    max_length: int | None,
    max_prompt_length: int | None = None,
    truncation_mode: Literal["keep_end", "keep_start"] | None = None,
) -> PairExample:
    """A pair, cut as `cut_pair` says (max_length None: whole).

    Raises UserError for a template that rewrites the prompt once it is answered: it would be asked as it never learned.
    """
    asked = render(tokenizer, pair.prompt, add_generation_prompt=True)
    answered = [render(tokenizer, [*pair.prompt, answer]) for answer in pair.answers]
    if not all(text.startswith(asked) for text in answered):
        raise UserError("the chat template rewrites the prompt once it is answered; set another chat_template.")
    whole = parted(tokenizer.encode, asked, answered)
    if max_length is None:
        return whole
    return cut_pair(whole, max_length=max_length, max_prompt_length=max_prompt_length, truncation_mode=truncation_mode)


def parted(encode: Callable[..., Sequence[int]], asked: str, answered: Sequence[str]) -> PairExample:
    """Texts that begin with `asked`, each encoded whole: answers begin where their ids first differ from its own.

    As TRL 1.16 (data_utils.common_prefix_length). A token that joins the end of what is asked with the beginning of
    an answer is the answer's, and then of all the answers.
    """
    before = put_before(encode)
    prompt, *wholes = (encode_chat(encode, text, before=before) for text in (asked, *answered))
    shared = _shared([prompt, *wholes])
    answers = tuple(tuple(ids[shared:]) for ids in wholes)
    return PairExample(tuple(prompt[:shared]), answers, merged=shared < len(prompt))


def _shared(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all begin with."""
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows, strict=False)))


def cut_pair(
    pair: PairExample,
    *,
    max_length: int,
    max_prompt_length: int | None = None,
    truncation_mode: Literal["keep_end", "keep_start"] | None = None,
) -> PairExample:
    """Each answer with its prompt at `max_length` tokens at most. Answers may be left without a token (keep_start).

    With `max_prompt_length`, TRL 0.7's rule, by which the paper's models were trained (0.7.4, trainer/utils.py,
    DPODataCollatorWithPadding): where the longest answer doesn't fit, the prompt keeps so many tokens, of its end
    (keep_end, the default) or its beginning (keep_start); where it still doesn't, all answers lose their ends.
    Without, TRL 1.16's (dpo_trainer.py, DataCollatorForPreference): each sequence by itself keeps its beginning
    (keep_start, the default) or its end, which may be another part of the prompt for each answer.
    """
    prompt, answers = pair.prompt, pair.answers
    if max_prompt_length is not None:
        longest = max(map(len, answers))
        if len(prompt) + longest > max_length:
            prompt = prompt[:max_prompt_length] if truncation_mode == "keep_start" else prompt[-max_prompt_length:]
        if len(prompt) + longest > max_length:
            answers = tuple(answer[: max_length - max_prompt_length] for answer in answers)
        return PairExample(prompt, answers, merged=pair.merged)
    if truncation_mode == "keep_end":
        lost = [max(0, len(prompt) + len(answer) - max_length) for answer in answers]
        prompts = [prompt[tokens:] for tokens in lost]
        answers = tuple(answer[max(0, tokens - len(prompt)) :] for answer, tokens in zip(answers, lost, strict=True))
        shared = _shared(prompts)
        own = tuple(one[shared:] for one in prompts) if any(len(one) > shared for one in prompts) else ()
        return PairExample(prompts[0][:shared], answers, own, pair.merged)
    prompt = prompt[:max_length]
    return PairExample(prompt, tuple(answer[: max_length - len(prompt)] for answer in answers), merged=pair.merged)
