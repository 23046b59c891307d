from __future__ import annotations

import numpy as np
import pytest

from zephyr_bench.stats.components import Components, Grade, Source, difference_components
from zephyr_bench.stats.paired import paired_difference


def grades(
    rng: np.random.Generator,
    *,
    questions: int = 400,
    answers: int = 1,
    judged: int = 1,
    seeds: int = 1,
    spreads: tuple[float, float, float, float],
    own: bool = True,
) -> list[Grade]:
    """Spreads (standard deviations) of questions, sampling, judge and seeds."""
    of_question, sampling, judge, of_seed = spreads
    seed_shift = rng.normal(0, of_seed, seeds)
    return [
        Grade(level + seed_shift[s] + answer + rng.normal(0, judge), q, answer=a, seed=s)
        for q, level in enumerate(rng.normal(6, of_question, questions) if own else [6.0] * questions)
        for s in range(seeds)
        for a in range(answers)
        for answer in [rng.normal(0, sampling)]
        for _ in range(judged)
    ]


def part(found: Components, *sources: Source) -> float:
    return next(component.stderr for component in found.parts if component.sources == sources)


def test_each_source_gets_the_part_that_it_was_made_with() -> None:
    rng = np.random.default_rng(0)
    spreads = (1.0, 2.0, 1.5, 0.0)
    found = difference_components(*(grades(rng, answers=3, judged=2, spreads=spreads) for _ in range(2)))
    assert found is not None
    assert part(found, Source.JUDGE) == pytest.approx((2 * 1.5**2 / 6 / 400) ** 0.5, rel=0.05)
    assert part(found, Source.SAMPLING) == pytest.approx((2 * 2.0**2 / 3 / 400) ** 0.5, rel=0.08)
    assert part(found, Source.QUESTIONS) == pytest.approx((2 * 1.0**2 / 400) ** 0.5, rel=0.25)
    assert not found.seeds_known


def test_estimates_are_unbiased_where_repeats_are_uneven() -> None:
    """200 designs of 30 questions with one to three answers, each judged once or twice."""
    rng, seen = np.random.default_rng(1), []
    for _ in range(200):
        sides = []
        for _ in range(2):
            side = []
            for q in range(30):
                level = rng.normal(0, 1)
                for a in range(rng.integers(1, 4)):
                    answer = level + rng.normal(0, 1.5)
                    side += [Grade(answer + rng.normal(0, 1), q, answer=a) for _ in range(rng.integers(1, 3))]
            sides.append(side)
        found = difference_components(*sides)
        assert found is not None
        weight = sum(
            1 / (len(kinds) * 30) ** 2 * len(kinds)
            for side in sides
            for q in range(30)
            for kinds in [{g.answer for g in side if g.question == q}]
        )
        seen.append(part(found, Source.SAMPLING) ** 2 / weight)
    assert np.mean(seen) == pytest.approx(1.5**2, rel=0.1)


def test_parts_add_up_and_the_whole_is_the_paired_error() -> None:
    rng = np.random.default_rng(2)
    base, candidate = (grades(rng, questions=20, judged=3, spreads=(1, 1, 1, 0)) for _ in range(2))
    found = difference_components(base, candidate)
    assert found is not None
    assert sum(c.stderr**2 for c in found.parts) == pytest.approx(found.stderr**2)
    assert sum(c.share for c in found.parts) == pytest.approx(1)
    means = [
        [float(np.mean([g.value for g in side if g.question == q])) for q in range(20)] for side in (base, candidate)
    ]
    plain = paired_difference(*means)
    assert found.stderr == pytest.approx(plain.stderr)
    assert found.detectable == pytest.approx(plain.detectable)


@pytest.mark.parametrize(
    ("answers", "judged", "expected"),
    [
        (1, 1, {(Source.QUESTIONS, Source.SAMPLING, Source.JUDGE)}),
        (1, 2, {(Source.JUDGE,), (Source.QUESTIONS, Source.SAMPLING)}),
        (2, 1, {(Source.SAMPLING, Source.JUDGE), (Source.QUESTIONS,)}),
        (2, 2, {(Source.JUDGE,), (Source.SAMPLING,), (Source.QUESTIONS,)}),
    ],
)
def test_what_was_not_repeated_is_not_told_apart(answers: int, judged: int, expected: set[tuple[Source, ...]]) -> None:
    rng = np.random.default_rng(3)
    sides = [grades(rng, questions=30, answers=answers, judged=judged, spreads=(1, 1, 1, 0)) for _ in range(2)]
    found = difference_components(*sides)
    assert found is not None
    assert {component.sources for component in found.parts} == expected


def test_training_seeds_add_what_questions_do_not_show() -> None:
    rng, seen = np.random.default_rng(4), []
    for _ in range(40):
        sides = [grades(rng, questions=60, seeds=4, spreads=(1, 1, 0, 0.5)) for _ in range(2)]
        found = difference_components(*sides)
        assert found is not None
        assert found.seeds_known
        seen.append(part(found, Source.SEEDS) ** 2)
    assert np.mean(seen) == pytest.approx(2 * 0.5**2 / 4, rel=0.25)


def test_without_its_largest_part_a_smaller_difference_is_seen() -> None:
    rng = np.random.default_rng(5)
    found = difference_components(*(grades(rng, judged=2, spreads=(0.2, 0.2, 2.0, 0.0)) for _ in range(2)))
    assert found is not None
    assert found.parts[0].sources == (Source.JUDGE,)
    assert found.parts[0].detectable_without < 0.5 * found.detectable


def test_the_turns_of_a_question_count_together() -> None:
    base = [Grade(float(q), q, turn) for q in range(6) for turn in (1, 2)]
    candidate = [Grade(q + (0.5 if q % 2 else 1.5), q, turn) for q in range(6) for turn in (1, 2)]
    found = difference_components(base, candidate)
    assert found is not None
    assert found.degrees == 5


def test_nothing_shared_or_one_question_gives_no_parts() -> None:
    assert difference_components([], []) is None
    assert difference_components([Grade(1.0, "a")], [Grade(2.0, "a")]) is None
