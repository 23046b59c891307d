"""From AlpacaEval's samples to its metrics, each by alpaca_eval's definition (0.6.6, metrics/). Pure.

In: for each instruction the preference for the model in [0, 1], and the lengths of both answers in characters. Out:
rates in per cent, counts, lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zephyr_bench.benchmarks.answer_counts import counts, odd_answers
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.stats.gamed_rows import GamedRows
from zephyr_bench.stats.means import mean_stderr
from zephyr_bench.stats.win_rates import head_to_head

if TYPE_CHECKING:
    from zephyr_bench.benchmarks.one_order import Pair
    from zephyr_bench.benchmarks.pairing import PairVerdict
    from zephyr_bench.stats.length_control import LengthControlled

PREFERENCE, LENGTH, BASELINE_LENGTH = "preference", "length", "baseline-length"  # metrics of samples
OUTCOMES = ("wins", "losses", "draws")
LENGTH_CONTROLLED = "lc-win-rate"
_LENGTHS = (LENGTH, BASELINE_LENGTH)


@dataclass(frozen=True, eq=False)
class LengthControl:
    """Published difficulties, and the place of each instruction among them."""

    gamed: GamedRows
    places: Mapping[str, int]  # empty where the instructions are not at hand
    sha256: str  # of the file of difficulties


def pair_facts(pairs: Sequence[Pair]) -> Iterator[SampleScore]:
    """What is known of the answers before anybody judges them."""
    for pair in pairs:
        question = pair.question
        for metric, answer in ((LENGTH, pair.answer), (BASELINE_LENGTH, pair.baseline)):
            length = float(len(answer.text or ""))
            yield SampleScore(question.id, question.category, metric, length, replicate=pair.replicate)
    answered = {(pair.question.id, pair.answer.key): (pair.question, pair.answer) for pair in pairs}
    yield from odd_answers(list(answered.values()))


def preference_sample(pair: Pair, verdict: PairVerdict) -> SampleScore:
    question = pair.question
    return SampleScore(
        question.id, question.category, PREFERENCE, verdict.value, reason=verdict.reason, replicate=pair.replicate
    )


def alpaca_scores(samples: Sequence[SampleScore], control: LengthControl | None) -> list[Score]:
    """`avg-length` is in characters."""
    judged = [sample for sample in samples if sample.metric == PREFERENCE]
    lengths = [sample.value for sample in samples if sample.metric == LENGTH and sample.value is not None]
    found = head_to_head([sample.value for sample in judged])
    missing = len(judged) - found.n
    average, error = mean_stderr(lengths)
    return [
        Score("win-rate", found.win_rate_percent, found.stderr_percent, found.n, missing),
        *_length_controlled(samples, control),
        Score("discrete-win-rate", found.discrete_win_rate_percent, found.discrete_stderr_percent, found.n, missing),
        Score("avg-length", average, error, len(lengths)),
        *(
            Score(name, float(number), None, found.n, missing)
            for name, number in zip(OUTCOMES, (found.wins, found.losses, found.draws), strict=True)
        ),
        *counts(samples, len(lengths)),
    ]


def _length_controlled(samples: Sequence[SampleScore], control: LengthControl | None) -> list[Score]:
    """Without a value where a sample says why."""
    if control is None:
        told = any(sample.metric == LENGTH_CONTROLLED for sample in samples)
        return [Score(LENGTH_CONTROLLED, None, None, 0)] if told else []
    found, n = length_control(samples, control)
    missing = sum(sample.metric == PREFERENCE for sample in samples) - n
    return [Score(LENGTH_CONTROLLED, found.win_rate_percent, found.stderr_percent, n, missing)]


def length_control(samples: Sequence[SampleScore], control: LengthControl) -> tuple[LengthControlled, int]:
    """(what was found or why nothing, over how many instructions): those whose difficulty is known.

    One without a preference is left out of the fit alone.
    """
    from zephyr_bench.stats.length_control import length_controlled

    judged = [sample for sample in samples if sample.metric == PREFERENCE]
    lengths = {(s.metric, s.question, s.replicate): s.value or 0.0 for s in samples if s.metric in _LENGTHS}
    rows = [(control.places[s.question], s) for s in judged if s.question in control.places]
    rows.sort(key=lambda row: (row[0], row[1].replicate))  # alpaca_eval's order, which its folds hang on
    of = [(sample.question, sample.replicate) for _, sample in rows]
    found = length_controlled(
        [sample.value for _, sample in rows],
        [lengths[BASELINE_LENGTH, *key] - lengths[LENGTH, *key] for key in of],
        difficulties=control.gamed.difficulties[[place for place, _ in rows]],
        gamed=control.gamed,
    )
    return found, len(rows)
