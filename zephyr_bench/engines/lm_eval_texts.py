"""What lm-eval's generative tasks ask, as requests of ours, and the texts, each kept the moment it came.

In: lm-eval's options of a task; requests keyed by content. Out: texts in the order asked, those of the store not
made again. Knows no prompt: how one becomes a request is the business of lm_eval_model.py and lm_eval_chat.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from zephyr_bench.engines.protocol import CompletionRequest
from zephyr_bench.errors import UserError
from zephyr_bench.progress import Progress
from zephyr_bench.records import Answer, Generation, GenerationRequest, Question, Sampling

_MAX_NEW_TOKENS = 256  # lm-eval's default (max_gen_toks)
# names under which tasks give the number of new tokens, first match first (lm_eval/models/utils.py)
_MAX_NEW_TOKENS_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")

R = TypeVar("R", CompletionRequest, GenerationRequest)


class AnswerCache(Protocol):
    """Where answers are kept: the store's run, or nothing."""

    def answers(self, keys: Iterable[str]) -> Mapping[str, Answer]: ...

    def use_answers(self, keys: Iterable[str]) -> None: ...

    def add_answers(self, answered: Iterable[tuple[Question, Answer]]) -> None: ...


@dataclass(frozen=True)
class Asked(Generic[R]):
    """One request, and the question that its answer is filed by."""

    question: Question
    replicate: int
    request: R


def texts(
    asked: Sequence[Asked[R]],
    ask: Callable[[Iterable[R]], Iterator[Generation]],
    *,
    cache: AnswerCache,
    model: str,
    progress: Progress,
) -> list[str]:
    """In the order asked; what has the same key is asked for once."""
    by_key: dict[str, Asked[R]] = {}
    for one in asked:
        by_key.setdefault(one.request.key, one)
    known = dict(cache.answers(by_key))
    cache.use_answers(known)
    if missing := len(by_key) - len(known):
        results = ask([_with_result(one.request, known.get(key)) for key, one in by_key.items()])
        for result in progress.track(results, what=f"{model}: texts", total=missing, unit="texts"):
            one = by_key[result.key]
            answer = Answer(
                key=result.key,
                model=model,
                question=one.question.id,
                turn=1,
                text=result.text,
                finish_reason=result.finish_reason,
                prompt_tokens=result.prompt_tokens,
                completion_tokens=result.completion_tokens,
                replicate=one.replicate,
            )
            cache.add_answers([(one.question, answer)])
            known[result.key] = answer
    return [known[one.request.key].text or "" for one in asked]


def _with_result(request: R, answer: Answer | None) -> R:
    return request if answer is None else replace(request, made=answer.as_generated())


def question_of(request: Any, text: str) -> Question:
    """The row of the task that lm-eval's Instance is of; `text` is what the model is shown."""
    return Question(f"{request.task_name}/{request.doc_id}", str(request.task_name), (text,))


def repeats(requests: Sequence[Any]) -> list[int]:
    """How often the same was asked before, for each request: lm-eval repeats one to draw several answers."""
    seen: dict[str, int] = {}
    counts = []
    for request in requests:
        prompt, options = request.args
        counts.append(seen.get(key := f"{prompt}{sorted(options.items())}", 0))
        seen[key] = counts[-1] + 1
    return counts


def sampling_of(options: Mapping[str, Any], *, prompt: str, replicate: int, seed: int) -> Sampling:
    """A task's generation_kwargs. Raises UserError for one that no engine knows; else it would count for nothing.

    What is drawn depends on the prompt and its repeat, not on the requests beside it.
    """
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
    drawn = hashlib.sha256(f"{seed}/{prompt}/{replicate}".encode()).digest()
    own = int.from_bytes(drawn[:6], "big")
    return Sampling(temperature, top_p, max_new_tokens, own, tuple(stop for stop in stops if stop))
