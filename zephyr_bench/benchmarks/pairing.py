"""Two answers compared in both orders: who stands first must not decide.

In: matches of two answers. Out: a verdict for each, made of the judge's two. The rules are FastChat's (0.2.36,
llm_judge/show_result.py): a preference that changes with the order is a tie, a pair with an unread verdict is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zephyr_bench.benchmarks.grading import grade, judge_of
from zephyr_bench.benchmarks.protocol import Given, Job
from zephyr_bench.records import Judgment, Match, SampleScore, Score
from zephyr_bench.stats.means import clustered_mean

VERDICT = "verdict"  # metric of samples: 1 the model's answer won, 0.5 tie, 0 lost
CONSISTENT = "consistent"  # likewise: 1 where both orders gave one verdict, else 0


@dataclass(frozen=True)
class PairVerdict:
    """What came of a pair. `value` is the preference for the match's `answers`: 1, 0.5, 0; None without a verdict."""

    value: float | None
    consistent: float | None
    reason: str | None = None


def of_both(first: Judgment, second: Judgment) -> PairVerdict:
    """`first` judged the pair as it is, `second` with the places exchanged."""
    if first.score is None or second.score is None:
        return PairVerdict(None, None, first.reason or second.reason)
    one, other = first.score, 1 - second.score  # both for the same answer
    if {one, other} <= {0.0, 0.5, 1.0}:
        return PairVerdict(one if one == other else 0.5, float(one == other))
    same = (one > 0.5) == (other > 0.5) and (one < 0.5) == (other < 0.5)  # probabilities
    return PairVerdict((one + other) / 2, float(same))


def exchanged(match: Match) -> Match:
    """The same pair with the places exchanged."""
    if match.rival is None:
        raise ValueError("a match of one answer has no places to exchange")
    return replace(match, answers=match.rival, rival=match.answers)


def pair_protocol(rivals: Sequence[str], *, everybody: bool) -> dict[str, Any]:
    """What a run's protocol says of its rivals. Where all met all, each model's are others, and the figures compare."""
    return {"rivals": ["all"]} if everybody else {"rivals": sorted(rivals)}


def grade_pairs(job: Job, matches: Sequence[Match]) -> Iterator[tuple[Match, PairVerdict]]:
    """(match, verdict) of each pair once both orders are judged; each judgment is stored as it is made."""
    judge = judge_of(job)
    turned = [exchanged(match) for match in matches]
    keys = [tuple(m.key(judge.fingerprint) for m in both) for both in zip(matches, turned, strict=True)]
    concerned: dict[str, dict[int, None]] = {}  # key of a judgment -> numbers of the pairs that it is of
    for number, both in enumerate(keys):
        for key in both:
            concerned.setdefault(key, {})[number] = None
    judged: dict[str, Judgment] = {}
    for _, judgment in grade(job, [ordered for both in zip(matches, turned, strict=True) for ordered in both]):
        if judgment.key in judged:  # of another pair with the same texts
            continue
        judged[judgment.key] = judgment
        for number in concerned[judgment.key]:
            first, second = keys[number]
            if first in judged and second in judged:
                yield matches[number], of_both(judged[first], judged[second])


def once_each(given: Given) -> list[Match]:
    """Of a stored run's pairs, which were judged in both orders, the order with its own model first."""
    return [match for match in given.matches if match.rival is not None and match.answers[0].model == given.model]


def rival_name(match: Match) -> str:
    return match.rival[0].model if match.rival else ""


def pair_samples(match: Match, verdict: PairVerdict, *, rival: str) -> list[SampleScore]:
    """What a pair adds to a run: its verdict, and whether both orders agreed."""
    question = match.question
    sample = SampleScore(
        question.id, question.category, VERDICT, verdict.value, match.turn, verdict.reason, rival, match.replicate
    )
    return [sample, replace(sample, metric=CONSISTENT, value=verdict.consistent)]


def pair_scores(samples: Sequence[SampleScore]) -> list[Score]:
    """FastChat's rates in per cent, and the adjusted win rate of each turn, category and (of several) rival.

    `win-rate-adjusted` counts a tie as half a win; `consistency` is the share of pairs whose verdict did not
    change with the order. Errors are clustered by question.
    """
    verdicts = [sample for sample in samples if sample.metric == VERDICT]
    scores = [
        _rate("win-rate-adjusted", verdicts, win=1.0, tie=0.5, loss=0.0),
        _rate("win-rate", verdicts, win=1.0, tie=0.0, loss=0.0),
        _rate("loss-rate", verdicts, win=0.0, tie=0.0, loss=1.0),
        _rate("tie-rate", verdicts, win=0.0, tie=1.0, loss=0.0),
        _mean_percent("consistency", [sample for sample in samples if sample.metric == CONSISTENT]),
    ]
    parts: dict[str, list[SampleScore]] = {}
    for turn in sorted({sample.turn for sample in verdicts}):
        parts[f"turn-{turn}"] = [sample for sample in verdicts if sample.turn == turn]
    for category in sorted({sample.category for sample in verdicts}):
        parts[category] = [sample for sample in verdicts if sample.category == category]
    rivals = sorted({sample.rival for sample in verdicts})
    for rival in rivals if len(rivals) > 1 else ():
        parts[f"against {rival}"] = [sample for sample in verdicts if sample.rival == rival]
    return scores + [_mean_percent(metric, part) for metric, part in parts.items()]


def _rate(metric: str, verdicts: Sequence[SampleScore], *, win: float, tie: float, loss: float) -> Score:
    def worth(preference: float) -> float:
        return win if preference > 0.5 else loss if preference < 0.5 else tie

    return _mean_percent(metric, [replace(v, value=None if v.value is None else worth(v.value)) for v in verdicts])


def _mean_percent(metric: str, samples: Sequence[SampleScore]) -> Score:
    known = [(100 * sample.value, sample.question) for sample in samples if sample.value is not None]
    mean, stderr = clustered_mean([value for value, _ in known], [question for _, question in known])
    return Score(metric, mean, stderr, len(known), len(samples) - len(known))
