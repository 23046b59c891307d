"""The judge `reward-model`: a sequence classification head with one output, trained on preferences (Bradley-Terry).

One answer: the reward of the chat that ends with it, on the model's own scale, which has no bounds and no zero.
Two answers: the probability that the first is preferred, sigmoid(r_a - r_b), or 1, 0.5, 0 by the greater reward.
What the head is given is the chat through the tokenizer's own template, whole or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from zephyr_bench.engines import loading
from zephyr_bench.engines.chat_tokens import encode_chat, put_before
from zephyr_bench.engines.locate import hub_place, locate
from zephyr_bench.engines.model_files import is_adapter
from zephyr_bench.engines.protocol import EngineOptions, ModelSource
from zephyr_bench.engines.quiet import quiet_transformers, readable
from zephyr_bench.engines.server import sendable
from zephyr_bench.engines.transformers_engine import TransformersEngine
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.judges.protocol import JudgeOptions, refuse_server
from zephyr_bench.judges.specs import local_model
from zephyr_bench.recipe import Entry
from zephyr_bench.records import Answer, Judgment, Match, Message

VERSION = 1  # raised with every change that could change a verdict

_AT_ONCE = 512  # matches that are put in order of length; the rest is read when these are judged
_CPU_TOKENS = 4096  # rows times columns of one forward pass, where no batch size is given
_GPU_TOKENS = 32768
_ANY_CHAT: list[Message] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]

Reward = float | str
"""Or why there is none."""


class RewardModelSpec(Entry):
    kind: Literal["reward-model"]
    description: str
    model: str  # a directory, relative to the YAML where it begins with a dot; or a hub id
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_length: int | None = Field(None, gt=0)  # tokens; a longer chat has no verdict; None: what the model declares
    preference: Literal["probability", "winner"] = "probability"  # of two answers


class RewardModelJudge:
    """`local`: its weights need this machine's memory. They are there while it grades."""

    Spec = RewardModelSpec
    local = True

    def __init__(self, spec: RewardModelSpec, *, name: str, folder: Path, options: JudgeOptions) -> None:
        refuse_server(name, options)
        self.name = name
        self._spec = spec
        self._model = local_model(spec.model, folder)
        self._options = replace(options.engine, engine="transformers", dtype=spec.dtype, base_url=None)
        self._loaded: Any = None

    @cached_property
    def _reader(self) -> TransformersEngine:
        """Tokenizer and template, found and hashed with the model as an engine's are; its weights are never loaded."""
        return TransformersEngine(locate(self._model, include=self._options.include), self._options)

    @cached_property
    def fingerprint(self) -> str:
        """The reader's covers model, tokenizer, template, dtype and versions."""
        return fingerprint(
            {
                "kind": self._spec.kind,
                "version": VERSION,
                "model": self._reader.fingerprint,
                "max_length": self._spec.max_length,
                "preference": self._spec.preference,
            }
        )

    def missing(self) -> list[str]:
        try:
            self._check()
        except UserError as error:
            return [str(error).removesuffix(".")]
        return []

    def _check(self) -> None:
        """Raises UserError where that is no reward model for chats. Reads no weights."""
        source = self._reader.model
        if is_adapter(source.location):
            raise UserError(f"judge {self.name}: model {source.name} is an adapter; merge it into its base first.")
        labels = loading.load_config(source.location, self._options).num_labels
        if labels != 1:
            raise UserError(
                f"judge {self.name}: model {source.name} has {labels} labels; expected one, a reward (num_labels)."
            )
        if self._max_length > self._reader.max_length:
            raise UserError(
                f"judge {self.name}: max_length is {self._max_length}, but model {source.name} reads "
                f"{self._reader.max_length} tokens at most."
            )
        self._render(_ANY_CHAT)

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float | None:
        return 0.0

    def grade(self, matches: Iterable[Match]) -> Iterator[Judgment]:
        """The same chat in several matches is computed once."""
        known: dict[str | None, Reward] = {None: "the text of an answer is not known"}
        waiting = iter(matches)
        try:
            while some := list(islice(waiting, _AT_ONCE)):
                yield from self._judged(some, known)
        finally:
            self._free()

    def _judged(self, matches: Sequence[Match], known: dict[str | None, Reward]) -> Iterator[Judgment]:
        """Each as soon as its chats are known."""
        waiting = {number: (match, self._chats(match)) for number, match in enumerate(matches)}
        new = {chat: None for _, chats in waiting.values() for chat in chats if chat is not None and chat not in known}
        for found in self._rewards(new):
            known |= found
            for number in [number for number, (_, chats) in waiting.items() if known.keys() >= set(chats)]:
                match, chats = waiting.pop(number)
                yield self._judgment(match, [known[chat] for chat in chats])

    def _chats(self, match: Match) -> list[str | None]:
        """Each side's chat up to its answer to the turn; None where an answer's text is not known."""
        return [self._chat(match, side) for side in (match.answers, match.rival) if side is not None]

    def _chat(self, match: Match, answers: tuple[Answer, ...]) -> str | None:
        texts = [answer.text for answer in answers[: match.turn]]
        last = texts[-1]
        if last is None or None in texts:
            return None
        chat = self._render([*match.question.messages(match.turn, answers), {"role": "assistant", "content": last}])
        return sendable(chat)  # tokenizers take no half of a surrogate pair

    def _render(self, chat: Iterable[Message]) -> str:
        return self._reader.render(chat, add_generation_prompt=False)

    def _rewards(self, chats: Iterable[str]) -> Iterator[dict[str | None, Reward]]:
        """Of those that are too long first, then batch by batch: the longest first, which need the most memory."""
        most = self._max_length
        rows = {chat: encode_chat(self._reader.encode, chat, before=self._put_before) for chat in chats}
        yield {
            chat: f"the chat has {len(row)} tokens, and the reward model reads {most} at most"
            for chat, row in rows.items()
            if len(row) > most
        }
        fitting = sorted((chat for chat, row in rows.items() if len(row) <= most), key=lambda chat: -len(rows[chat]))
        start = 0
        while start < len(fitting):
            some = fitting[start : start + self._rows_of(len(rows[fitting[start]]))]
            values = _forward(self._weights, [rows[chat] for chat in some])
            yield {chat: _finite(value) for chat, value in zip(some, values, strict=True)}
            start += len(some)

    def _rows_of(self, columns: int) -> int:
        """How many chats of that length are read together."""
        tokens = _GPU_TOKENS if self._device.startswith("cuda") else _CPU_TOKENS
        return self._options.batch_size or max(1, tokens // columns)

    def _judgment(self, match: Match, rewards: Sequence[Reward]) -> Judgment:
        reason = next((reward for reward in rewards if isinstance(reward, str)), None)
        values = [reward for reward in rewards if isinstance(reward, float)]
        score = None if reason else values[0] if match.rival is None else self._preference(*values)
        reply = ", ".join(f"reward {value}" for value in values)
        return Judgment(match.key(self.fingerprint), self.name, score, reason, reply, cost_usd=0.0)

    def _preference(self, reward: float, rival: float) -> float:
        if self._spec.preference == "winner":
            return 0.5 if reward == rival else float(reward > rival)
        return 0.5 + 0.5 * math.tanh((reward - rival) / 2)  # the sigmoid of the difference, without overflow

    @property
    def _max_length(self) -> int:
        return self._spec.max_length or self._reader.max_length

    @cached_property
    def _put_before(self) -> tuple[int, ...]:
        return put_before(self._reader.encode)

    @cached_property
    def _device(self) -> str:
        return loading.resolve_device(self._options.device)

    @property
    def _weights(self) -> Any:
        if self._loaded is None:
            self._check()
            self._loaded = _load(self._reader.model, self._options, device=self._device)
        return self._loaded

    def _free(self) -> None:
        if self._loaded is not None:
            self._loaded = None
            loading.free_memory(on_gpu=self._device.startswith("cuda"))


def _load(source: ModelSource, options: EngineOptions, *, device: str) -> Any:
    """The model on the device. Raises UserError, also where its head is not among its weights."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with quiet_transformers(), readable(f"reward model {source.name}"):
        place, revision = hub_place(source.location)
        model, told = AutoModelForSequenceClassification.from_pretrained(
            place,
            revision=revision,
            dtype=getattr(torch, loading.resolve_dtype(options.dtype, device)),
            use_safetensors=True,
            trust_remote_code=options.trust_remote_code,
            output_loading_info=True,
        )
    if absent := sorted(told["missing_keys"]):  # transformers fills them with random numbers
        raise UserError(
            f"reward model {source.name}: its weights lack {absent[0]}; expected a model saved with its "
            f"classification head."
        )
    model.config.use_cache = False  # nothing is continued
    return model.to(device).eval()


def _forward(model: Any, rows: Sequence[Sequence[int]]) -> list[float]:
    """The reward of each row of token ids.

    transformers reads it at the last token that is not the config's padding. It does so of a chat alone too, and did in
    training, so that token stays. Where the config names none, rows are padded with one that none of them ends with.
    """
    import torch

    config = model.config.get_text_config()
    declared = config.pad_token_id
    if declared is None or not 0 <= declared < model.get_input_embeddings().num_embeddings:
        ends = {row[-1] for row in rows}
        config.pad_token_id = next(token for token in count() if token not in ends)
    ids = torch.full((len(rows), max(map(len, rows))), config.pad_token_id)  # (rows, columns)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    with torch.inference_mode():
        logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits  # (rows, 1)
    config.pad_token_id = declared
    return [float(value) for value in logits.float()[:, 0].tolist()]


def _finite(value: float) -> Reward:
    return value if math.isfinite(value) else f"the reward is no finite number ({value}); try a wider dtype"
