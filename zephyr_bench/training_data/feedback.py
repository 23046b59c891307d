"""AI feedback's pairs: the judge's best answer against a random one of the rest (arXiv 2310.16944, section 3.2).

Pure but for the files. Sampling and judging are pipeline/feedback.py's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_bench.records import Answer, Message, Question
from zephyr_bench.training_data.data import Pair
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


@dataclass(frozen=True)
class NoPair:
    question: Question
    graded: Sequence[Graded]
    reason: str


def make_pair(
    question: Question, graded: Sequence[Graded], *, seed: int, reference: str | None = None
) -> RankedPair | NoPair:
    """The best answer against a random worse one, where two differ in grade.

    The paper draws from all the rest; one that ties with the best teaches nothing, so it is left out. Of
    several best the first stands. An empty answer is never chosen. Of the answers of the model named `reference`,
    graded or not, a random one is the pair's `sampled`.
    """
    known = [entry for entry in graded if entry.score is not None and entry.answer.text is not None]
    able = [entry for entry in known if (entry.answer.text or "").strip()]
    if not able:
        return NoPair(question, graded, "no graded answer has text" if known else "no answer has a grade")
    best = max(able, key=lambda entry: entry.score or 0.0)
    worse = [entry for entry in known if (entry.score or 0.0) < (best.score or 0.0)]
    others = [entry for entry in worse if entry.answer.text != best.answer.text]
    if not others:
        tie = "the graded answers tie" if len(known) > 1 else "only one answer has a grade"
        return NoPair(question, graded, "every worse answer has the text of the best" if worse else tie)
    other = random.Random(f"{seed}/{question.id}").choice(others)
    own = [entry for entry in graded if entry.answer.model == reference and entry.answer.text is not None]
    pair = Pair(
        id=question.id,
        prompt=({"role": "user", "content": question.turns[0]},),
        chosen=_said(best),
        rejected=_said(other),
        sampled=_said(random.Random(f"{seed}/{question.id}/sampled").choice(own)) if own else None,
    )
    return RankedPair(pair, best, other)


def _said(entry: Graded) -> Message:
    return {"role": "assistant", "content": entry.answer.text or ""}


def write_pairs(path: Path, ranked: Iterable[RankedPair]) -> None:
    """JSON lines that our own recipes, TRL's DPOTrainer (1.16) and alignment-handbook (main, data.py) read.

    `prompt` is a chat, the sides its last message; the rest as in HuggingFaceH4/ultrafeedback_binarized, `messages`
    being what dSFT would learn, and who wrote what.
    """
    _write(path, map(_row, ranked))


def _row(entry: RankedPair) -> dict[str, Any]:
    pair = entry.pair
    return {
        "prompt": pair.prompt,
        "prompt_id": pair.id,
        "chosen": [pair.chosen],
        "rejected": [pair.rejected],
        "messages": [*pair.prompt, pair.chosen],
        "score_chosen": entry.chosen.score,
        "score_rejected": entry.rejected.score,
        "model_chosen": entry.chosen.answer.model,
        "model_rejected": entry.rejected.answer.model,
        **({"sampled": [pair.sampled]} if pair.sampled else {}),
    }


def write_no_pairs(path: Path, entries: Iterable[NoPair]) -> None:
    """Which prompts gave no pair, why, and how their answers were graded; null: no verdict."""
    _write(
        path,
        (
            {
                "prompt_id": entry.question.id,
                "prompt": entry.question.turns[0],
                "reason": entry.reason,
                "grades": [{"model": one.answer.model, "score": one.score} for one in entry.graded],
            }
            for entry in entries
        ),
    )


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
