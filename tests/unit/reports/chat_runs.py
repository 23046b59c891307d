"""Whole runs of mt-bench-mini in a real store: texts given by the test, graded by the real rubric."""

from __future__ import annotations

from collections.abc import Callable

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.mt_bench import MtBench
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.judges import open_judge
from zephyr_bench.records import Answer, Match, Question, SampleScore, answer_key
from zephyr_bench.store import RunStart, Store

Says = Callable[[Question, int], str]


def mini() -> MtBench:
    benchmark = open_benchmark("mt-bench-mini")
    assert isinstance(benchmark, MtBench)
    return benchmark


def chat_run(store: Store, model: str, says: Says, *, questions: int = 10, judgments: int = 1, seed: int = 0) -> str:
    """The run's id. `says` gives the model's text to a question's turn."""
    benchmark, judge = mini(), open_judge("rubric")
    checkpoint = fingerprint(["weights", model])
    store.put_model(
        fingerprint=checkpoint, name=model, location=f"models/{model}", lineage={"recipe": "own", "seed": 7}
    )
    engine = fingerprint([checkpoint, "engine"])
    asked = benchmark.questions[:questions]
    run = store.start_run(
        RunStart(
            benchmark=benchmark.name,
            model=model,
            model_fingerprint=checkpoint,
            engine_fingerprint=engine,
            judge=judge.name,
            judge_fingerprint=judge.fingerprint,
            protocol={**benchmark.protocol(questions), "limit": questions, "judgments": judgments},
            seed=seed,
        )
    )
    answers = {
        (question.id, turn): _answer(engine, model, question, turn, says, seed) for question in asked for turn in (1, 2)
    }
    run.add_answers([(question, answers[question.id, turn]) for question in asked for turn in (1, 2)])
    matches = [
        Match(question, turn, tuple(answers[question.id, t] for t in range(1, turn + 1)), replicate=replicate)
        for question in asked
        for turn in (1, 2)
        for replicate in range(judgments)
    ]
    judged = list(zip(matches, judge.grade(matches), strict=True))
    run.add_judgments(judged)
    samples = [
        SampleScore(m.question.id, m.question.category, "score", j.score, m.turn, j.reason, replicate=m.replicate)
        for m, j in judged
    ]
    run.add_samples(samples)
    run.finish("complete", benchmark.aggregate(samples))
    return run.id


def _answer(engine: str, model: str, question: Question, turn: int, says: Says, seed: int) -> Answer:
    key = answer_key(engine, question, turn, mini().sampling(question), replicate=seed)
    return Answer(key, model, question.id, turn, says(question, turn), "stop", 10, 5)


def short_answers(question: Question, turn: int) -> str:
    return f"Answer {turn} to question {question.id}."


def long_answers(question: Question, turn: int) -> str:
    return f"# An answer\n\n1. To question {question.id}, turn {turn}\n2. with more words, and a number: 42.\n" * 3
