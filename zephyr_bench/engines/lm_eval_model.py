"""One of our engines as an lm-eval model: lm-eval's tasks ask it, its scores and texts are kept as they come.

Tokenization follows lm-eval's own `hf` model (0.4.13, lm_eval/models/huggingface.py), so that the same
requests become the same tokens. What the store knows is read, not made again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from zephyr_bench.engines.lm_eval_texts import AnswerCache, Asked, question_of, repeats, sampling_of, texts
from zephyr_bench.engines.protocol import CompletingEngine, CompletionRequest, ScoringEngine, TokenizingEngine
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.progress import Progress
from zephyr_bench.records import Message, ScoredTokens, ScoreRequest

_SCORES_PER_COMMIT = 64
_SECONDS_PER_COMMIT = 5.0


class Cache(AnswerCache, Protocol):
    """Where scores and texts are kept: the store's run, or nothing."""

    def token_scores(self, keys: Sequence[str]) -> Mapping[str, ScoredTokens]: ...

    def add_token_scores(self, scores: Iterable[ScoredTokens]) -> None: ...


class EngineLM(TemplateLM):
    """lm-eval's model interface over an engine with a tokenizer, which scores, completes, or both."""

    def __init__(
        self, engine: TokenizingEngine, cache: Cache, *, progress: Progress | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self._engine = engine
        self._cache = cache
        self._progress = progress or Progress(quiet=True)
        self._seed = seed
        self._told_of_system = False

    @property
    def eot_token_id(self) -> int:
        return self._engine.end_token

    @property
    def prefix_token_id(self) -> int:
        return self._engine.start_token

    @property
    def max_length(self) -> int:
        return self._engine.max_length

    @property
    def tokenizer_name(self) -> str:
        return self._engine.model.name.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return self._engine.chat_template if chat_template else None

    def apply_chat_template(self, chat_history: Iterable[Message], add_generation_prompt: bool = True) -> str:
        """Where the template knows no system role, the chat without it; where the answer is begun, up to there."""
        chat = list(chat_history)
        try:
            text = self._engine.render(chat, add_generation_prompt=add_generation_prompt)
        except UserError:
            others = [message for message in chat if message["role"] != "system"]
            if not others or len(others) == len(chat):
                raise
            text = self._engine.render(others, add_generation_prompt=add_generation_prompt)
            if not self._told_of_system:
                self._told_of_system = True
                self._progress.say(f"{self._engine.model.name}: its chat template takes no system message; left out")
        if add_generation_prompt:
            return text
        begun = chat[-1]["content"].strip()
        return text[: text.rindex(begun) + len(begun)]

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Special tokens as the tokenizer adds them, but no second BOS before a text that begins with one."""
        if add_special_tokens is None:
            add_special_tokens = not string.startswith(self._engine.decode([self.prefix_token_id]))
        return self._engine.encode(string, add_special_tokens=add_special_tokens)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        return super().loglikelihood(requests, disable_tqdm=True)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Log-likelihood of whole texts, in disjoint windows of the model's length."""
        windows: list[tuple[int, tuple[list[int], list[int]]]] = []
        for number, request in enumerate(requests):
            (text,) = request.args
            rolling = get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=getattr(self._engine, "longest_scored", self.max_length),
                context_len=1,
            )
            windows += [(number, make_disjoint_window(window)) for window in rolling]
        scored = self._loglikelihood_tokens([(("", ""), *window) for _, window in windows])
        totals = [0.0] * len(requests)
        for (number, _), (log_prob, _) in zip(windows, scored, strict=True):
            totals[number] += log_prob
        return totals

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        """In the order asked. New scores are kept in small batches as they come, also when it breaks off."""
        if not isinstance(self._engine, ScoringEngine):
            raise UserError(f"engine {type(self._engine).__name__} can't tell log-probabilities; this task needs them.")
        asked = [self._score_request(context, continuation) for _, context, continuation in requests]
        known = dict(self._cache.token_scores(sorted({request.key for request in asked})))
        missing = {request.key: request for request in asked if request.key not in known}
        fresh: list[ScoredTokens] = []
        kept_at = time.monotonic()
        results = self._engine.score(missing.values())
        what = f"{self._engine.model.name}: scores"
        try:
            for scored in self._progress.track(results, what=what, total=len(missing), unit="scores"):
                known[scored.key] = scored
                fresh.append(scored)
                if len(fresh) == _SCORES_PER_COMMIT or time.monotonic() - kept_at > _SECONDS_PER_COMMIT:
                    self._cache.add_token_scores(fresh)
                    fresh, kept_at = [], time.monotonic()
        finally:
            if fresh:
                self._cache.add_token_scores(fresh)
        return [(known[request.key].log_prob, known[request.key].is_greedy) for request in asked]

    def _score_request(self, context: Sequence[int], continuation: Sequence[int]) -> ScoreRequest:
        key = fingerprint({"engine": self._engine.fingerprint, "context": context, "continuation": continuation})
        return ScoreRequest(key, tuple(context), tuple(continuation))

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Continuations, cut before the first stop string. New ones are kept as they come, also when it breaks off."""
        engine = self._engine
        if not isinstance(engine, CompletingEngine):
            raise UserError(f"engine {type(engine).__name__} can't continue plain text; this task needs it.")
        return texts(
            [self._asked(request, repeat) for request, repeat in zip(requests, repeats(requests), strict=True)],
            engine.complete,
            cache=self._cache,
            model=engine.model.name,
            progress=self._progress,
        )

    def _asked(self, request: Any, repeat: int) -> Asked[CompletionRequest]:
        """A prompt too long loses its beginning."""
        text, options = request.args
        sampling = sampling_of(options, prompt=text, replicate=repeat, seed=self._seed)
        replicate = repeat if sampling.temperature > 0 else 0
        room = self.max_length - sampling.max_new_tokens
        if room < 1:
            raise UserError(
                f"a task asks for {sampling.max_new_tokens} new tokens; the model holds {self.max_length} in all."
            )
        end = self._engine.decode([self.eot_token_id])
        sampling = replace(sampling, stop=(*sampling.stop, end) if end else sampling.stop)
        prompt = tuple(self.tok_encode(text)[-room:])
        key = fingerprint(
            {
                "engine": self._engine.fingerprint,
                "prompt": prompt,
                "sampling": sampling.fingerprint,
                "replicate": replicate,
            }
        )
        return Asked(question_of(request, text), replicate, CompletionRequest(key, prompt, sampling))
