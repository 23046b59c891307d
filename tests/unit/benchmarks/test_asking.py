"""Questions become requests turn by turn: what is known isn't asked, what is alike is asked once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext

import pytest

from zephyr_bench.benchmarks.asking import ask
from zephyr_bench.benchmarks.evaluate import recorded_run
from zephyr_bench.benchmarks.protocol import Job
from zephyr_bench.engines.protocol import FollowUp, ModelSource
from zephyr_bench.progress import Progress
from zephyr_bench.records import Answer, Generation, GenerationRequest, Question, Sampling
from zephyr_bench.store import Store

TWO = Question("two", "math", ("First?", "Second?"))
ONE = Question("one", "writing", ("Alone?",))
TWIN = Question("twin", "math", ("First?", "Another second?"))  # shares its first turn with TWO


class Scripted:
    """Answers `<the last message>!`, and stops after so many answers, as a kill would."""

    model = ModelSource("scripted", "here", "sha256:scripted")
    fingerprint = "sha256:engine"

    def __init__(self, *, lives_for: int = 1000) -> None:
        self.asked: list[GenerationRequest] = []
        self._lives_for = lives_for

    def generate(self, requests: Iterable[GenerationRequest], *, then: FollowUp | None = None) -> Iterator[Generation]:
        waiting = list(requests)
        while waiting:
            request = waiting.pop(0)
            result = request.made
            if result is None:
                if self._lives_for == 0:
                    raise KeyboardInterrupt
                self._lives_for -= 1
                self.asked.append(request)
                result = Generation(request.key, f"{request.messages[-1]['content']}!", "stop", 3, 2)
                yield result
            waiting += then(result) if then else ()

    def close(self) -> None:
        pass


def answers(store: Store, engine: Scripted, *questions: Question, replicate: int = 0) -> dict[str, tuple[Answer, ...]]:
    with recorded_run(store, engine, None, benchmark="b", protocol={}, seed=0) as run:
        job = Job(engine=engine, judge=None, run=run, progress=Progress(quiet=True))
        found = ask(job, questions, sampling=lambda _: Sampling(), replicate=replicate)
        run.finish("complete", [])
    return found


def test_a_second_turn_is_asked_with_the_models_own_first_answer(store: Store) -> None:
    engine = Scripted()
    found = answers(store, engine, TWO, ONE)
    assert [[answer.text for answer in found[id]] for id in ("two", "one")] == [["First?!", "Second?!"], ["Alone?!"]]
    assert [message["content"] for message in engine.asked[2].messages] == ["First?", "First?!", "Second?"]
    assert [len(request.messages) for request in engine.asked] == [1, 1, 3], "the second turn waits for its first only"


def test_turns_of_the_same_content_are_asked_once(store: Store) -> None:
    engine = Scripted()
    found = answers(store, engine, TWO, TWIN)
    assert [request.messages[-1]["content"] for request in engine.asked] == ["First?", "Second?", "Another second?"]
    assert found["two"][0].key == found["twin"][0].key


def test_no_question_asks_nothing(store: Store) -> None:
    assert answers(store, Scripted()) == {}


@pytest.mark.parametrize("lives_for", [0, 1, 2, 3])
def test_what_was_answered_before_a_kill_is_not_asked_again(store: Store, lives_for: int) -> None:
    first, second = Scripted(lives_for=lives_for), Scripted()
    with pytest.raises(KeyboardInterrupt) if lives_for < 3 else nullcontext():
        answers(store, first, TWO, ONE)
    found = answers(store, second, TWO, ONE)
    assert {r.key for r in first.asked}.isdisjoint({r.key for r in second.asked})
    assert len(first.asked) + len(second.asked) == 3
    assert found["two"][1].text == "Second?!"
    again = Scripted(lives_for=0)
    assert answers(store, again, TWO, ONE) == found


def test_a_repeat_is_an_answer_of_its_own(store: Store) -> None:
    first, second = (answers(store, Scripted(), ONE, replicate=replicate)["one"][0] for replicate in (0, 1))
    assert first.key != second.key
    assert (first.replicate, second.replicate) == (0, 1)
