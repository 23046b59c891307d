"""lm-eval's generative tasks by a model that a server runs: messages, no text; each answer asked for once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval_data import IFEVAL, write_data
from servers import FakeOpenAi, fake_openai
from typer.testing import CliRunner

from zephyr_bench.cli import app
from zephyr_bench.engines import calls
from zephyr_bench.errors import MissingParts
from zephyr_bench.store import Store

pytest.importorskip("langdetect")
pytest.importorskip("immutabledict")

ANSWERS = {
    "Write about the sea. No commas.": "The sea is wide and blue.",
    "Shout at least two words.": "HELLO there, only once.",
    "Give a title in double angular brackets.": "<<Waves>>\nThe sea.",
    "Reply in German only.": "Das Meer ist heute sehr ruhig und blau.",
}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_FIRST_WAIT", 0.001)


def reply(body: dict[str, Any]) -> str:
    return ANSWERS.get(body["messages"][-1]["content"], "green GREEN, and no more")


def run(server: FakeOpenAi, folder: Path, *more: str) -> Any:
    data = folder / "data"
    if not data.exists():
        write_data(data)
    words = ["open-llm", "--model", "served", "--engine", "openai", "--base-url", server.url, "--data", str(data)]
    return CliRunner().invoke(app, [*words, "--store", f"sqlite:///{folder}/s.db", "--format", "json", *more])


def values(done: Any) -> dict[str, float]:
    assert done.exit_code == 0, (done.output, done.exception)
    return {row["metric"]: row["value"] for row in json.loads(done.stdout)}


def test_ifeval_is_asked_as_chats_and_counts_what_was_followed(tmp_path: Path) -> None:
    with fake_openai(reply) as server:
        found = values(run(server, tmp_path, "--version", "2", "--tasks", "leaderboard_ifeval"))
    assert [body["messages"] for body in sorted(server.requests, key=str)] == sorted(
        ([{"role": "user", "content": prompt}] for prompt, _ in IFEVAL), key=str
    )
    assert {(body["max_tokens"], body["temperature"]) for body in server.requests} == {(1280, 0.0)}
    # followed whole: the first and the last two of six prompts; of nine instructions these and 'green' twice
    assert found["leaderboard_ifeval"] == pytest.approx(100 * (3 / 6 + 4 / 9) / 2)


def test_a_broken_run_goes_on_without_asking_again(tmp_path: Path) -> None:
    asked: list[str] = []

    def broken(body: dict[str, Any]) -> str | int:
        asked.append(body["messages"][-1]["content"])
        return reply(body) if len(set(asked)) < 4 else 400

    with fake_openai(broken) as server:
        assert run(server, tmp_path, "--tasks", "ifeval", "--concurrency", "1").exit_code != 0
        with Store(f"sqlite:///{tmp_path}/s.db") as store:
            kept = {answer.question for answer in store.answers_of(store.runs()[0].id)}
        assert kept
        server.reply = reply
        before = len(server.requests)
        first = values(run(server, tmp_path, "--tasks", "ifeval"))
        assert len(server.requests) - before == len(IFEVAL) - len(kept)
        assert values(run(server, tmp_path, "--tasks", "ifeval")) == first
        assert len(server.requests) - before == len(IFEVAL) - len(kept)


def test_few_shots_are_turns_of_the_chat(tmp_path: Path) -> None:
    with fake_openai("There are 40 books.\n#### 40") as server:
        found = values(run(server, tmp_path, "--tasks", "gsm8k"))
        (chat,) = {len(body["messages"]) for body in server.requests}
        messages = server.requests[0]["messages"]
    assert chat == 11
    assert [message["role"] for message in messages] == ["user", "assistant"] * 5 + ["user"]
    assert messages[-1]["content"].startswith("Question: A shelf holds")
    assert found["gsm8k"] == 25.0, "10 + 30 are 40; the others are not"
    assert "gsm8k: exact_match,flexible-extract" not in found, "version 1 declares one metric"


def test_tasks_that_read_log_probabilities_are_told_before_any_work(tmp_path: Path) -> None:
    with fake_openai(reply) as server:
        done = run(server, tmp_path, "--tasks", "ifeval,arc_challenge,hellaswag")
    assert isinstance(done.exception, MissingParts)
    (told,) = [part for part in done.exception.parts if "log-probabilities" in part]
    assert told.startswith("arc_challenge, hellaswag read log-probabilities")
    assert "--tasks ifeval" in told
    assert server.requests == []
    assert not (tmp_path / "s.db").exists()


def test_a_served_model_has_no_prompts_but_chats(tmp_path: Path) -> None:
    with fake_openai(reply) as server:
        done = run(server, tmp_path, "--tasks", "ifeval", "--no-chat-template")
    assert isinstance(done.exception, MissingParts)
    assert "leave out --no-chat-template" in str(done.exception)
