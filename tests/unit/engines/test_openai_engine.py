"""A model behind a server takes the benchmarks like a local one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from servers import FakeOpenAi, Reply, fake_openai
from typer.testing import CliRunner

from zephyr_bench.cli import app
from zephyr_bench.engines import calls, open_engine
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import ServiceError, UserError
from zephyr_bench.records import GenerationRequest, Sampling
from zephyr_bench.store import Store


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_FIRST_WAIT", 0.001)


def asked(number: int, **sampling: Any) -> GenerationRequest:
    return GenerationRequest(str(number), ({"role": "user", "content": f"Question {number}?"},), Sampling(**sampling))


def engine_at(server: FakeOpenAi, **options: Any) -> Any:
    return open_engine("served", EngineOptions(engine="openai", base_url=server.url, **options))


def run(server: FakeOpenAi, store: Path, command: str, *more: str) -> Any:
    words = [command, "--model", "served", "--engine", "openai", "--base-url", server.url, "--limit", "3"]
    words += ["--store", f"sqlite:///{store}", "--format", "json", *more]
    return CliRunner().invoke(app, words)


def test_two_turns_are_asked_in_the_models_own_context(tmp_path: Path) -> None:
    def reply(body: dict[str, Any]) -> str:
        return f"answer to {len(body['messages'])} messages"

    with fake_openai(reply) as server:
        done = run(server, tmp_path / "s.db", "mtbench", "--benchmark", "mt-bench-mini")
        assert done.exit_code == 0, done.output
        second = [body["messages"] for body in server.requests if len(body["messages"]) == 3]
        assert len(server.requests) == 6
        assert [message["content"] for message in (chat[1] for chat in second)] == ["answer to 1 messages"] * 3
        assert run(server, tmp_path / "s.db", "mtbench", "--benchmark", "mt-bench-mini").exit_code == 0
        assert len(server.requests) == 6, "stored answers are not asked for again"
    with Store(f"sqlite:///{tmp_path}/s.db") as store:
        answers = store.answers_of(store.runs()[0].id)
    assert {(answer.model, answer.prompt_tokens, answer.completion_tokens) for answer in answers} == {
        ("served", 100, 10)
    }
    assert json.loads(done.stdout)[0]["model"] == "served"


def test_alpaca_eval_takes_it_too(tmp_path: Path) -> None:
    with fake_openai("An answer.") as server:
        done = run(server, tmp_path / "s.db", "alpaca-eval", "--benchmark", "alpaca-eval-mini")
    assert done.exit_code == 0, done.output
    assert {row["metric"]: row["value"] for row in json.loads(done.stdout)}["avg-length"] == 10


def test_open_llm_needs_an_engine_that_scores(tmp_path: Path) -> None:
    with fake_openai("x") as server:
        done = CliRunner().invoke(app, ["open-llm", "--model", "served", "--engine", "openai"])
        assert isinstance(done.exception, UserError)
        assert not server.requests


def test_what_is_sent_is_the_sampling_and_nothing_that_servers_may_refuse() -> None:
    with fake_openai("x") as server:
        engine = engine_at(server)
        list(engine.generate([asked(1, max_new_tokens=9)]))
        list(engine.generate([asked(2, temperature=0.7, top_p=0.9, seed=5, stop=("END",))]))
    greedy, drawn = server.requests
    assert set(greedy) == {"model", "messages", "temperature", "max_tokens"}
    assert (greedy["temperature"], greedy["max_tokens"]) == (0, 9)
    assert (drawn["temperature"], drawn["top_p"], drawn["seed"], drawn["stop"]) == (0.7, 0.9, 5, ["END"])


def test_probabilities_come_where_they_are_asked_for() -> None:
    told = {"content": [{"token": "7", "logprob": -0.1, "top_logprobs": [{"token": "7", "logprob": -0.1}]}]}
    choice = {"message": {"role": "assistant", "content": "7"}, "logprobs": told, "finish_reason": "length"}
    with fake_openai(lambda _: choice) as server:
        request = GenerationRequest("k", asked(1).messages, Sampling(max_new_tokens=1), top_logprobs=5)
        (found,) = engine_at(server).generate([request])
    assert server.requests[0]["top_logprobs"] == 5
    assert (found.text, found.finish_reason) == ("7", "length")
    assert (found.tokens[0].text, dict(found.tokens[0].alternatives)) == ("7", {"7": -0.1})


def test_a_failure_says_which_model_and_server() -> None:
    def fails(body: dict[str, Any]) -> Reply:
        return 500 if "Question 2?" in body["messages"][0]["content"] else "x"

    taken = []
    with fake_openai(fails) as server:
        results = engine_at(server, concurrency=1).generate(asked(number) for number in range(4))
        with pytest.raises(ServiceError, match=r"model served at http://127\..*/v1 answered 500 after 7 tries"):
            taken += (result.key for result in results)
    assert taken == ["0", "1", "3"], "what is under way or may begin goes on while a call waits for its next try"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"engine": "openai"}, "--engine openai: say where model served is served, by --base-url"),
        ({"engine": "openai", "base_url": "http://u:secret@h/v1"}, "expected a URL without a password"),
        ({"engine": "transformers", "base_url": "http://h/v1"}, "asks no server; add --engine openai"),
    ],
)
def test_a_wrong_url_is_told_without_its_password(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as caught:
        open_engine("served", EngineOptions(**options))
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_key_is_needed_beyond_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    options = EngineOptions(engine="openai", base_url="https://h.example/v1", api_key_env="MY_KEY")
    engine: Any = open_engine("served", options)
    assert engine.missing() == ["an API key for model served: set MY_KEY, or name another server by --base-url"]


def test_a_dry_run_asks_nothing(tmp_path: Path) -> None:
    with fake_openai("x") as server:
        words = ["--judge", "gpt-4", "--judge-url", server.url, "--dry-run"]
        done = run(server, tmp_path / "s.db", "mtbench", "--benchmark", "mt-bench-mini", *words)
        assert not server.requests
    told = json.loads(done.stdout)
    assert (told["answers"], told["judgments"], told["judge"]) == (6, 6, "gpt-4")
    assert told["judge_cost_usd_about"] > 0
    assert not (tmp_path / "s.db").exists()
