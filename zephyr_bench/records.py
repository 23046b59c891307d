"""The values that travel from question to leaderboard. Frozen; each carries the key the store files it by.

Question -> Answer (one per turn) -> Match -> Judgment -> SampleScore -> Score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypedDict

from zephyr_bench.fingerprint import fingerprint


class Message(TypedDict):
    """One chat message, as chat templates and the Chat Completions API take it."""

    role: str
    content: str


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. Temperature 0 is greedy, and then the seed and top_p say nothing."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 1024
    seed: int = 0
    stop: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        chance = {"temperature": self.temperature, "top_p": self.top_p, "seed": self.seed}
        choice = chance if self.temperature > 0 else {"temperature": 0.0}
        return fingerprint({**choice, "max_new_tokens": self.max_new_tokens, "stop": self.stop})


@dataclass(frozen=True)
class Question:
    """What is asked. `turns` are the user's messages; the model's own answers stand between them.

    `reference` and `checks` (expectations.py) are per turn and only for judges: changing them
    leaves stored answers valid.
    """

    id: str
    category: str
    turns: tuple[str, ...]
    reference: tuple[str, ...] = ()
    checks: tuple[tuple[Mapping[str, Any], ...], ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the question, its references or its checks do."""
        return fingerprint({"turns": self.turns, "reference": self.reference, "checks": self.checks})

    def messages(self, turn: int, answers: tuple[Answer, ...]) -> tuple[Message, ...]:
        """The chat up to and including the question of `turn` (1-based), with earlier answers between."""
        chat: list[Message] = []
        for number, text in enumerate(self.turns[:turn], start=1):
            chat.append({"role": "user", "content": text})
            if number < turn:
                chat.append({"role": "assistant", "content": answers[number - 1].text or ""})
        return tuple(chat)


@dataclass(frozen=True)
class Answer:
    """One model's answer to one turn (1-based). `text` is None where only its judgment is known."""

    key: str
    model: str
    question: str
    turn: int
    text: str | None
    finish_reason: str | None = None  # "stop" or "length"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    replicate: int = 0  # counts deliberate repeats
    origin: Mapping[str, Any] | None = field(default=None, hash=False)
    """What the file that it was imported from says beside this; None where it was made here."""

    def as_generated(self) -> Generation:
        """As the engine gave it."""
        counts = self.prompt_tokens or 0, self.completion_tokens or 0
        return Generation(self.key, self.text or "", self.finish_reason or "stop", *counts)


def answer_key(engine: str, question: Question, turn: int, sampling: Sampling, replicate: int = 0) -> str:
    """Key of an answer. `engine` is the fingerprint of the engine with its checkpoint."""
    return fingerprint(
        {
            "engine": engine,
            "turns": question.turns[:turn],
            "sampling": sampling.fingerprint,
            "replicate": replicate,
        }
    )


@dataclass(frozen=True)
class Match:
    """The unit of judging: one answer, or two to choose between (`rival` given), up to `turn`.

    `answers` and `rival` hold the answers of turns 1 to `turn`. Of two, `answers` stands first before the judge; who
    wants both orders asks for two matches (benchmarks/pairing.py).
    """

    question: Question
    turn: int
    answers: tuple[Answer, ...]
    rival: tuple[Answer, ...] | None = None
    replicate: int = 0

    def key(self, judge: str) -> str:
        """Key of this match's judgment by the judge with that fingerprint."""
        return fingerprint(
            {
                "judge": judge,
                "question": self.question.fingerprint,
                "category": self.question.category,  # chooses a judge's prompt
                "turn": self.turn,
                "answers": [answer.key for answer in self.answers],
                "rival": None if self.rival is None else ["as given", *(answer.key for answer in self.rival)],
                "replicate": self.replicate,
            }
        )


@dataclass(frozen=True)
class Judgment:
    """A judge's verdict on a match.

    `score` is on the judge's scale (1-10) for one answer; for two it is the preference for
    `answers` over `rival`: 1 better, 0.5 as good, 0 worse. It is None where the reply held no
    verdict, and then `reason` says why.
    """

    key: str
    judge: str
    score: float | None
    reason: str | None = None
    reply: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    prompt: str | None = None  # which of the judge's prompts was sent, where it has several
    origin: Mapping[str, Any] | None = field(default=None, hash=False)  # as an Answer's


@dataclass(frozen=True)
class SampleScore:
    """One question's contribution to a metric; what paired comparisons are made of."""

    question: str
    category: str
    metric: str
    value: float | None
    turn: int = 0  # 1-based; 0 where turns mean nothing
    reason: str | None = None  # why `value` is None
    rival: str = ""  # who the answer was compared with
    replicate: int = 0  # counts deliberate repeats: several judgments of an answer


@dataclass(frozen=True)
class Score:
    """A metric of a run, on the benchmark's own scale."""

    metric: str
    value: float | None
    stderr: float | None
    n: int
    missing: int = 0  # samples without a value, left out of the mean


@dataclass(frozen=True)
class Generation:
    key: str
    text: str
    finish_reason: str  # "stop": the model ended, or a stop string was met; "length": cut at max_new_tokens
    prompt_tokens: int | None  # None where a server doesn't tell
    completion_tokens: int | None
    tokens: tuple[GeneratedToken, ...] = ()  # where `top_logprobs` was asked


@dataclass(frozen=True)
class GeneratedToken:
    """`alternatives` are the likeliest texts at its place, itself among them, each with its natural log-probability."""

    text: str
    alternatives: Mapping[str, float] = field(hash=False)


@dataclass(frozen=True)
class GenerationRequest:
    """A chat to continue. `key` comes back with the result.

    `made` is the result where the caller has it already. It is not made again, nor given back; an engine that
    batches keeps its place, so that the requests beside it are computed in the batch that they would have had.
    `top_logprobs` asks for so many alternatives of each token. `or_nothing`: where the prompt leaves no room for an
    answer, that is an empty answer cut at the length, and no error.
    """

    key: str
    messages: tuple[Message, ...]
    sampling: Sampling
    made: Generation | None = None
    top_logprobs: int = 0
    or_nothing: bool = False


@dataclass(frozen=True)
class ScoreRequest:
    """Token ids whose log-probability is asked: of `continuation` after `context` (not empty)."""

    key: str
    context: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass(frozen=True)
class ScoredTokens:
    key: str
    log_prob: float  # natural log, summed over the continuation
    is_greedy: bool  # every continuation token was the model's first choice
    tokens: int = 0  # length of the continuation
