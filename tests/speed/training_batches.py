"""What tests/speed/training.py trains on: pairs of given lengths, and real pairs and dialogues from ../shared/data."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_bench.training_data.data import Pair
from zephyr_bench.training_data.tokens import Example, PairExample, encode_dialogue, encode_pair

REAL = Path(__file__).parents[3] / "shared" / "data"
ANNOTATIONS = REAL / "alpaca_eval" / "v1_zephyr-7b-alpha.annotations.json.gz"
DIALOGUES = REAL / "open_llm" / "openai" / "gsm8k"
SEED = 7


@dataclass(frozen=True)
class Shape:
    """A row of the table: pairs of one prompt's and one answer's length, so many at once."""

    prompt: int
    answer: int
    pairs: int

    @property
    def name(self) -> str:
        return f"ddpo-{self.prompt}:{self.answer}"

    @property
    def limit(self) -> float:
        """How often fewer tokens there are when a prompt is computed once."""
        return 2 * (self.prompt + self.answer) / (self.prompt + 2 * self.answer)


SHAPES = (Shape(64, 64, 8), Shape(256, 128, 3), Shape(512, 128, 2))


def even_pairs(shape: Shape, *, vocabulary: int) -> list[PairExample]:
    drawn = random.Random(SEED)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(drawn.randrange(100, vocabulary) for _ in range(count))

    return [PairExample(tokens(shape.prompt), (tokens(shape.answer), tokens(shape.answer))) for _ in range(shape.pairs)]


def write_pairs(path: Path, count: int) -> None:
    """`real_pairs` as a training file."""
    lines = [
        {"prompt": row["instruction"], "chosen": row["output_1"], "rejected": row["output_2"]}
        for row in _annotations(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _annotations(count: int) -> list[dict[str, Any]]:
    """Drawn at random: as a shuffled training batch is."""
    rows: list[dict[str, Any]] = json.loads(gzip.decompress(ANNOTATIONS.read_bytes()))
    return random.Random(SEED).sample(rows, count)


def real_pairs(tokenizer: Any, count: int, *, max_length: int) -> list[PairExample]:
    """AlpacaEval's instructions with the answers of two models."""
    pairs = [
        Pair(
            str(number),
            ({"role": "user", "content": row["instruction"]},),
            {"role": "assistant", "content": row["output_1"]},
            {"role": "assistant", "content": row["output_2"]},
        )
        for number, row in enumerate(_annotations(count))
    ]
    return [encode_pair(tokenizer, pair, max_length=max_length) for pair in pairs]


def real_dialogues(tokenizer: Any, count: int, *, max_length: int) -> list[Example]:
    """GSM8K's questions and worked answers."""
    (path,) = DIALOGUES.rglob("*train.jsonl.gz")
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).split(b"\n") if line]
    return [
        encode_dialogue(
            tokenizer,
            [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}],
            max_length=max_length,
            loss_on="assistant",
        )
        for row in random.Random(SEED).sample(rows, count)
    ]


def tokens_of_pairs(examples: Sequence[PairExample]) -> int:
    """As the peer takes them: each answer with its prompt."""
    return sum(len(example.prompt) + len(answer) for example in examples for answer in example.answers)
