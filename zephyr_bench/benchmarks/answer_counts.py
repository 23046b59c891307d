"""Answers that a mean doesn't show: empty ones, ones cut at the token limit, one text given to many questions.

In: answers. Out: a sample for each odd one, so that the counts can be made again from the store, and the counts as
scores. One constant answer to everything can win (arXiv 2410.07137): what says so stands beside the score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from zephyr_bench.records import Answer, Question, SampleScore, Score

EMPTY, CUT, REPEATED = "empty-answer", "cut-answer", "repeated-answer"  # metrics of samples, only of the odd ones
EMPTY_ANSWERS, CUT_ANSWERS, REPEATED_ANSWERS = "empty-answers", "cut-answers", "repeated-answers"  # of scores
MOST_ALIKE = "most-alike-answers"  # the size of the largest set of answers with one text


def odd_answers(answered: Sequence[tuple[Question, Answer]]) -> Iterator[SampleScore]:
    """The value of a repeated answer is how many answers have its text.

    Where nobody tells how answers ended, as in files of others, a sample without a value and a question says so.
    """
    if answered and all(answer.finish_reason is None for _, answer in answered):
        yield SampleScore("", "", CUT, None)
    times = Counter(text for _, answer in answered if (text := (answer.text or "").strip()))
    for question, answer in answered:
        text = (answer.text or "").strip()
        odd = {EMPTY: 0.0 if text else 1.0, CUT: float(answer.finish_reason == "length"), REPEATED: 0.0}
        if times[text] > 1:
            odd[REPEATED] = float(times[text])
        for metric, value in odd.items():
            if value:
                yield SampleScore(question.id, question.category, metric, value, replicate=answer.replicate)


def counts(samples: Sequence[SampleScore], answers: int) -> list[Score]:
    """`answers` is how many there are in all. How many were cut is left out where it is not known."""
    odd = {metric: [s.value or 0.0 for s in samples if s.metric == metric] for metric in (EMPTY, CUT, REPEATED)}
    found = {
        EMPTY_ANSWERS: len(odd[EMPTY]),
        CUT_ANSWERS: len(odd[CUT]),
        REPEATED_ANSWERS: len(odd[REPEATED]),
        MOST_ALIKE: max(odd[REPEATED], default=min(answers, 1)),
    }
    if any(sample.metric == CUT and sample.value is None for sample in samples):
        del found[CUT_ANSWERS]
    return [Score(metric, float(count), None, answers) for metric, count in found.items()]
