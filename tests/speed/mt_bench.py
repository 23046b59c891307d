"""MT-Bench's answers: ours, stored, against FastChat's way of making them; tokens per second, the embedded model.

    .venv/bin/python tests/speed/mt_bench.py [--json] [--questions N]

Ours asks both turns of all questions at once and keeps the answers in a store. FastChat 0.2.36
(llm_judge/gen_model_answer.py) asks one question after the other, turn 1, then turn 2 with its own answer, each with
transformers' generate. Both are greedy with at most 64 new tokens, in this process, on the same weights, threads and
prompts. They alternate: a round is ours on all questions, then the peer on a third of them (all take ten minutes),
a stride, so that each round has every category and three rounds have every question. Batching may turn a near tie
between two tokens: each answer that differs must do so at one, or the script fails.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.asking import ask
from zephyr_bench.benchmarks.evaluate import recorded_run
from zephyr_bench.benchmarks.mt_bench import MtBench
from zephyr_bench.benchmarks.protocol import Job
from zephyr_bench.engines import decoding, open_engine
from zephyr_bench.engines.chat_tokens import encode_chat
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.progress import Progress
from zephyr_bench.records import Answer, Question, Sampling
from zephyr_bench.store import Store

ROUNDS = 3
TARGET = 6.0
SAMPLING = Sampling(max_new_tokens=64)
NEAR_TIE = 1e-2  # between two tokens' logits
Replies = dict[str, list[tuple[int, ...]]]  # question -> the new tokens of each turn, end token included


def tokens_by_key() -> dict[str, tuple[int, ...]]:
    """Filled with each answer's tokens as the engine ends it: a result has only its text, which others may give too."""
    found: dict[str, tuple[int, ...]] = {}
    result_of = decoding._generation

    def listening(loaded: Any, row: Any, text: str, reason: str) -> Any:
        found[row.request.key] = tuple(row.made)
        return result_of(loaded, row, text, reason)

    decoding._generation = listening
    return found


@dataclass
class Agreement:
    """How often both gave the same tokens, by turn; and how near the tie was where they didn't."""

    compared: list[int] = field(default_factory=lambda: [0, 0])
    same: list[int] = field(default_factory=lambda: [0, 0])
    gaps: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        first, second = (f"{same} of {of}" for same, of in zip(self.same, self.compared, strict=True))
        ties = f"{len(self.gaps)} differ" + (f", at gaps of at most {max(self.gaps):.1e} logits" if self.gaps else "")
        return f"same answers: turn 1 {first}, turn 2 after the same turn 1 {second}; {ties}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print rows for machines on stdout")
    parser.add_argument("--questions", type=int, default=80, help="how many of the 80, for a quick trial; at least 3")
    options = parser.parse_args()
    every = cast(MtBench, open_benchmark("mt-bench")).questions
    if not ROUNDS <= options.questions <= len(every):
        parser.error(f"--questions {options.questions}: expected {ROUNDS} to {len(every)}")
    questions = [every[number * len(every) // options.questions] for number in range(options.questions)]
    load = os.getloadavg()[0]
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # of the process, so the same for both
    engine: Any = open_engine("smollm2-135m-instruct", EngineOptions(device="cpu", dtype="float32"))
    heard = tokens_by_key()

    def ours(asked: Sequence[Question]) -> Replies:
        return {id: [heard[answer.key] for answer in made] for id, made in answer_all(engine, asked).items()}

    def peer(asked: Sequence[Question]) -> Replies:
        return {question.id: answer_alone(engine, question) for question in asked}

    few = questions[:: len(questions) // 3]  # loads the weights, too
    compare(engine, few, ours(few), peer(few), Agreement())
    agreement, speeds = Agreement(), list[tuple[float, float]]()
    for number in range(ROUNDS):
        third = questions[number::ROUNDS]
        mine, my_speed = timed(partial(ours, questions))
        theirs, their_speed = timed(partial(peer, third))
        speeds.append((my_speed, their_speed))
        compare(engine, third, mine, theirs, agreement)
        print(
            f"round {number + 1} of {ROUNDS}: {my_speed:.1f} against {their_speed:.1f} tokens/s; {agreement}",
            file=sys.stderr,
        )
    ratio = statistics.median(mine / theirs for mine, theirs in speeds)
    row = {
        "name": "answers",
        "ours": statistics.median(mine for mine, _ in speeds),
        "peer": statistics.median(theirs for _, theirs in speeds),
        "ratio": ratio,
        "target": TARGET,
    }
    if options.json:
        print(json.dumps([row]))
        return
    print(
        f"answers, tokens/s: {len(questions)} questions, 2 turns, at most {SAMPLING.max_new_tokens} tokens; "
        f"{torch.get_num_threads()} threads, load {load:.1f} before"
    )
    print(agreement)
    for name, index in (("ours", 0), ("FastChat", 1)):
        told = [pair[index] for pair in speeds]
        print(f"{name:10} min {min(told):7.2f}   median {statistics.median(told):7.2f}   max {max(told):7.2f}")
    met = "met" if ratio >= TARGET else "missed"
    print(f"ratio {ratio:.2f} (ours / FastChat, median of pairs; target {TARGET:g}, {met})")


def answer_all(engine: Any, questions: Sequence[Question]) -> dict[str, tuple[Answer, ...]]:
    """As `zephyr-bench mtbench` answers, in a store of its own."""
    with (
        Store("sqlite:///:memory:") as store,
        recorded_run(store, engine, None, benchmark="mt-bench", protocol={}, seed=0) as run,
    ):
        job = Job(engine=engine, judge=None, run=run, progress=Progress(quiet=True))
        answers = ask(job, questions, sampling=lambda _: SAMPLING)
        run.finish("complete", [])
        return answers


@torch.inference_mode()
def answer_alone(engine: Any, question: Question) -> list[tuple[int, ...]]:
    """FastChat's inner loop, but for its template by name and for the answer's blanks, which it strips."""
    model, tokenizer = engine._weights.model, engine._weights.tokenizer
    made: list[tuple[int, ...]] = []
    answers: list[Answer] = []
    for turn in range(1, len(question.turns) + 1):
        ids = torch.tensor([prompt(engine, question, turn, answers)])  # (1, columns)
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=SAMPLING.max_new_tokens
        )
        made.append(tuple(output[0, ids.shape[1] :].tolist()))
        text = tokenizer.decode(made[-1], skip_special_tokens=True)
        answers.append(Answer(key="", model="", question=question.id, turn=turn, text=text))
    return made


def prompt(engine: Any, question: Question, turn: int, answers: Sequence[Answer]) -> list[int]:
    return encode_chat(engine.encode, engine.render(question.messages(turn, tuple(answers))))


def timed(work: Callable[[], Replies]) -> tuple[Replies, float]:
    """What it made, and new tokens per second."""
    started = time.perf_counter()
    replies = work()
    seconds = time.perf_counter() - started
    return replies, sum(len(tokens) for turns in replies.values() for tokens in turns) / seconds


def compare(engine: Any, questions: Sequence[Question], ours: Replies, peer: Replies, into: Agreement) -> None:
    """Turn by turn, as long as the answers before are the same. Exits where a difference is no near tie."""
    for question in questions:
        answers: list[Answer] = []
        for turn, (mine, theirs) in enumerate(zip(ours[question.id], peer[question.id], strict=True), start=1):
            into.compared[turn - 1] += 1
            asked = prompt(engine, question, turn, answers)
            if mine != theirs:
                into.gaps.append(gap(engine._weights.model, asked, mine, theirs))
                if into.gaps[-1] > NEAR_TIE:
                    sys.exit(
                        f"question {question.id}, turn {turn}: the answers differ where one token's logit is "
                        f"{into.gaps[-1]:.3g} above the other's; they aren't the same work, so no speed is told"
                    )
                break
            into.same[turn - 1] += 1
            text = engine._weights.tokenizer.decode(mine, skip_special_tokens=True)
            answers.append(Answer(key="", model="", question=question.id, turn=turn, text=text))


@torch.inference_mode()
def gap(model: Any, asked: Sequence[int], one: Sequence[int], other: Sequence[int]) -> float:
    """Between the logits of the first two tokens that differ, in a plain forward pass of this one row."""
    first = next(number for number, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    logits = model(torch.tensor([[*asked, *one[:first]]])).logits[0, -1]  # (vocabulary,)
    return abs(float(logits[one[first]] - logits[other[first]]))


if __name__ == "__main__":
    main()
