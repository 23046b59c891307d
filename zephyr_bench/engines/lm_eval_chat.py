"""An engine that only chats, as an lm-eval model: a server's, whose prompt lm-eval never sees as text.

lm-eval carries prompts as strings, so a chat goes through it as the JSON of its messages, as with lm-eval's own
`local-chat-completions` (0.4.13, lm_eval/models/openai_completions.py), and reaches the engine as messages again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from lm_eval.api.model import LM

from zephyr_bench.engines.lm_eval_texts import AnswerCache, Asked, question_of, repeats, sampling_of, texts
from zephyr_bench.engines.protocol import Engine
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import canonical_json, fingerprint
from zephyr_bench.progress import Progress
from zephyr_bench.records import GenerationRequest, Message

_MOST_STOPS = 4  # that the Chat Completions API takes; a text is cut at the others here


class Chat(str):
    """A chat as lm-eval passes it along."""

    __slots__ = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple({"role": message["role"], "content": message["content"]} for message in json.loads(self))

    @property
    def shown(self) -> str:
        """For people: what the user says, or the whole where more was said."""
        messages = self.messages
        return messages[0]["content"] if len(messages) == 1 else str(self)


class ChatLM(LM):
    """lm-eval's model interface over an engine that answers chats."""

    def __init__(self, engine: Engine, cache: AnswerCache, *, progress: Progress | None = None, seed: int = 0) -> None:
        super().__init__()
        self._engine = engine
        self._cache = cache
        self._progress = progress or Progress(quiet=True)
        self._seed = seed

    @property
    def tokenizer_name(self) -> str:
        return self._engine.model.name.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str:
        return ""  # the server's own, which nobody sees

    def apply_chat_template(self, chat_history: Iterable[Message], add_generation_prompt: bool = True) -> Chat:
        """Raises UserError where the answer's beginning is given: a chat can't go on within a message."""
        if not add_generation_prompt:
            raise UserError(
                f"model {self._engine.model.name}: a task begins the answer for the model, which a chat can't; "
                "run it by --engine transformers."
            )
        return Chat(canonical_json([dict(message) for message in chat_history]))

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Answers, cut before the first stop string. New ones are kept as they come, also when it breaks off."""
        asked, stops = [], []
        for request, repeat in zip(requests, repeats(requests), strict=True):
            one, cut_at = self._asked(request, repeat)
            asked.append(one)
            stops.append(cut_at)
        found = texts(
            asked,
            self._engine.generate,
            cache=self._cache,
            model=self._engine.model.name,
            progress=self._progress,
        )
        return [_before(text, cut_at) for text, cut_at in zip(found, stops, strict=True)]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        names = ", ".join(sorted({str(request.task_name) for request in requests}))
        raise UserError(f"model {self._engine.model.name} tells no log-probabilities of given texts, as {names} asks.")

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        self.loglikelihood(requests)
        return []

    def _asked(self, request: Any, repeat: int) -> tuple[Asked[GenerationRequest], tuple[str, ...]]:
        """The request, and every string that its text ends before."""
        chat, options = request.args
        if not isinstance(chat, Chat):
            raise UserError(f"model {self._engine.model.name} answers chats only; leave out --no-chat-template.")
        sampling = sampling_of(options, prompt=chat, replicate=repeat, seed=self._seed)
        replicate = repeat if sampling.temperature > 0 else 0
        stops = sampling.stop
        sampling = replace(sampling, stop=stops[:_MOST_STOPS])
        key = fingerprint(
            {
                "engine": self._engine.fingerprint,
                "messages": chat.messages,
                "sampling": sampling.fingerprint,
                "replicate": replicate,
            }
        )
        question = question_of(request, chat.shown)
        return Asked(question, replicate, GenerationRequest(key, chat.messages, sampling)), stops


def _before(text: str, stops: Iterable[str]) -> str:
    return text[: min((text.index(stop) for stop in stops if stop in text), default=None)]
