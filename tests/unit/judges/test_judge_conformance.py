from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from servers import fake_openai

from zephyr_bench.judges import JudgeOptions, open_judge
from zephyr_bench.testing.judges import CHECKS, pair, single

CONTAINS = [{"check": "contains", "any": ["Paris"]}]
MATCHES = [
    single("Name the capital of France.", "Paris.", checks=CONTAINS),
    single("Name the capital of France.", "", checks=CONTAINS),
    single("Name a city.", "Rome"),
    pair("Name the capital of France.", "Paris.", "Rome.", checks=CONTAINS),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_rubric_conforms(check: Callable[..., Any]) -> None:
    check(lambda: open_judge("rubric"), MATCHES)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_openai_conforms(check: Callable[..., Any]) -> None:
    replies = {"single": "Good. Rating: [[7]]", "pair": "Better. [[A]]"}

    def reply(body: dict[str, Any]) -> str:
        return replies["pair" if "Assistant B" in body["messages"][1]["content"] else "single"]

    with fake_openai(reply) as server:
        check(lambda: open_judge("gpt-4", options=JudgeOptions(base_url=server.url)), MATCHES)
