"""Stored answers of made-up quality, and a local server that plays a judge who reads it off and counts its calls.

The judge may change its mind: it grades by so much more or less from now on, or breaks off.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servers import FakeOpenAi, fake_openai

from zephyr_bench import catalogue
from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.evaluate import Outcome, answer_alone, evaluate
from zephyr_bench.engines.protocol import FollowUp, ModelSource
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.judges import Judge, JudgeOptions, open_judge
from zephyr_bench.progress import Progress
from zephyr_bench.records import Generation, GenerationRequest
from zephyr_bench.store import Store

QUIET = Progress(quiet=True)
Quality = Callable[[str], int]  # of the answer to the chat's first message, 1 to 10


class Answering:
    """A model that answers each turn with a text that tells its quality."""

    def __init__(self, name: str, quality: Quality) -> None:
        self.model = ModelSource(name, "nowhere", fingerprint(name))
        self.fingerprint = fingerprint([name, "engine"])
        self._quality = quality

    def generate(self, requests: Iterable[GenerationRequest], *, then: FollowUp | None = None) -> Iterator[Generation]:
        for request in requests:
            worth = self._quality(request.messages[0]["content"])
            result = Generation(request.key, f"{self.model.name} says <<{worth}>>", "stop", 10, 12)
            yield result
            if then is not None:
                yield from self.generate(then(result), then=then)

    def close(self) -> None:
        pass


@dataclass
class Mood:
    """What the judge makes of an answer now: its quality and so much more; None: the connection is cut."""

    harsher: float = 0.0
    calls_left: int | None = None  # then every call fails
    silent: float = 0.0  # share of the questions to which it gives no grade
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, body: Mapping[str, Any]) -> str | int:
        with self.lock:
            if self.calls_left is not None:
                self.calls_left -= 1
                if self.calls_left < 0:
                    return 500
        if int(fingerprint(body["messages"][-1]["content"])[-6:], 16) < self.silent * 2**24:
            return "I would rather not say."
        said = [float(worth) for worth in re.findall(r"says <<(\d+)>>", body["messages"][-1]["content"])]
        return f"Rating: [[{min(10.0, max(1.0, said[-1] - self.harsher)):g}]]"


@contextmanager
def moody_judge(folder: Path, *, port: int = 0) -> Iterator[tuple[Mood, FakeOpenAi, Path]]:
    """The catalogue's gpt-4 with less patience, asked at a local server: (its mood, the server, its YAML)."""
    mood = Mood()
    path = folder / "gpt-4.yaml"
    path.write_text(catalogue.find("judge", "gpt-4").read_text() + "max_retries: 2\ntimeout_seconds: 60\n")
    with fake_openai(mood.reply, port=port) as server:
        yield mood, server, path


def judge_at(server: FakeOpenAi, path: Path, **options: Any) -> Judge:
    return open_judge(str(path), options=JudgeOptions(base_url=server.url, **options))


def judged(store: Store, name: str, quality: Quality, judge: Judge, benchmark: str = "mt-bench-mini") -> Outcome:
    return evaluate(open_benchmark(benchmark), Answering(name, quality), judge=judge, store=store, progress=QUIET)


def answered(store: Store, name: str, quality: Quality, benchmark: str = "mt-bench-mini") -> Outcome:
    return answer_alone(open_benchmark(benchmark), Answering(name, quality), store=store, progress=QUIET)


def by_text(low: int, high: int, salt: str = "") -> Quality:
    """Each question has a quality of its own, the same each time."""
    return lambda text: low + int(fingerprint([text, salt])[-6:], 16) % (high - low + 1)
