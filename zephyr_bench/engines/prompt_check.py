"""What a model reads when it is asked MT-Bench's second turn, and what is wrong with that.

In: an engine, for its rendering and encoding, and the end tokens of its generation config. Out: the prompt, and what
was found in a sentence each. Loads no weights and reads no file.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from zephyr_bench.engines.chat_tokens import encode_chat, put_before
from zephyr_bench.engines.protocol import ModelSource, ScoringEngine
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint, short
from zephyr_bench.records import Message

_ANSWER, _NEXT = "{answer 1}", "{turn 2}"
_CHAT: tuple[Message, ...] = (
    {"role": "user", "content": "{turn 1}"},
    {"role": "assistant", "content": _ANSWER},
    {"role": "user", "content": _NEXT},
)


@dataclass(frozen=True)
class TwoTurnPrompt:
    """The second turn as the engine's template renders it and as its model reads it."""

    text: str
    tokens: tuple[int, ...]
    added: tuple[int, ...]  # what the tokenizer puts before any text where it is asked for special tokens
    written: bool  # whether the template writes that itself
    start: int | None  # BOS, or EOS where there is no BOS
    ends: frozenset[int]  # tokens at which an answer ends
    declared_ends: frozenset[int]  # those of the generation config

    @property
    def after_answer(self) -> str | None:
        """What the template writes between the first answer and the second turn; None where it doesn't show them."""
        _, _, rest = self.text.partition(_ANSWER)
        between, shown, _ = rest.partition(_NEXT)
        return between if shown else None


@dataclass(frozen=True)
class Finding:
    what: str
    state: Literal["warn", "note"]  # warn: our own answers suffer; note: only those that others make with this model
    told: str


def two_turn_prompt(engine: ScoringEngine, declared_ends: frozenset[int]) -> TwoTurnPrompt:
    """Raises UserError where there is no chat template, it refuses the chat, or it isn't the one of training."""
    check_template(engine.model, engine.chat_template)
    text = engine.render(_CHAT)
    added = put_before(engine.encode)
    own_end = _declared(lambda: engine.end_token)
    return TwoTurnPrompt(
        text=text,
        tokens=tuple(encode_chat(engine.encode, text)),
        added=added,
        written=tuple(engine.encode(text)[: len(added)]) == added,
        start=_declared(lambda: engine.start_token),
        ends=declared_ends if own_end is None else declared_ends | {own_end},
        declared_ends=declared_ends,
    )


def _declared(token: Callable[[], int]) -> int | None:
    try:
        return token()
    except UserError:  # the tokenizer has no such token
        return None


def fastchat_prompt(model: str) -> tuple[str, str] | None:
    """(name of the template, the same chat as FastChat writes it), or None where its package is absent.

    FastChat (0.2.36) picks a template by the model's name; published MT-Bench scores were made with it.
    """
    if importlib.util.find_spec("fastchat") is None:
        return None
    try:
        from fastchat.model.model_adapter import get_conversation_template
    except ImportError:  # one of what it needs, which the extra `fastchat` brings
        return None
    chat = get_conversation_template(model)
    for number, message in enumerate(_CHAT):
        chat.append_message(chat.roles[number % 2], message["content"])
    chat.append_message(chat.roles[1], None)
    return str(chat.name), str(chat.get_prompt())


def findings(engine: ScoringEngine, prompt: TwoTurnPrompt) -> Iterator[Finding]:
    """What speaks against the prompt; nothing for a template that fits its tokenizer and checkpoint."""
    yield from _start(engine, prompt)
    yield from _end(engine, prompt)


def _start(engine: ScoringEngine, prompt: TwoTurnPrompt) -> Iterator[Finding]:
    put = quoted(engine, *prompt.added)
    if prompt.start is not None and prompt.tokens[:2] == (prompt.start, prompt.start):
        yield Finding(
            "double BOS",
            "warn",
            f"the chat template writes {quoted(engine, prompt.start)} twice at the beginning, which the model most "
            "likely never read in training; take one out of the chat template beside its tokenizer "
            f"({engine.model.location}).",
        )
    elif not prompt.added:
        return
    elif prompt.written:
        yield Finding(
            "double BOS",
            "note",
            f"not here, where {put} stands once; but the template writes it and the tokenizer puts another before any "
            "text, so who encodes the chat with special tokens (FastChat does) asks with two: don't compare such "
            "answers with ours.",
        )
    else:
        yield Finding(
            "missing BOS",
            "note",
            f"not here, where {put} is put before the chat as the tokenizer puts it before any text; but the template "
            "doesn't write it, so who encodes the chat without special tokens (apply_chat_template does) asks in "
            "another form.",
        )


def _end(engine: ScoringEngine, prompt: TwoTurnPrompt) -> Iterator[Finding]:
    after = prompt.after_answer
    ends = ", ".join(quoted(engine, end) for end in sorted(prompt.ends))
    if not prompt.ends:
        yield Finding(
            "missing EOS",
            "warn",
            "neither the tokenizer nor generation_config.json names an end token, so every answer runs on to the "
            "limit of new tokens; set eos_token_id in generation_config.json to the token that ends an answer.",
        )
    elif not prompt.declared_ends:
        yield Finding(
            "missing EOS",
            "note",
            f"not here, where an answer ends at the tokenizer's {ends}; but generation_config.json names no end "
            "token, so transformers' own generate (FastChat's way) runs on to the limit of new tokens: set "
            "eos_token_id there.",
        )
    if after is None:
        yield Finding(
            "first answer",
            "warn",
            "the chat template leaves the first answer or the second turn out, so the model is not asked what MT-Bench "
            "asks; use a chat template that writes every message.",
        )
    elif prompt.ends and prompt.ends.isdisjoint(engine.encode(after)):
        yield Finding(
            "missing EOS",
            "warn",
            f"after an answer the chat template writes {json.dumps(after, ensure_ascii=False)}, which holds no end "
            f"token of the model ({ends}), so answers may run on to the limit of new tokens; let the template end an "
            "answer with one of them, or add the token that it writes to eos_token_id in generation_config.json.",
        )


def check_template(model: ModelSource, template: str | None) -> None:
    """Raises UserError where a checkpoint's lineage names another template as the one that it was trained with."""
    trained_with = model.lineage.get("chat_template")
    if trained_with is None or template is None:
        return
    found = fingerprint(template)
    if found != trained_with:
        raise UserError(
            f"model {model.name}: its chat template is another ({short(found)}) than the checkpoint was trained with "
            f"({short(trained_with)} in its lineage.json), so it would be asked in a form that it didn't learn; put "
            f"the one of its training back beside its tokenizer ({model.location})."
        )


def quoted(engine: ScoringEngine, *tokens: int) -> str:
    """The tokens as text, line breaks and blanks shown."""
    return json.dumps(engine.decode(tokens), ensure_ascii=False)
