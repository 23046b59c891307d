from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from servers import FakeOpenAi, Reply, fake_openai

from zephyr_bench.engines import calls
from zephyr_bench.errors import JudgeUnavailable, UserError
from zephyr_bench.judges import Judge, JudgeOptions, open_judge
from zephyr_bench.testing.judges import CHECKS, pair, single

MATCHES = [single(f"Question {number}?", "An answer.") for number in range(4)]


def judge_at(server: FakeOpenAi) -> Judge:
    return open_judge("claude", options=JudgeOptions(base_url=server.url.removesuffix("/v1")))


def test_a_rating_comes_with_its_reply_tokens_and_cost() -> None:
    with fake_openai("Fine. Rating: [[8]]") as server:
        (judgment,) = judge_at(server).grade(MATCHES[:1])
    assert (judgment.score, judgment.reply, judgment.prompt) == (8, "Fine. Rating: [[8]]", "single-v1")
    assert (judgment.input_tokens, judgment.output_tokens) == (100, 10)
    assert judgment.cost_usd == pytest.approx((100 * 3 + 10 * 15) / 1e6)
    (body,) = server.requests
    assert [message["role"] for message in body["messages"]] == ["user"]
    assert "assistant" in body["system"], "the system prompt has a place of its own"
    assert (body["temperature"], body["max_tokens"]) == (0, 2048)


@pytest.mark.parametrize(
    ("fault", "error", "told"),
    [
        (401, UserError, r"the key was refused \(401\); put a valid one into ANTHROPIC_API_KEY"),
        (404, UserError, r"model 'claude-sonnet-4-5' or the address is not known there \(404\)"),
        (529, JudgeUnavailable, "answered 529 after 7 tries"),
        (400, JudgeUnavailable, r"refused a request \(400\)"),
        (None, JudgeUnavailable, "can't be reached"),
    ],
)
def test_faults_mean_what_they_mean_elsewhere(
    monkeypatch: pytest.MonkeyPatch, fault: Reply, error: type[Exception], told: str
) -> None:
    monkeypatch.setattr(calls, "_FIRST_WAIT", 0.001)
    with fake_openai(fault) as server, pytest.raises(error, match=told):
        list(judge_at(server).grade(MATCHES[:1]))


def test_a_key_and_the_package_are_named_where_they_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    (told,) = open_judge("claude").missing()
    assert "set ANTHROPIC_API_KEY" in told


def test_probabilities_are_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-x")
    path = tmp_path / "blind.yaml"
    path.write_text(
        "kind: anthropic\ndescription: x\nmodel: m\ntemplates:\n  single: {template: '{answer}', pattern: '(\\d)', "
        "lowest: 1, highest: 9, expected: true}\n"
    )
    (told,) = open_judge(str(path)).missing()
    assert "this API tells none" in told


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(check: Any) -> None:
    def reply(body: dict[str, Any]) -> str:
        return "[[A]]" if "Assistant B" in body["messages"][0]["content"] else "[[7]]"

    with fake_openai(reply) as server:
        check(lambda: judge_at(server), [*MATCHES, pair("Name the capital of France.", "Paris.", "Rome.")])
