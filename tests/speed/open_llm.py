"""Scoring of lm-eval's tasks: ours against lm-eval's own `hf` model, seconds, the embedded model in float32.

    .venv/bin/python tests/speed/open_llm.py [--json] [--only mmlu-5,arc-25] [--rounds N]

Both are asked the same requests of lm-eval's own tasks (tests/lm_eval_requests.py), in this process, on the same
weights and threads, from text to log-probabilities. lm-eval's runs with logits_cache at the best of batch sizes 1, 4
and 8, found on a third of the questions. They alternate, round by round. Log-probabilities must agree within 2e-5 a
token, or be as near to those in float64, and greedy flags be the same but for ties, or the script fails. Further rows:
distinct tokens over computed ones (`tokens`), FLOP/s against a plain matmul of the same shapes (`flops`), and peak
memory, each side in a process of its own (`memory`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from open_llm_limits import Tree, counted, flop, matmul_flop_per_second, peak_bytes, tree_of
from ratio_row import HEAD, Row

from zephyr_bench.engines import open_engine
from zephyr_bench.engines.lm_eval_model import EngineLM
from zephyr_bench.engines.protocol import EngineOptions

sys.path.insert(0, str(Path(__file__).parents[1]))  # what tests share lies beside this folder

from exact_scores import Exact
from lm_eval_requests import REAL, SHAPES, Shape, requests_of, write_hellaswag

MODEL = "smollm2-135m-instruct"
BATCH_SIZES = (1, 4, 8)
ROUNDS = 3
LIMIT_S = 30 * 60  # a round that would end later isn't begun
APART = 2e-5  # a token
SHOTS = (0, 2, 5)  # growth is shown for these
MOST_TOKENS, LEAST_FLOPS, MEMORY = 1.05, 0.6, 1.0
MEMORY_SHAPE = "arc-25"

Scores = list[tuple[float, bool]]


class Forgetful:
    """Where scores would be kept: a cache that knows none."""

    def token_scores(self, keys: Sequence[str]) -> dict[str, Any]:
        return {}

    def add_token_scores(self, scores: Sequence[Any]) -> None: ...


@dataclass
class Sides:
    """Both models over the same weights."""

    engine: Any
    ours: EngineLM

    @property
    def weights(self) -> Any:
        return self.engine._weights.model

    @cached_property
    def exact(self) -> Exact:
        return Exact(self.weights)

    def peer(self, batch_size: int) -> Any:
        from lm_eval.models.huggingface import HFLM

        # 4-bit files were made plain weights when they were located; both read those
        return HFLM(
            pretrained=self.weights, tokenizer=self.engine._weights.tokenizer, batch_size=batch_size, device="cpu"
        )


def opened() -> Sides:
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # of the process, so the same for both
    engine: Any = open_engine(MODEL, EngineOptions(device="cpu", dtype="float32"))
    return Sides(engine, EngineLM(engine, Forgetful()))  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print rows for machines on stdout")
    parser.add_argument("--only", help="these shapes, separated by commas")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peak", choices=("ours", "peer"), help=argparse.SUPPRESS)  # a child that tells its memory
    parser.add_argument("--batch-size", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not REAL.is_dir():
        sys.exit(f"the real rows are absent: {REAL} is no folder")
    shapes = [shape for shape in SHAPES if not options.only or shape.name in options.only.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "own"
        write_hellaswag(own)
        if options.peak:
            print(peak(options.peak, options.batch_size, own))
            return
        measure(shapes, own, options.rounds, as_json=options.json)


def measure(shapes: Sequence[Shape], own: Path, rounds: int, *, as_json: bool) -> None:
    began, load = time.perf_counter(), os.getloadavg()[0]
    sides = opened()
    asked = {shape.name: requests_of(shape, own) for shape in shapes}
    trees = {name: tree(sides.ours, requests) for name, requests in asked.items()}
    sides.ours.loglikelihood(asked[shapes[0].name][:1])  # loads the weights, and tries whether they take a tree
    best: dict[str, int] = {}
    for shape in shapes:
        best[shape.name] = best_batch_size(sides, asked[shape.name])
        say(f"{shape.name}: lm-eval is fastest at batch size {best[shape.name]}")
    pairs: dict[str, list[tuple[float, float]]] = {shape.name: [] for shape in shapes}
    tokens: list[tuple[int, int]] = []
    flops: list[tuple[float, float]] = []
    for number in range(rounds):
        started = time.perf_counter()
        for shape in shapes:
            with counted(sides.weights) as passed:
                mine, my_seconds = timed(sides.ours.loglikelihood, asked[shape.name])
            peer = sides.peer(best[shape.name])
            theirs, their_seconds = timed(peer.loglikelihood, asked[shape.name])
            apart = "" if number else compare(sides, shape.name, asked[shape.name], mine, theirs)
            pairs[shape.name].append((my_seconds, their_seconds))
            tokens.append((passed.tokens, trees[shape.name].tokens))
            reached = flop(sides.weights, trees[shape.name]) / my_seconds
            flops.append((reached, matmul_flop_per_second(sides.weights, sides.engine._weights.batching.tree_tokens)))
            say(f"round {number + 1}: {shape.name} {my_seconds:.1f} s against {their_seconds:.1f} s; {apart}")
        if time.perf_counter() - began + time.perf_counter() - started > LIMIT_S:
            break
    rows = [Row(shape.name, "s", pairs[shape.name], shape.target, less_is_better=True) for shape in shapes]
    rows.append(Row("tokens", "computed, distinct", tokens, 1 / MOST_TOKENS, less_is_better=True))
    rows.append(Row("flops", "FLOP/s, matmul's", flops, LEAST_FLOPS, less_is_better=False))
    if any(shape.name == MEMORY_SHAPE for shape in shapes):
        peaks = [(child("ours", 1), child("peer", best[MEMORY_SHAPE]))]
        rows.append(Row("memory", "MiB", peaks, MEMORY, less_is_better=True))
    if as_json:
        print(json.dumps([row.told() for row in rows]))
        return
    print(f"{torch.get_num_threads()} threads, load {load:.1f} before; lm-eval's batch sizes {best}")
    print(HEAD)
    for row in rows:
        print(row.line())
    if any(shape.name == "mmlu-5" for shape in shapes):
        growth(sides, own)


def best_batch_size(sides: Sides, requests: Sequence[Any]) -> int:
    questions = sorted({request.doc_id for request in requests})
    few = [request for request in requests if request.doc_id in questions[: max(2, len(questions) // 3)]]
    return min(BATCH_SIZES, key=lambda size: timed(sides.peer(size).loglikelihood, few)[1])


def growth(sides: Sides, own: Path) -> None:
    """Seconds by the number of shots: ours reads them once, lm-eval with every question."""
    (mmlu,) = [shape for shape in SHAPES if shape.name == "mmlu-5"]
    print("seconds by number of shots, mmlu, 16 questions:")
    for shots in SHOTS:
        asked = requests_of(replace(mmlu, shots=shots, questions=16), own)
        mine = timed(sides.ours.loglikelihood, asked)[1]
        theirs = timed(sides.peer(1).loglikelihood, asked)[1]
        print(f"  {shots} shots: ours {mine:6.2f}   lm-eval {theirs:6.2f}")


def tree(lm: EngineLM, requests: Sequence[Any]) -> Tree:
    pairs = [lm._encode_pair(*request.args) for request in requests]
    return tree_of([tuple((a + b)[:-1]) for a, b in pairs], [len(a) - 1 for a, _ in pairs])


def compare(sides: Sides, name: str, requests: Sequence[Any], ours: Scores, peer: Scores) -> str:
    """How far apart the log-probabilities are at most. Exits where ours aren't right.

    Where both differ by more than they may, float64 says who is right; where a greedy flag does, how near the tie is.
    """
    worst, doubtful = 0.0, 0
    for request, (mine, greedy), (theirs, their_greedy) in zip(requests, ours, peer, strict=True):
        context, continuation = sides.ours._encode_pair(*request.args)
        apart = abs(mine - theirs) / len(continuation)
        worst = max(worst, apart)
        if apart > APART or greedy != their_greedy:
            doubtful += 1
            right, margin = sides.exact(context, continuation)
            if abs(mine - right) > APART * len(continuation) or (greedy != their_greedy and margin > 10 * APART):
                sys.exit(f"{name}: {mine} is not the log-probability in float64, {right}; no speed is told")
    told = f", {doubtful} of them confirmed by float64" if doubtful else ""
    return f"at most {worst:.1e} a token apart{told}"


def peak(side: str, batch_size: int, own: Path) -> int:
    """Bytes, of one side alone."""
    sides = opened()
    (shape,) = [shape for shape in SHAPES if shape.name == MEMORY_SHAPE]
    asked = requests_of(shape, own)
    (sides.ours if side == "ours" else sides.peer(batch_size)).loglikelihood(asked)
    return peak_bytes()


def child(side: str, batch_size: int) -> float:
    command = [sys.executable, __file__, "--peak", side, "--batch-size", str(batch_size)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(told.split()[-1]) / 2**20


def timed(work: Callable[..., Any], requests: Sequence[Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    found = work(list(requests), disable_tqdm=True)
    return found, time.perf_counter() - started


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
