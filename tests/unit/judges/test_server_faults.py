"""A server that misbehaves: what came is stored once, nothing is asked twice, and the next run does the rest."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import FakeOpenAi, Raw, Reply, completion, fake_openai
from test_openai_judge import judge_at

from zephyr_bench.benchmarks.evaluate import recorded_run
from zephyr_bench.benchmarks.grading import grade
from zephyr_bench.benchmarks.protocol import Job
from zephyr_bench.engines import calls, open_engine
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import UserError, ZephyrBenchError
from zephyr_bench.progress import Progress
from zephyr_bench.store import Store
from zephyr_bench.testing.judges import single

N = 12
MATCHES = [single(f"Question {number}?", "An answer.") for number in range(N)]
WHOLE = json.dumps(completion("gpt-4", "[[7]]")).encode()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path}/store.db") as opened:
        yield opened


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_FIRST_WAIT", 0.01)


def judged(store: Store, tiny_model_dir: Path, judge: Any) -> tuple[int, ZephyrBenchError | None]:
    """How many verdicts one run gave, and what it ended with."""
    engine = open_engine(str(tiny_model_dir), EngineOptions(device="cpu"))
    taken = 0
    try:
        with recorded_run(store, engine, judge, benchmark="mt-bench", protocol={}, seed=0) as run:
            run.add_answers((match.question, match.answers[0]) for match in MATCHES)
            job = Job(engine=engine, judge=judge, run=run, progress=Progress(quiet=True))
            for _ in grade(job, MATCHES):
                taken += 1
            run.finish("complete", [])
    except ZephyrBenchError as error:
        return taken, error
    return taken, None


def asked(server: FakeOpenAi) -> Counter[str]:
    """How often each question was asked."""
    return Counter(body["messages"][1]["content"] for body in server.requests)


def faulty(fault: Reply, *, at: Callable[[int], bool]) -> Callable[[dict[str, Any]], Reply]:
    """The fault at some of the requests, counted from 0; a verdict at the others."""
    lock, count = threading.Lock(), iter(range(10**6))

    def reply(_: dict[str, Any]) -> Reply:
        with lock:
            number = next(count)
        return fault if at(number) else "[[7]]"

    return reply


PASSING = {
    "429": 429,
    "429 with Retry-After": Raw(b"{}", 429, (("Retry-After", "0.2"),)),
    "500": 500,
    "dropped connection": None,
    "half a JSON body": Raw(WHOLE[: len(WHOLE) // 2], promised=len(WHOLE)),
    "half a JSON body that says it is whole": Raw(WHOLE[: len(WHOLE) // 2]),
    "no choices": Raw(b'{"choices": []}'),
    "a slow trickle": Raw(WHOLE, pause=0.05),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_a_fault_that_passes_is_tried_again_and_everything_is_stored_once(
    store: Store, tiny_model_dir: Path, tmp_path: Path, fault: Reply
) -> None:
    with fake_openai(faulty(fault, at=lambda n: n in (0, 3, 7))) as server:
        judge = judge_at(server.url, tmp_path, max_retries=3, timeout_seconds=1)
        taken, ended = judged(store, tiny_model_dir, judge)
        assert (taken, ended) == (N, None)
        assert sum(asked(server).values()) == N + 3
        assert judged(store, tiny_model_dir, judge) == (N, None)
        assert sum(asked(server).values()) == N + 3, "a finished run costs no request"
    assert [len(store.judgments_of(run.id)) for run in store.runs()] == [N, N]


@pytest.mark.parametrize(
    ("fault", "told", "code"),
    [
        (429, "answered 429 after 2 tries", 4),
        (500, "answered 500 after 2 tries", 4),
        (None, "can't be reached", 4),
        (Raw(WHOLE[:40]), "sent no Chat Completions reply", 4),
        (Raw(WHOLE, pause=0.05), "did not answer within 0.5 s, 2 times", 4),
        (404, "model 'gpt-4' or the address is not known there (404)", 2),
        (401, "the key was refused (401)", 2),
        (400, "refused a request (400)", 4),
    ],
)
def test_a_fault_that_lasts_ends_the_run_which_the_next_completes(
    store: Store, tiny_model_dir: Path, tmp_path: Path, fault: Reply, told: str, code: int
) -> None:
    with fake_openai(faulty(fault, at=lambda n: n >= 5)) as server:
        judge = judge_at(server.url, tmp_path, max_retries=1, timeout_seconds=0.5, concurrency=2)
        taken, ended = judged(store, tiny_model_dir, judge)
    assert ended is not None
    assert told in str(ended)
    assert ended.exit_code == code
    assert taken == 5
    (run,) = store.runs()
    assert run.status == ("failed" if code == 2 else "incomplete")
    assert len(store.judgments_of(run.id)) == 5
    with fake_openai("[[7]]", port=int(server.url.split(":")[2].split("/")[0])) as again:
        assert judged(store, tiny_model_dir, judge) == (N, None)
        assert sum(asked(again).values()) == N - 5, "what is stored is not asked again"


def test_the_limit_is_found_and_a_server_that_takes_four_is_asked_four_at_once(tmp_path: Path) -> None:
    lock, here, most, refused = threading.Lock(), [0], [0], [0]
    begun = threading.Semaphore(4)

    def four_at_most(_: dict[str, Any]) -> Reply:
        if not begun.acquire(blocking=False):
            with lock:
                refused[0] += 1
            return 429
        with lock:
            here[0] += 1
            most[0] = max(most[0], here[0])
        threading.Event().wait(0.01)
        with lock:
            here[0] -= 1
        begun.release()
        return "[[7]]"

    matches = [single(f"Question {number}?", "An answer.") for number in range(200)]
    with fake_openai(four_at_most) as server:
        assert len(list(judge_at(server.url, tmp_path, max_retries=4).grade(matches))) == 200
    assert most[0] == 4
    assert refused[0] < 100, "it keeps asking for more than the server takes"


def test_the_server_is_left_alone_as_long_as_it_asks(tmp_path: Path) -> None:
    import time

    times: list[float] = []

    def busy_once(_: dict[str, Any]) -> Reply:
        times.append(time.monotonic())
        return Raw(b"{}", 429, (("Retry-After", "0.5"),)) if len(times) == 1 else "[[7]]"

    with fake_openai(busy_once) as server:
        assert len(list(judge_at(server.url, tmp_path, concurrency=1, max_retries=1).grade(MATCHES))) == N
    assert times[1] - times[0] >= 0.5


def test_a_request_rate_is_kept(tmp_path: Path) -> None:
    import time

    with fake_openai("[[7]]") as server:
        began = time.monotonic()
        list(judge_at(server.url, tmp_path, requests_per_minute=1200).grade(MATCHES[:8]))
        assert time.monotonic() - began >= 7 * 0.05


def test_the_budget_ends_a_run_before_it_is_exceeded(store: Store, tiny_model_dir: Path, tmp_path: Path) -> None:
    from zephyr_bench.judges import JudgeOptions, open_judge

    with fake_openai("[[7]]") as server:
        judge_at(server.url, tmp_path, max_tokens=20, concurrency=3)
        path = str(tmp_path / "local.yaml")
        each = (100 * 30 + 10 * 60) / 1e6  # what the server tells of each call
        judge = open_judge(path, options=JudgeOptions(max_cost_usd=6 * each))
        taken, ended = judged(store, tiny_model_dir, judge)
        assert ended is not None
        assert "--max-cost" in str(ended)
        assert ended.exit_code == 4
        spent = sum(j.cost_usd or 0 for j in store.judgments_of(store.runs()[0].id))
        assert 0 < taken < N
        assert spent <= 6 * each
        assert len(server.requests) == taken
        assert judged(store, tiny_model_dir, open_judge(path)) == (N, None)


def test_a_budget_needs_a_price(tmp_path: Path) -> None:
    from zephyr_bench.judges import JudgeOptions, open_judge

    judge_at("http://127.0.0.1:9/v1", tmp_path, usd_per_million_tokens="null")
    (told,) = open_judge(str(tmp_path / "local.yaml"), options=JudgeOptions(max_cost_usd=1)).missing()
    assert "usd_per_million_tokens" in told


def test_what_is_under_way_is_waited_for_where_the_next_question_fails(tmp_path: Path) -> None:
    def matches() -> Iterator[Any]:
        yield from MATCHES[:3]
        raise UserError("a broken row")

    taken = []
    with fake_openai("[[7]]") as server:
        verdicts = judge_at(server.url, tmp_path, concurrency=8).grade(matches())
        with pytest.raises(UserError, match="a broken row"):
            taken += (judgment.score for judgment in verdicts)
    assert taken == [7, 7, 7]


def test_an_error_of_our_own_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zephyr_bench.engines.openai_chat import OpenAiChat

    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(OpenAiChat, "read", broken)
    with fake_openai("[[7]]") as server, pytest.raises(RuntimeError, match="a bug"):
        list(judge_at(server.url, tmp_path).grade(MATCHES[:1]))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1"])
def test_the_models_engine_says_what_the_judge_says(url: str) -> None:
    with pytest.raises(UserError, match="--base-url"):
        open_engine("some-model", EngineOptions(engine="openai"))
    assert open_engine("some-model", EngineOptions(engine="openai", base_url=url)).model.name == "some-model"
