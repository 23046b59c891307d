"""Pairs judged in both orders: FastChat's rules for ties, inconsistent orders and unread verdicts."""

from __future__ import annotations

import pytest

from zephyr_bench.benchmarks.pairing import PairVerdict, exchanged, of_both, pair_samples, pair_scores
from zephyr_bench.records import Judgment, SampleScore
from zephyr_bench.testing.judges import pair


def judged(score: float | None) -> Judgment:
    return Judgment("key", "gpt-4", score, None if score is not None else "no verdict in the reply")


@pytest.mark.parametrize(
    ("as_given", "places_exchanged", "value", "consistent"),
    [
        (1, 0, 1, 1),
        (0, 1, 0, 1),
        (0.5, 0.5, 0.5, 1),
        (1, 1, 0.5, 0),  # always the first place
        (0, 0, 0.5, 0),
        (1, 0.5, 0.5, 0),
        (0.5, 0, 0.5, 0),
    ],
)
def test_a_preference_that_changes_with_the_order_is_a_tie(
    as_given: float, places_exchanged: float, value: float, consistent: float
) -> None:
    assert of_both(judged(as_given), judged(places_exchanged)) == PairVerdict(value, consistent)


def test_a_pair_with_an_unread_verdict_has_none_and_says_why() -> None:
    for first, second in ((None, 0), (1, None), (None, None)):
        assert of_both(judged(first), judged(second)) == PairVerdict(None, None, "no verdict in the reply")


def test_exchanging_places_twice_gives_the_pair_back() -> None:
    match = pair("Q?", "one", "two")
    assert exchanged(match).answers == match.rival
    assert exchanged(exchanged(match)) == match
    assert exchanged(match).key("judge") != match.key("judge")


def test_rates_are_fastchats_in_per_cent() -> None:
    match = pair("Q?", "one", "two")
    values = [1.0, 1.0, 0.5, 0.0, None]
    samples = [
        sample
        for number, value in enumerate(values)
        for sample in (
            SampleScore(f"q{number}", "math", "verdict", value, 1, None, "base"),
            SampleScore(f"q{number}", "math", "consistent", None if value is None else 1.0, 1, None, "base"),
        )
    ]
    scores = {score.metric: score for score in pair_scores(samples)}
    assert scores["win-rate-adjusted"].value == 62.5
    assert (scores["win-rate"].value, scores["loss-rate"].value, scores["tie-rate"].value) == (50, 25, 25)
    assert (scores["win-rate"].n, scores["win-rate"].missing) == (4, 1)
    assert scores["consistency"].value == 100
    assert "against base" not in scores, "one rival needs no figure of its own"
    (verdict, consistent) = pair_samples(match, PairVerdict(0.5, 0.0), rival="base")
    assert (verdict.value, consistent.value, verdict.rival) == (0.5, 0.0, "base")


def test_several_rivals_have_a_figure_each() -> None:
    samples = [
        SampleScore(f"q{number}", "math", "verdict", value, 1, None, rival)
        for rival, values in {"strong": (0.0, 0.0), "weak": (1.0, 0.5)}.items()
        for number, value in enumerate(values)
    ]
    scores = {score.metric: score.value for score in pair_scores(samples)}
    assert (scores["against strong"], scores["against weak"], scores["win-rate-adjusted"]) == (0, 75, 37.5)
