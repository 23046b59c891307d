"""Pairs of runs whose truth is known: made up, and resampled from real judgments of ../shared/data.

A design is a function of (rng, questions) to values of base and candidate and their questions' numbers. With no change
both come of one and the same model; with a loss the candidate's true mean lies below the baseline's by just so much.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"  # beside the checkout

Floats = NDArray[np.float64]
Runs = tuple[Floats, Floats, NDArray[np.int64]]  # base, candidate, question of each
Design = Callable[[np.random.Generator, int], Runs]


def grades(rng: np.random.Generator, n: int) -> Runs:
    """Skewed grades of 1 to 10, two turns a question that rise and fall together; a quarter of them tie."""
    level = np.repeat(10 - rng.gamma(1.2, 1.8, n), 2)
    base, candidate = (np.clip(np.round(level + rng.normal(0, 1.2, 2 * n)), 1, 10) for _ in range(2))
    return base, candidate, np.repeat(np.arange(n), 2)


def ceiling(rng: np.random.Generator, n: int) -> Runs:
    """Nearly all full marks, and now and then a 1: most questions tie."""
    base, candidate = (np.where(rng.random(n) < 0.08, 1.0, 10.0) for _ in range(2))
    return base, candidate, np.arange(n)


def heavy(rng: np.random.Generator, n: int) -> Runs:
    """Most questions move by a hair, a few from end to end."""
    size = np.where(rng.random(n) < 0.1, 9.0, 0.5)
    change = size * rng.choice([-1.0, 0.0, 1.0], size=n)
    return np.zeros(n), change, np.arange(n)


def accuracies(rng: np.random.Generator, n: int) -> Runs:
    """Right or wrong, in per cent; one question in seven turns."""
    right = rng.random(n) < 0.7
    turned = rng.random((2, n)) < 0.08
    base, candidate = (100.0 * (right ^ turn) for turn in turned)
    return base, candidate, np.arange(n)


def preferences(rng: np.random.Generator, n: int) -> Runs:
    """A sure judge's win rates: near 0 or near 100, some draws."""
    wanted = rng.normal(-1.5, 2.5, n)
    base, candidate = (100 / (1 + np.exp(-3 * (wanted + rng.normal(0, 1.5, n)))) for _ in range(2))
    return np.round(base), np.round(candidate), np.arange(n)


UNCHANGED: dict[str, Design] = {f.__name__: f for f in (grades, ceiling, heavy, accuracies, preferences)}


def lost(design: Design, loss: float) -> Design:
    """The candidate worse by `loss` on average, spread over all questions."""

    def worse(rng: np.random.Generator, n: int) -> Runs:
        base, candidate, questions = design(rng, n)
        return base, candidate - loss, questions

    return worse


def broken(share: float, size: float, turned: float = 0.0) -> Design:
    """Each question worse by `size` with chance `share`, and of `turned` more one half better and one half worse."""

    def worse(rng: np.random.Generator, n: int) -> Runs:
        draw = rng.random(n)
        change = np.where(draw < share + turned / 2, -size, np.where(draw < share + turned, size, 0.0))
        return np.zeros(n), change, np.arange(n)

    return worse


@cache
def alpaca_preferences(name: str) -> dict[str, float]:
    """Win rates in per cent by instruction, as annotated by GPT-4."""
    path = REAL_DATA / "alpaca_eval" / f"{name}.annotations.json.gz"
    if not path.exists():
        pytest.skip(f"no {path}")
    found = {}
    for row in json.loads(gzip.decompress(path.read_bytes())):
        if (preference := row["preference"]) is not None:
            found[row["instruction"]] = 50.0 if preference == 0 else 100.0 * (preference - 1)
    return found


@cache
def mt_bench_grades(name: str) -> dict[str, dict[tuple[int, int], float]]:
    """GPT-4's grade by model, question and turn; the mean where an answer was judged twice."""
    path = REAL_DATA / "mt_bench" / f"{name}_gpt-4_single.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path}")
    grades: dict[str, dict[tuple[int, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in gzip.decompress(path.read_bytes()).splitlines():
        row = json.loads(line)
        if row["score"] >= 0:
            grades[row["model"]][row["question_id"], row["turn"]].append(row["score"])
    return {model: {key: float(np.mean(values)) for key, values in by_key.items()} for model, by_key in grades.items()}


@cache
def graded_twice() -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Two grades that the file holds of mistral-orpo, of other answers each: first ones, second ones, questions."""
    path = REAL_DATA / "mt_bench" / "orpo_gpt-4_single.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path}")
    grades: dict[tuple[int, int], list[float]] = defaultdict(list)
    for line in gzip.decompress(path.read_bytes()).splitlines():
        row = json.loads(line)
        if row["model"] == "mistral-orpo" and row["score"] >= 0:
            grades[row["question_id"], row["turn"]].append(row["score"])
    twice = {key: values for key, values in grades.items() if len(values) == 2}
    first, second = np.array(list(twice.values())).T
    return first, second, np.array([question for question, _ in twice])


def real_pairs() -> dict[str, tuple[Floats, float, float]]:
    """Difference by question, the scale's width and the benchmark's margin, of each two models judged alike."""
    found = {
        "zephyr-7b-alpha, phi-2": _paired(alpaca_preferences("v1_zephyr-7b-alpha"), alpaca_preferences("v1_phi-2")),
        "vicuna-7b, davinci-003": _paired(
            alpaca_preferences("v2_vicuna-7b"), alpaca_preferences("v2_text_davinci_003")
        ),
    }
    real = {name: (differences, 100.0, 1.0) for name, differences in found.items()}
    for file in ("orpo", "llama3"):
        models = mt_bench_grades(file)
        for first in models:
            for second in models:
                if first < second:
                    turns = _paired(models[first], models[second], by=lambda key: key[0])
                    real[f"{first}, {second}"] = (turns, 9.0, 0.1)
    return real


def _paired(one: dict, other: dict, by: Callable = lambda key: key) -> Floats:
    """Other - one, the mean of each question."""
    found: dict = defaultdict(list)
    for key in one:
        if key in other:
            found[by(key)].append(other[key] - one[key])
    return np.array([np.mean(values) for values in found.values()])


def resampled(differences: Floats) -> Design:
    """Real differences with no change left: each as likely to be the other way round, questions drawn anew."""

    def swapped(rng: np.random.Generator, n: int) -> Runs:
        change = rng.choice(differences, size=n) * rng.choice([-1.0, 1.0], size=n)
        return np.zeros(n), change, np.arange(n)

    return swapped


def tilted(differences: Floats, mean: float) -> Design:
    """Real differences with all their ties and skew, those that are worse drawn more often, until the mean is `mean`.

    Exponential tilting: of all distributions over these values with that mean the nearest to the real one.
    """
    away = differences - mean

    def weights(theta: float) -> Floats:
        raw = np.exp(theta * away - np.max(theta * away))
        return raw / raw.sum()

    reach = 200 / np.ptp(differences)
    theta = brentq(lambda theta: float(weights(theta) @ away), -reach, reach)

    def moved(rng: np.random.Generator, n: int) -> Runs:
        return np.zeros(n), rng.choice(differences, size=n, p=weights(theta)), np.arange(n)

    return moved
