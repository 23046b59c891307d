"""Ask a model a benchmark's questions, turn by turn, and keep every answer the moment it exists.

In: questions and how to sample. Out: the answers, those of the store not made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from zephyr_bench.benchmarks.protocol import Job
from zephyr_bench.records import Answer, GenerationRequest, Question, Sampling, answer_key


@dataclass(frozen=True)
class _Turn:
    """One turn of a question, as it is asked."""

    question: Question
    number: int  # 1-based
    key: str  # of its answer
    sampling: Sampling
    replicate: int
    earlier: tuple[str, ...]  # keys of the answers before


def ask(
    job: Job, questions: Sequence[Question], *, sampling: Callable[[Question], Sampling], replicate: int = 0
) -> dict[str, tuple[Answer, ...]]:
    """Question id -> its answers, one a turn. Turn 2 sees the model's own answer to turn 1.

    All go to the engine at once: a second turn is asked as soon as its first one is answered, beside first turns of
    other questions. `replicate` counts deliberate repeats, each with chance of its own.
    """
    chains = {question.id: _turns(job, question, sampling(question), replicate) for question in questions}
    turns = [turn for chain in chains.values() for turn in chain]
    answers = job.run.answers([turn.key for turn in turns])
    job.run.use_answers(answers)
    for turn, answer in _new_answers(job, turns, answers):
        job.run.add_answers([(turn.question, answer)])
        answers[turn.key] = answer
    return {id: tuple(answers[turn.key] for turn in chain) for id, chain in chains.items()}


def _turns(job: Job, question: Question, sampling: Sampling, replicate: int) -> list[_Turn]:
    """Each question, turn and replicate draws from a seed of its own, so that no two share their chance."""
    turns: list[_Turn] = []
    for number in range(1, len(question.turns) + 1):
        seed = hashlib.sha256(f"{job.seed}/{question.id}/{number}/{replicate}".encode()).digest()
        own = replace(sampling, seed=int.from_bytes(seed[:6], "big"))
        key = answer_key(job.engine.fingerprint, question, number, own, replicate)
        turns.append(_Turn(question, number, key, own, replicate, tuple(turn.key for turn in turns)))
    return turns


def _new_answers(job: Job, turns: Sequence[_Turn], answers: dict[str, Answer]) -> Iterator[tuple[_Turn, Answer]]:
    """What `answers` lacks, as the engine finishes it. The caller puts each into `answers` before it asks for more.

    Questions of the same content share an answer, which is asked for once.
    """
    by_key: dict[str, _Turn] = {}
    for turn in turns:
        by_key.setdefault(turn.key, turn)
    missing = sum(key not in answers for key in by_key)
    if not missing:
        return
    following: dict[str, list[_Turn]] = {}  # by the key of the turn before
    for turn in by_key.values():
        if turn.earlier:
            following.setdefault(turn.earlier[-1], []).append(turn)

    def request(turn: _Turn) -> GenerationRequest:
        earlier = tuple(answers[key] for key in turn.earlier)
        made = answers.get(turn.key)
        messages = turn.question.messages(turn.number, earlier)
        return GenerationRequest(turn.key, messages, turn.sampling, None if made is None else made.as_generated())

    first = [request(turn) for turn in by_key.values() if not turn.earlier]
    results = job.engine.generate(first, then=lambda result: map(request, following.get(result.key, ())))
    for result in job.progress.track(results, what=f"{job.engine.model.name}: answers", total=missing, unit="answers"):
        turn = by_key[result.key]
        yield (
            turn,
            Answer(
                key=result.key,
                model=job.engine.model.name,
                question=turn.question.id,
                turn=turn.number,
                text=result.text,
                finish_reason=result.finish_reason,
                prompt_tokens=result.prompt_tokens,
                completion_tokens=result.completion_tokens,
                replicate=turn.replicate,
            ),
        )
