"""A stored run's answers to instructions, each beside the one that it is compared with. Pure.

In: what the run's judge was asked, or the answers alone. Out: pairs, or what is wrong with the answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from zephyr_bench.benchmarks.alpaca_data import told_some
from zephyr_bench.benchmarks.one_order import Pair
from zephyr_bench.benchmarks.protocol import Given
from zephyr_bench.errors import UserError
from zephyr_bench.records import Answer, Question


def compared_pairs(given: Given) -> list[Pair]:
    """The pairs that the run's judge was shown, in whatever order, each once; none where answers are alone."""
    found: dict[tuple[str, int], Pair] = {}
    for match in given.matches:
        if match.rival is None:
            continue
        both = match.answers[0], match.rival[0]
        own, other = both if both[0].model == given.model else both[::-1]
        found[match.question.id, match.replicate] = Pair(match.question, own, other, match.replicate)
    return list(found.values())


def lone_answers(given: Given) -> list[tuple[Question, Answer]]:
    lone = ((match.question, match.answers[0]) for match in given.matches if match.rival is None)
    return [(question, answer) for question, answer in lone if answer.model == given.model]


def paired(
    answers: Sequence[tuple[Question, Answer]],
    compared: Sequence[tuple[Question, Answer]],
    *,
    benchmark: str,
    allow_missing: bool,
) -> list[Pair]:
    """Each answer beside the baseline's to the same instruction, in the baseline's order.

    Raises UserError for several answers to an instruction, for one that the baseline doesn't answer, and, unless
    `allow_missing`, for an instruction without an answer.
    """
    by_text: dict[str, Answer] = {question.turns[0]: answer for question, answer in answers}
    known = {question.turns[0] for question, _ in compared}
    times = Counter(question.turns[0] for question, _ in answers)
    if twice := [text for text, number in times.items() if number > 1]:
        raise UserError(f"instructions with several outputs: {told_some(twice)}; keep one output of each.")
    if strangers := [text for text in by_text if text not in known]:
        raise UserError(
            f"instructions that {benchmark} doesn't ask: {told_some(strangers)}; take them out, or name the benchmark "
            f"whose they are."
        )
    absent = [text for text in dict.fromkeys(question.turns[0] for question, _ in compared) if text not in by_text]
    if absent and not allow_missing:
        raise UserError(
            f"{len(absent)} of {len(known)} instructions of {benchmark} have no output: {told_some(absent)}; add them, "
            f"or go on without them by --allow-missing."
        )
    return [
        Pair(question, by_text[question.turns[0]], other)
        for question, other in compared
        if question.turns[0] in by_text
    ]
