"""AI feedback's pairs: the judge's best answer against a random one of the rest (arXiv 2310.16944, section 3.2).

Pure but for the file. Sampling and judging are pipeline/feedback.py's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zephyr_bench.records import Answer, Question
from zephyr_bench.trainers.data import Pair
from zephyr_bench.written_file import write_text


@dataclass(frozen=True)
class Graded:
    answer: Answer
    score: float | None  # None: the judge gave no verdict


@dataclass(frozen=True)
class RankedPair:
    pair: Pair
    chosen: Graded
    rejected: Graded


def make_pair(question: Question, graded: Sequence[Graded], *, seed: int) -> RankedPair | None:
    """The best answer against a random worse one; None where no two differ in grade.

    The paper draws from all the rest; one that ties with the best teaches nothing, so it is left out. Of
    several best the first stands. An empty answer is never chosen.
    """
    known = [entry for entry in graded if entry.score is not None and entry.answer.text is not None]
    able = [entry for entry in known if (entry.answer.text or "").strip()]
    if not able:
        return None
    best = max(able, key=lambda entry: entry.score or 0.0)
    worse = [
        entry for entry in known if (entry.score or 0.0) < (best.score or 0.0) and entry.answer.text != best.answer.text
    ]
    if not worse:
        return None
    other = random.Random(f"{seed}/{question.id}").choice(worse)
    pair = Pair(
        id=question.id,
        prompt=({"role": "user", "content": question.turns[0]},),
        chosen={"role": "assistant", "content": best.answer.text or ""},
        rejected={"role": "assistant", "content": other.answer.text or ""},
    )
    return RankedPair(pair, best, other)


def write_pairs(path: Path, ranked: Iterable[RankedPair]) -> None:
    """JSON lines in the format of HuggingFaceH4/ultrafeedback_binarized, with who wrote what."""
    lines = []
    for entry in ranked:
        prompt = list(entry.pair.prompt)
        row = {
            "prompt": prompt[0]["content"],
            "prompt_id": entry.pair.id,
            "chosen": [*prompt, entry.pair.chosen],
            "rejected": [*prompt, entry.pair.rejected],
            "score_chosen": entry.chosen.score,
            "score_rejected": entry.rejected.score,
            "model_chosen": entry.chosen.answer.model,
            "model_rejected": entry.rejected.answer.model,
        }
        lines.append(json.dumps(row) + "\n")
    write_text(path, "".join(lines))
