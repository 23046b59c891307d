"""What a judge is shown by alpaca_eval's rules (0.6.6, utils.py: make_prompts and prompt_to_chatml). Pure.

In: a prompt template with names in braces, and what they stand for. Out: a plain prompt, or the chat that it spells in
ChatML.

Two of its rules let an answer reach beyond its place, and are kept, for whoever compares figures with it has them too.
Names are filled in one after another, each where it stands first: an output_1 that holds "{output_2}" is given the
second output's text in that place, and the template's own {output_2} stays as it is. And ChatML is split once all is
filled in: an answer that holds "<|im_end|>" cuts the message there, one that holds "<|im_start|>system" and a line
break begins a message of its own. Only where that makes no chat, and alpaca_eval breaks off, it is not judged.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import cast

from zephyr_bench.records import Message

NAMES = ("instruction", "output_1", "output_2")
START, END = "<|im_start|>", "<|im_end|>"
_NAME = re.compile(r"{([^ \s]+?)}")
_ROLES = ("system", "user", "assistant", "developer")
_SPEAKER = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # as the Chat Completions API takes a message's name


def names_in(template: str) -> tuple[str, ...]:
    """The names to fill in, in their order. Raises ValueError for an unknown one, or one that stands twice."""
    counts = Counter(_NAME.findall(template))
    for name, count in counts.items():
        if name not in NAMES:
            raise ValueError(f"unknown name {{{name}}}; known: {', '.join(NAMES)}")
        if count > 1:
            raise ValueError(f"{{{name}}} stands {count} times, expected once")
    return tuple(counts)


def filled(template: str, names: tuple[str, ...], values: Mapping[str, str]) -> str:
    """Name by name, each in its first place, whoever put it there."""
    for name in names:
        template = template.replace(f"{{{name}}}", values[name], 1)
    return template


def chat_of(prompt: str) -> list[Message]:
    """The messages that a prompt in ChatML spells, without blanks at their ends. Raises ValueError for no chat.

    `system name=…` is a system message of that speaker. What stands between two messages is dropped.
    """
    prompt = prompt.strip()
    if not (prompt.startswith(START) and prompt.endswith(END)):
        raise ValueError(f"it does not begin with {START} and end with {END}")
    return [_message(part) for part in prompt.split(START)[1:]]


def _message(part: str) -> Message:
    head, line_break, rest = part.partition("\n")
    role, speaker = head.strip(), None
    if role.startswith("system") and role != "system":
        key, _, speaker = role.removeprefix("system").strip(" ").partition("=")
        role = "system" if key == "name" and _SPEAKER.fullmatch(speaker) else role
    if not line_break or role not in _ROLES:
        raise ValueError(f"{START}{head[:40]} begins no message; expected {', '.join(_ROLES)} and a line break")
    content = rest.split(END, 1)[0].strip()
    return cast(Message, {"role": role, "content": content, **({"name": speaker} if speaker else {})})
