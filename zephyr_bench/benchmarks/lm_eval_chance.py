"""Chance as lm-eval's own command has it when a task is run alone: some tasks draw from it, and so do scores.

IFEval's checks draw what a row leaves open (the letter to count, where '#' is asked for), GPQA shuffles its choices.
lm-eval seeds Python's and numpy's generators once a run, so that its numbers shift with the tasks run beside; here
each task starts anew, and neither the engine nor another task moves it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

# lm-eval's defaults: of Python's generator, of numpy's and of the few-shot order (lm_eval/defaults.py, 0.4.13)
RANDOM_SEED, NUMPY_SEED, FEWSHOT_SEED = 0, 1234, 1234
# between seeding and the checks it draws three names of eight letters, which it then doesn't use (api/task.py)
_NAMES_DRAWN, _LETTERS = 3, 8


@contextmanager
def lm_evals_chance() -> Iterator[None]:
    """Seeded as lm-eval seeds; ours is as before afterwards."""
    before = random.getstate(), np.random.get_state()
    random.seed(RANDOM_SEED)
    np.random.seed(NUMPY_SEED)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def draw_apart(task: Any) -> None:
    """Gives the checks of lm-eval's task object a course of chance of their own."""
    with lm_evals_chance():
        for _ in range(_NAMES_DRAWN * _LETTERS):
            random.random()
        task.process_results = _on_its_own_course(task.process_results, random.getstate())


def _on_its_own_course(check: Callable[..., Any], state: Any) -> Callable[..., Any]:
    def checked(*arguments: Any, **more: Any) -> Any:
        nonlocal state
        before = random.getstate()
        random.setstate(state)
        try:
            return check(*arguments, **more)
        finally:
            state = random.getstate()
            random.setstate(before)

    return checked


def repeatable_language_detection() -> None:
    """langdetect, which IFEval asks, draws from a generator of its own that lm-eval leaves unseeded."""
    try:
        from langdetect import DetectorFactory
    except ImportError:
        return
    DetectorFactory.seed = RANDOM_SEED
