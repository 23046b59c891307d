"""Ask a model a benchmark's questions, turn by turn, and keep every answer the moment it exists.

In: questions and how to sample. Out: the answers, those of the store not made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from zephyr_bench.benchmarks.protocol import Job
from zephyr_bench.records import Answer, GenerationRequest, Question, Sampling, answer_key


def ask(
    job: Job, questions: Sequence[Question], *, sampling: Callable[[Question], Sampling], replicate: int = 0
) -> dict[str, tuple[Answer, ...]]:
    """Question id -> its answers, one a turn. Turn 2 sees the model's own answer to turn 1.

    `replicate` counts deliberate repeats, each with chance of its own.
    """
    answered: dict[str, tuple[Answer, ...]] = {question.id: () for question in questions}
    for turn in range(1, max(len(question.turns) for question in questions) + 1):
        asked = [question for question in questions if len(question.turns) >= turn]
        requests = [
            _request(job, question, turn, sampling(question), answered[question.id], replicate) for question in asked
        ]
        answers = {answer.key: answer for answer in _answers(job, asked, requests, turn)}
        for question, request in zip(asked, requests, strict=True):
            answered[question.id] = (*answered[question.id], answers[request.key])
    return answered


def _request(
    job: Job,
    question: Question,
    turn: int,
    sampling: Sampling,
    earlier: tuple[Answer, ...],
    replicate: int,
) -> GenerationRequest:
    """Each question, turn and replicate draws from a seed of its own, so that no two share their chance."""
    seed = hashlib.sha256(f"{job.seed}/{question.id}/{turn}/{replicate}".encode()).digest()
    own = replace(sampling, seed=int.from_bytes(seed[:6], "big"))
    key = answer_key(job.engine.fingerprint, question, turn, own, replicate)
    return GenerationRequest(key, question.messages(turn, earlier), own)


def _answers(
    job: Job, questions: Sequence[Question], requests: Sequence[GenerationRequest], turn: int
) -> Iterator[Answer]:
    """Stored answers, then new ones as the engine finishes them, each stored before it is yielded."""
    stored = job.run.answers([request.key for request in requests])
    job.run.use_answers(stored)
    yield from stored.values()
    asker = {request.key: question for request, question in zip(requests, questions, strict=True)}
    missing = {request.key: request for request in requests if request.key not in stored}
    if not missing:
        return
    results = job.engine.generate(missing.values())
    what = f"{job.engine.model.name}: answers, turn {turn}"
    for result in job.progress.track(results, what=what, total=len(missing), unit="answers"):
        question = asker[result.key]
        answer = Answer(
            key=result.key,
            model=job.engine.model.name,
            question=question.id,
            turn=turn,
            text=result.text,
            finish_reason=result.finish_reason,
            prompt_tokens=result.prompt_tokens,
            completion_tokens=result.completion_tokens,
        )
        job.run.add_answers([(question, answer)])
        yield answer
