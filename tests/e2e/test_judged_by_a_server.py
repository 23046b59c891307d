"""MT-Bench judged by an OpenAI-compatible server: whole, broken off, and resumed; through the command line."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import fake_openai

from zephyr_bench import catalogue
from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.evaluate import evaluate
from zephyr_bench.engines.locate import locate
from zephyr_bench.engines.protocol import FollowUp, ModelSource
from zephyr_bench.judges import JudgeOptions, open_judge
from zephyr_bench.progress import Progress
from zephyr_bench.records import Generation, GenerationRequest
from zephyr_bench.store import Store

COMMAND = str(Path(sys.executable).with_name("zephyr-bench"))
GRADES = {"math": 3, "coding": 4, "reasoning": 5, "writing": 9}  # others: 7


class Recorded:
    """Plays recorded answers back, under a model's name."""

    def __init__(self, model: ModelSource) -> None:
        self.model = model
        self.fingerprint = "sha256:recorded"
        self.asked: list[GenerationRequest] = []

    def generate(self, requests: Iterable[GenerationRequest], *, then: FollowUp | None = None) -> Iterator[Generation]:
        for request in requests:
            self.asked.append(request)
            text = f"Recorded answer to: {request.messages[-1]['content'][:60]}"
            result = Generation(request.key, text, "stop", 10, 12)
            yield result
            if then is not None:
                yield from self.generate(then(result), then=then)

    def close(self) -> None:
        pass


@pytest.fixture
def judge_file(tmp_path: Path) -> Path:
    """The catalogue's gpt-4 without its patience."""
    text = catalogue.find("judge", "gpt-4").read_text()
    path = tmp_path / "quick.yaml"
    path.write_text(text + "max_retries: 0\ntimeout_seconds: 20\n")
    return path


def test_the_real_mt_bench_over_recorded_answers(model_dir: Path, judge_file: Path, tmp_path: Path) -> None:
    benchmark = open_benchmark("mt-bench")
    categories = {question.turns[0]: question.category for question in benchmark.questions}  # type: ignore[attr-defined]

    def reply(body: dict[str, Any]) -> str:
        prompt = body["messages"][1]["content"]
        (category,) = {category for asked, category in categories.items() if asked in prompt}
        return f"Rating: [[{GRADES.get(category, 7)}]]"

    engine = Recorded(locate(str(model_dir)))
    with fake_openai(reply) as server, Store(f"sqlite:///{tmp_path}/store.db") as store:
        judge = open_judge(str(judge_file), options=JudgeOptions(base_url=server.url))
        outcome = evaluate(benchmark, engine, judge=judge, store=store, progress=Progress(quiet=True))
        again = evaluate(benchmark, engine, judge=judge, store=store, progress=Progress(quiet=True))
    scores = {score.metric: score for score in outcome.scores}
    assert (len(server.requests), len(engine.asked)) == (160, 160), "a second run asks and pays nothing"
    assert again.scores == outcome.scores
    assert scores["score"].value == pytest.approx((3 + 4 + 5 + 9 + 4 * 7) / 8)
    assert (scores["score"].n, scores["turn-1"].n, scores["math"].value) == (160, 80, 3)
    temperatures = {request.sampling.temperature for request in engine.asked}
    assert temperatures == {0.0, 0.1, 0.7}
    assert {request.sampling.max_new_tokens for request in engine.asked} == {1024}
    second = [request for request in engine.asked if len(request.messages) == 3]
    assert len(second) == 80
    assert all(request.messages[1]["content"].startswith("Recorded answer to:") for request in second)


def mtbench(model: Path, judge: Path, url: str, store: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = ["mtbench", "--model", str(model), "--benchmark", "mt-bench-mini", "--limit", "2", "--format", "json"]
    words += ["--judge", str(judge), "--base-url", url, "--store", f"sqlite:///{store}", *more]
    return subprocess.run([COMMAND, *words], capture_output=True, text=True, timeout=120, check=False)


def statuses(store: Path) -> list[str]:
    with sqlite3.connect(store) as connection:
        return [status for (status,) in connection.execute("select status from runs order by number")]


@pytest.mark.parametrize(
    ("fault", "code", "told", "status"),
    [
        (401, 2, "the key was refused (401)", "failed"),
        pytest.param(404, 2, "is not known there (404)", "failed", marks=pytest.mark.slow),
        pytest.param(429, 4, "answered 429", "incomplete", marks=pytest.mark.slow),
        (500, 4, "answered 500", "incomplete"),
        (None, 4, "can't be reached", "incomplete"),
    ],
)
def test_a_server_that_fails_is_one_sentence_and_what_was_done_stays(
    fault: int | None, code: int, told: str, status: str, model_dir: Path, judge_file: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store.db"
    with fake_openai(fault) as server:
        broken = mtbench(model_dir, judge_file, server.url, store)
    assert (broken.returncode, broken.stdout) == (code, "")
    assert told in broken.stderr
    assert "Traceback" not in broken.stderr
    assert broken.stderr.strip().count("\n") == 0
    assert statuses(store) == [status]
    with sqlite3.connect(store) as connection:
        assert connection.execute("select count(*) from answers").fetchone() == (4,)


def test_judging_that_broke_off_is_completed_without_paying_twice(
    model_dir: Path, judge_file: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store.db"
    replies = iter(["[[8]]", "[[6]]"])
    with fake_openai(lambda _: next(replies, 500)) as server:
        port = int(server.url.split(":")[2].split("/")[0])
        assert mtbench(model_dir, judge_file, server.url, store).returncode == 4
    with sqlite3.connect(store) as connection:
        (paid,) = connection.execute("select count(*) from judgments").fetchone()
    assert paid >= 1
    with fake_openai("[[6]]", port=port) as server:
        whole = mtbench(model_dir, judge_file, server.url, store)
    assert whole.returncode == 0, whole.stderr
    assert len(server.requests) == 4 - paid
    score = json.loads(whole.stdout)[0]
    assert (score["metric"], score["n"]) == ("score", 4)
    assert statuses(store) == ["incomplete", "complete"]


def test_nonsense_from_the_judge_is_counted_and_left_out(model_dir: Path, judge_file: Path, tmp_path: Path) -> None:
    replies = iter(["[[8]]", "What a lovely answer.", "[[6]]"])
    with fake_openai(lambda _: next(replies, "[[7]]")) as server:
        done = mtbench(model_dir, judge_file, server.url, tmp_path / "store.db", "--format", "table")
    assert done.returncode == 0, done.stderr
    headline = next(line for line in done.stdout.splitlines() if line.startswith("score"))
    assert re.split(r"\s{2,}", headline.strip())[1:2] == ["7.00"]
    assert headline.split()[-2:] == ["3", "1"], "three graded, one missing"


def test_a_missing_key_is_told_before_any_work(model_dir: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OPENAI_API_KEY"}
    words = ["mtbench", "--model", str(model_dir), "--store", f"sqlite:///{tmp_path}/store.db"]
    done = subprocess.run([COMMAND, *words], capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 2
    assert "set OPENAI_API_KEY" in done.stderr
    assert not (tmp_path / "store.db").exists()


@pytest.mark.slow
def test_mt_bench_judged_by_a_real_server(embedded_model: str, tmp_path: Path) -> None:
    """`transformers serve` with the embedded model as the judge, as poor a judge as it is."""
    location = locate(embedded_model).location
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = [str(Path(sys.executable).with_name("transformers")), "serve", "--host", "127.0.0.1", "--port", str(port)]
    log = (tmp_path / "serve.log").open("w")
    server = subprocess.Popen([*serve, "--device", "cpu"], stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", server, tmp_path / "serve.log")
        judge = tmp_path / "local.yaml"
        text = catalogue.find("judge", "gpt-4").read_text().replace("model: gpt-4\n", f"model: {location}\n")
        judge.write_text(text.replace("max_tokens: 2048", "max_tokens: 64") + "timeout_seconds: 300\n")
        words = ["mtbench", "--model", embedded_model, "--judge", str(judge), "--limit", "4", "--format", "json"]
        words += ["--base-url", f"http://127.0.0.1:{port}/v1", "--store", f"sqlite:///{tmp_path}/store.db"]
        done = subprocess.run([COMMAND, *words], capture_output=True, text=True, timeout=1200, check=False)
    finally:
        server.terminate()
        server.wait(timeout=30)
        log.close()
    assert done.returncode == 0, done.stderr + (tmp_path / "serve.log").read_text()[-2000:]
    with sqlite3.connect(tmp_path / "store.db") as connection:
        replies = connection.execute("select reply, output_tokens, score, reason from judgments").fetchall()
    assert len(replies) == 8
    assert all(reply.strip() and tokens for reply, tokens, _, _ in replies)
    assert all(score is not None or reason for _, _, score, reason in replies)
    headline = json.loads(done.stdout)[0]
    assert headline["metric"] == "score"
    assert headline["n"] == sum(score is not None for _, _, score, _ in replies)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            urllib.request.urlopen(url, timeout=2).read()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no answer from {url}: {log.read_text()[-2000:]}")
