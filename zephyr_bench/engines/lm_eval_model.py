"""One of our engines as an lm-eval model: lm-eval's tasks ask it, its scores are kept as they come.

Tokenization follows lm-eval's own `hf` model (0.4.13, lm_eval/models/huggingface.py), so that the same
requests become the same tokens. Scores known to the store are read, not made again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from zephyr_bench.engines.protocol import CompletingEngine, CompletionRequest, ScoringEngine
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.progress import Progress
from zephyr_bench.records import Message, Sampling, ScoredTokens, ScoreRequest

_SCORES_PER_COMMIT = 64
_SECONDS_PER_COMMIT = 5.0
_MAX_NEW_TOKENS = 256  # lm-eval's default (max_gen_toks)
# names under which tasks give the number of new tokens, first match first (lm_eval/models/utils.py)
_MAX_NEW_TOKENS_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


class ScoreCache(Protocol):
    """Where scores are kept: the store's run, or nothing."""

    def token_scores(self, keys: Sequence[str]) -> Mapping[str, ScoredTokens]: ...

    def add_token_scores(self, scores: Iterable[ScoredTokens]) -> None: ...


class EngineLM(TemplateLM):
    """lm-eval's model interface over a scoring engine."""

    def __init__(self, engine: ScoringEngine, cache: ScoreCache, *, progress: Progress | None = None) -> None:
        super().__init__()
        self._engine = engine
        self._cache = cache
        self._progress = progress or Progress(quiet=True)

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
        return self._engine.render(chat_history, add_generation_prompt=add_generation_prompt)

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
                max_seq_len=self.max_length,
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
        """Continuations of plain texts, cut before the first stop string. Not kept in the store yet."""
        if not isinstance(self._engine, CompletingEngine):
            raise UserError(f"engine {type(self._engine).__name__} can't continue plain text; this task needs it.")
        asked = [self._completion(number, *request.args) for number, request in enumerate(requests)]
        texts: dict[str, str] = {}
        results = self._engine.complete(asked)
        what = f"{self._engine.model.name}: completions"
        for result in self._progress.track(results, what=what, total=len(asked), unit="texts"):
            texts[result.key] = result.text
        return [texts[request.key] for request in asked]

    def _completion(self, number: int, text: str, options: Mapping[str, Any]) -> CompletionRequest:
        """lm-eval's request as ours; a prompt too long loses its beginning."""
        options = dict(options)
        stop = options.pop("until", None) or []
        stops = [stop] if isinstance(stop, str) else list(stop)
        given = [options.pop(name, None) for name in _MAX_NEW_TOKENS_NAMES]
        max_new_tokens = next((int(value) for value in given if value is not None), _MAX_NEW_TOKENS)
        temperature = float(options.pop("temperature", None) or 0.0)
        if not options.pop("do_sample", temperature > 0):
            temperature = 0.0
        top_p = float(options.pop("top_p", None) or 1.0)
        if options:
            raise UserError(f"a task sets the generation option {min(options)}, which engine models don't know.")
        room = self.max_length - max_new_tokens
        if room < 1:
            raise UserError(f"a task asks for {max_new_tokens} new tokens; the model holds {self.max_length} in all.")
        stops.append(self._engine.decode([self.eot_token_id]))
        sampling = Sampling(temperature, top_p, max_new_tokens, seed=number, stop=tuple(s for s in stops if s))
        return CompletionRequest(str(number), tuple(self.tok_encode(text)[-room:]), sampling)
