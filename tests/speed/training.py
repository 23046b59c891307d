"""One training step's forward and backward: ours against TRL 1.16's trainers, tokens/s and memory, the embedded model.

    .venv/bin/python tests/speed/training.py [--json] [--only ddpo-real,dsft-packed] [--rounds N]

Both take the same tokens from the same float32 weights, on the same threads, and must find the same loss within 1e-4,
or the script fails; the optimiser's step, which is the same for both, is left out. TRL's sides are its own
`compute_loss` on batches of its own collators: DPO with precomputed reference log-probabilities, SFT packed (bfd,
padding-free). Tokens are those of each answer with its prompt, and of dialogues, without padding. Rows that end in
-memory: the most that a step holds above weights and gradients, each side in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from open_llm_limits import Tree as Limits
from open_llm_limits import flop, matmul_flop_per_second
from ratio_row import HEAD, Row
from training_batches import (
    ANNOTATIONS,
    SHAPES,
    even_pairs,
    real_dialogues,
    real_pairs,
    tokens_of_pairs,
)
from training_memory import forget_peak, resident

from zephyr_bench.engines.locate import locate
from zephyr_bench.recipe import DdpoStage
from zephyr_bench.trainers.ddpo import Referenced, preference_loss
from zephyr_bench.trainers.forward import Predictor
from zephyr_bench.training_data.tokens import Example, PairExample, Tree

MODEL = "smollm2-135m-instruct"
ROUNDS = 3
CLOSE = 1e-4
SHARE = 0.95  # of a shape's limit
REAL_PAIRS, REAL_LENGTH, REAL_TARGET = 6, 512, 2.0
DIALOGUES, ROW_LENGTH = 16, 1024
MEMORY_TARGET = 1.5
BETA = 0.1


@dataclass(frozen=True)
class Work:
    """One batch as both sides take it."""

    name: str
    tokens: int
    computed: int  # by ours: a shared prompt once
    flop: float  # of ours: 6 a weight and token of the layers, 6 a weight of the head and learned token, attention
    target: float
    ours: Callable[[], torch.Tensor]
    peer: Callable[[], torch.Tensor]


def opened() -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    location = locate(MODEL).location
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = AutoModelForCausalLM.from_pretrained(location, dtype=torch.float32)
    return model.train(), AutoTokenizer.from_pretrained(location)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print rows for machines on stdout")
    parser.add_argument("--only", help="these rows, separated by commas")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peak", choices=("ours", "peer"), help=argparse.SUPPRESS)  # a child that tells its memory
    options = parser.parse_args()
    if not ANNOTATIONS.is_file():
        sys.exit(f"the real pairs are absent: {ANNOTATIONS}")
    if options.peak:
        print(peak(options.only, options.peak))
        return
    names = [name for name in NAMES if not options.only or name in options.only.split(",")]
    load = os.getloadavg()[0]
    held = {name: memory(name) for name in names}  # first: what this process comes to hold would be missing there
    rows = [row for name in names for row in (measured(name, options.rounds), held[name])]
    if options.json:
        print(json.dumps([row.told() for row in rows]))
        return
    print(f"{torch.get_num_threads()} threads, load {load:.1f} before")
    print(HEAD)
    limits = {shape.name: shape.limit for shape in SHAPES}
    for row in rows:
        limit = limits.get(row.name)
        share = f"   {row.ratio / limit:.2f} of the limit {limit:.2f}" if limit else ""
        used = f"   {UTILISATION[row.name]:.2f} of a matmul's FLOP/s" if row.name in UTILISATION else ""
        print(row.line() + share + used)


UTILISATION: dict[str, float] = {}  # of each row measured, ours
NAMES = (*(shape.name for shape in SHAPES), "ddpo-real", "dsft-packed", "dsft-real")


def measured(name: str, rounds: int) -> Row:
    model, tokenizer = opened()
    work = work_of(name, model, tokenizer)
    mine, theirs = stepped(model, work.ours), stepped(model, work.peer)  # warm
    if abs(mine[0] - theirs[0]) > CLOSE * max(1.0, abs(theirs[0])):
        sys.exit(f"{name}: the losses are {mine[0]:.6f} and {theirs[0]:.6f}; it isn't the same work, no speed is told")
    pairs = []
    for number in range(rounds):
        mine, theirs = stepped(model, work.ours), stepped(model, work.peer)
        pairs.append((work.tokens / mine[1], work.tokens / theirs[1]))
        print(f"{name}, round {number + 1}: {pairs[-1][0]:.0f} against {pairs[-1][1]:.0f} tokens/s", file=sys.stderr)
    seconds = work.tokens / statistics.median(ours for ours, _ in pairs)
    UTILISATION[name] = work.flop / seconds / matmul_flop_per_second(model, work.computed)
    return Row(name, "tokens/s", pairs, work.target, less_is_better=False)


def stepped(model: Any, loss: Callable[[], torch.Tensor]) -> tuple[float, float]:
    """(loss, seconds) of one forward and backward."""
    model.zero_grad(set_to_none=False)
    started = time.perf_counter()
    value = loss()
    value.backward()
    return float(value.detach()), time.perf_counter() - started


def work_of(name: str, model: Any, tokenizer: Any) -> Work:
    for shape in SHAPES:
        if shape.name == name:
            examples = even_pairs(shape, vocabulary=model.config.vocab_size)
            return preference_work(name, model, tokenizer, examples, SHARE * shape.limit)
    if name == "ddpo-real":
        examples = real_pairs(tokenizer, REAL_PAIRS, max_length=REAL_LENGTH)
        return preference_work(name, model, tokenizer, examples, REAL_TARGET)
    return supervised_work(name, model, tokenizer, packed=name == "dsft-packed")


def preference_work(name: str, model: Any, tokenizer: Any, examples: Sequence[PairExample], target: float) -> Work:
    import trl
    from datasets import Dataset

    predictor = Predictor(model, pad=0)
    with torch.no_grad():
        log_probs = predictor([example.tree for example in examples]).sums.view(-1, 2)
    moved = (log_probs + torch.tensor([1.0, -1.0])).tolist()  # so that not every margin is 0
    batch = [Referenced(example, tuple(both)) for example, both in zip(examples, moved, strict=True)]
    stage = DdpoStage(learning_rate=1e-6, global_batch=len(batch), beta=BETA)
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    trainer = trl.DPOTrainer(
        model=model,
        args=trl.DPOConfig(beta=BETA, max_length=None, precompute_ref_log_probs=True, **arguments()),
        train_dataset=Dataset.from_list([row]),
        processing_class=tokenizer,
    )
    inputs = trainer.data_collator(
        [
            {
                "prompt_ids": list(one.example.prompt),
                "chosen_ids": list(one.example.answers[0]),
                "rejected_ids": list(one.example.answers[1]),
                "ref_chosen_logps": one.log_probs[0],
                "ref_rejected_logps": one.log_probs[1],
            }
            for one in batch
        ]
    )
    return Work(
        name,
        tokens_of_pairs(examples),
        sum(example.tree.size for example in examples),
        step_flop(model, [example.tree for example in examples]),
        target,
        lambda: preference_loss(predictor, batch, stage=stage)[0] / len(batch),
        lambda: trainer.compute_loss(model, dict(inputs)),
    )


def supervised_work(name: str, model: Any, tokenizer: Any, *, packed: bool) -> Work:
    import trl
    from datasets import Dataset

    examples = real_dialogues(tokenizer, DIALOGUES, max_length=ROW_LENGTH)
    predictor = Predictor(model, pad=0)
    learned = sum(example.targets for example in examples)
    trees = [Tree(example) for example in examples]
    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(packing=packed, max_length=ROW_LENGTH, completion_only_loss=True, **arguments()),
        train_dataset=Dataset.from_list([as_trl(example) for example in examples]),
        processing_class=tokenizer,
    )
    inputs = next(iter(trainer.get_train_dataloader()))
    assert int(inputs["attention_mask"].sum() if "attention_mask" in inputs else inputs["input_ids"].numel()) == sum(
        len(example.ids) for example in examples
    )
    length = ROW_LENGTH if packed else None
    return Work(
        name,
        sum(len(example.ids) for example in examples),
        sum(len(example.ids) for example in examples),
        step_flop(model, trees),
        1.0,
        lambda: -predictor(trees, length=length).log_probs.sum() / learned,
        lambda: trainer.compute_loss(model, dict(inputs)),
    )


def step_flop(model: Any, trees: Sequence[Tree]) -> float:
    """Of one forward and backward pass over these trees; what is computed twice counts once."""
    sequences = [one for tree in trees for one in tree.unrolled()]
    attended = 0
    for tree in trees:
        stem = len(tree.stem.ids)
        attended += stem * (stem + 1) // 2
        attended += sum(len(one.ids) * stem + len(one.ids) * (len(one.ids) + 1) // 2 for one in tree.branches)
    read = sum(one.stem.targets for one in sequences)
    return 3 * flop(model, Limits(sum(tree.size for tree in trees), attended, read))


def as_trl(example: Example) -> dict[str, Any]:
    """Tokens with what is learned of them, as TRL's prepared data sets have them."""
    return {"input_ids": list(example.ids), "completion_mask": [int(learn) for learn in example.learn]}


def arguments() -> dict[str, Any]:
    return {
        "output_dir": tempfile.mkdtemp(),
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": DIALOGUES,
        "disable_tqdm": True,
    }


def memory(name: str) -> Row:
    sides = [
        int(
            subprocess.run(
                [sys.executable, __file__, "--peak", side, "--only", name], check=True, capture_output=True, text=True
            ).stdout.split()[-1]
        )
        for side in ("ours", "peer")
    ]
    pair = (sides[0] / 2**20, sides[1] / 2**20)
    print(f"{name}-memory: {pair[0]:.0f} against {pair[1]:.0f} MiB", file=sys.stderr)
    return Row(f"{name}-memory", "MiB", [pair], MEMORY_TARGET, less_is_better=True)


def peak(name: str, side: str) -> int:
    """Bytes that one step holds at most, above weights, gradients and what Python and torch hold anyway."""
    model, tokenizer = opened()
    work = work_of(name, model, tokenizer)
    for part in model.parameters():
        part.grad = torch.zeros_like(part)
    small = model(input_ids=torch.arange(1, 9)[None]).logits.sum()  # buffers that any step needs
    small.backward()
    del small
    before = forget_peak()
    loss = work.ours() if side == "ours" else work.peer()
    loss.backward()
    return resident("VmHWM") - before


if __name__ == "__main__":
    main()
