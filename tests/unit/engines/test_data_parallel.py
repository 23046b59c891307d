"""Work shared by processes: how it is cut, how it travels, and that two processes give what one gives."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import make_tiny_model

from zephyr_bench.engines import data_parallel, open_engine
from zephyr_bench.engines.data_parallel import Crew, SharedWork, crew_of, current_crew
from zephyr_bench.engines.launch import Launch, launched, own_device
from zephyr_bench.engines.locate import locate
from zephyr_bench.engines.piece_messages import COMPLETE, SCORE
from zephyr_bench.engines.pieces import cut, shares
from zephyr_bench.engines.protocol import CompletionRequest, EngineOptions
from zephyr_bench.engines.transformers_engine import TransformersEngine
from zephyr_bench.errors import ServiceError, UserError
from zephyr_bench.records import GeneratedToken, Generation, GenerationRequest, Sampling, ScoreRequest

CPU = EngineOptions(device="cpu")
SAMPLING = Sampling(temperature=0.7, top_p=0.9, max_new_tokens=6, seed=3, stop=("\n\n",))
tokens = st.lists(st.integers(3, 6), min_size=1, max_size=8).map(tuple)


# ---- how work is cut


@given(st.lists(st.tuples(tokens, tokens), max_size=40), st.integers(2, 9), st.integers(1, 5000))
def test_pieces_hold_every_request_once(texts: list[tuple[Any, Any]], ranks: int, at_once: int) -> None:
    requests = [ScoreRequest(str(number), *text) for number, text in enumerate(texts)]
    pieces = cut(requests, ranks=ranks, at_once=at_once)
    assert sorted(int(request.key) for piece in pieces for request in piece) == list(range(len(requests)))
    assert all(pieces)


def shots(subjects: int, questions: int) -> list[ScoreRequest]:
    """Few-shot questions of four choices: a subject's examples, the question, and one letter."""
    return [
        ScoreRequest(f"{s}/{q}/{c}", (*[s] * 600, *[1000 + s * questions + q] * 60), (c,))
        for s in range(subjects)
        for q in range(questions)
        for c in range(4)
    ]


def test_what_shares_a_beginning_mostly_stays_together() -> None:
    pieces = cut(shots(subjects=40, questions=20), ranks=4, at_once=4096)
    subjects = [{request.context[0] for request in piece} for piece in pieces]
    assert len(pieces) > 8
    assert sum(map(len, subjects)) <= 40 + 2, "a subject's examples are computed in several pieces"


def test_no_piece_parts_the_choices_of_a_question() -> None:
    pieces = cut(shots(subjects=1, questions=300), ranks=4, at_once=1024)
    questions = [{request.context for request in piece} for piece in pieces]
    assert len(pieces) > 8
    assert sum(map(len, questions)) == 300


def test_pieces_are_several_a_process_and_the_last_ones_small() -> None:
    requests = [ScoreRequest(str(number), tuple([number] * 50), (1,)) for number in range(4000)]
    sizes = [len(piece) for piece in cut(requests, ranks=8, at_once=4096)]
    assert 8 * 3 < len(sizes) < 8 * 12
    assert max(sizes) < 4000 / 8
    assert max(sizes[-8:]) < 4000 / 8 / 4


def test_few_requests_are_one_piece() -> None:
    assert len(cut(shots(1, 2), ranks=8, at_once=4096)) == 1
    assert cut([], ranks=8, at_once=4096) == []


def completions(count: int, made: int = 0) -> list[CompletionRequest]:
    known = Generation("", "known", "stop", 1, 2)
    return [
        CompletionRequest(str(number), (5,) * (1 + number * 7 % 40), SAMPLING, known if number < made else None)
        for number in range(count)
    ]


def test_a_share_a_process_of_like_lengths() -> None:
    found = shares(completions(40), ranks=4)
    assert [len(share) for share in found] == [10] * 4
    lengths = [sum(len(request.prompt) for request in share) for share in found]
    assert max(lengths) - min(lengths) <= 40


def test_known_answers_stay_in_the_shares_they_had() -> None:
    before = [{request.key for request in share} for share in shares(completions(40), ranks=4)]
    after = [{request.key for request in share} for share in shares(completions(40, made=20), ranks=4)]
    assert after == before
    assert len(shares(completions(8, made=7), ranks=4)) == 1, "a share of known answers is no work"


# ---- how it travels


@given(st.lists(st.tuples(tokens, tokens), max_size=20))
def test_score_requests_arrive_as_they_were(texts: list[tuple[Any, Any]]) -> None:
    requests = [ScoreRequest(str(number), *text) for number, text in enumerate(texts)]
    assert SCORE.unpack(json.loads(json.dumps(SCORE.pack(requests)))) == requests


def test_completion_requests_arrive_as_they_were() -> None:
    (fresh, known) = COMPLETE.unpack(
        json.loads(json.dumps(COMPLETE.pack([completions(1)[0], completions(1, made=1)[0]])))
    )
    assert fresh == replace(completions(1)[0], or_nothing=True)
    assert known.made is not None
    assert known.made.completion_tokens == 2


def test_results_arrive_as_they_were() -> None:
    result = Generation("3", "a\ud800\n", "length", 4, 5, (GeneratedToken("a", {"a": -0.1, "b": -2.5}),))
    assert COMPLETE.unpack_result(json.loads(json.dumps(COMPLETE.pack_result(result)))) == result


# ---- which process this is

TORCHRUN = {"RANK": "9", "LOCAL_RANK": "1", "WORLD_SIZE": "16", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}


def test_a_launch_is_read_from_the_environment() -> None:
    kept = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "2"}
    assert launched(TORCHRUN | kept) == Launch(9, 16, 1, "node0", 29500, True, "2")
    assert launched(TORCHRUN) == Launch(9, 16, 1, "node0", 29500, False, "0")


@pytest.mark.parametrize("without", [{}, TORCHRUN | {"WORLD_SIZE": "1"}, TORCHRUN | {"RANK": ""}])
def test_a_process_alone_is_no_launch(without: dict[str, str]) -> None:
    assert launched(without) is None


def test_each_process_takes_its_own_gpu() -> None:
    launch = launched(TORCHRUN)
    assert launch is not None
    assert [own_device(device, launch) for device in ("cuda", "cpu")] == ["cuda:1", "cpu"]
    with pytest.raises(UserError, match="--device cuda:0: names one GPU, and 16 processes run"):
        own_device("cuda:0", launch)


# ---- two processes


@contextmanager
def two_processes(*, ends: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """This one with another that helps it, and ends with that code."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = Launch(0, 2, 0, "127.0.0.1", port, False)
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from zephyr_bench.engines.helper import serve\n"
        "from zephyr_bench.engines.launch import Launch\n"
        "from zephyr_bench.training_runs.parallel import join\n"
        f"serve(Launch(1, 2, 1, '127.0.0.1', {port}, False), join)\n"
    )
    helper = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        with crew_of(launch):
            while not crew()._board.count("beat/1", 0):
                assert helper.poll() is None
                time.sleep(0.1)
            yield helper
        assert helper.wait(timeout=20) == ends
        assert helper.communicate()[0] == b"", "a helper writes nothing on stdout"
    finally:
        helper.kill()
        helper.wait()


@pytest.fixture(scope="module")
def helper() -> Iterator[subprocess.Popen[bytes]]:
    with two_processes() as process:
        yield process


def crew() -> Crew:
    found = current_crew()
    assert found is not None
    return found


def told() -> int:
    """Messages with results from the other process."""
    return crew()._board.count("told", 0)


def asked(engine: Any, count: int = 80) -> list[ScoreRequest]:
    contexts = [tuple(engine.encode(f"Example {n % 5}. " * 4 + f"Question {n}: what is it?")) for n in range(count)]
    return [
        ScoreRequest(f"{number}{choice}", context, tuple(engine.encode(choice)))
        for number, context in enumerate(contexts)
        for choice in (" yes", " no", "")
    ]


def questions(count: int) -> list[GenerationRequest]:
    own = Sampling(max_new_tokens=8)
    return [
        GenerationRequest(str(n), ({"role": "user", "content": f"Say {n}" * (n % 4 + 1)},), own) for n in range(count)
    ]


def alone(model: Path | str) -> TransformersEngine:
    return TransformersEngine(locate(str(model)), CPU)


@pytest.mark.usefixtures("helper")
def test_two_processes_tell_the_scores_of_one(tiny_model_dir: Path) -> None:
    engine: Any = open_engine(str(tiny_model_dir), CPU)
    assert engine.fingerprint == alone(tiny_model_dir).fingerprint
    requests = asked(engine)
    expected = {result.key: result for result in alone(tiny_model_dir).score(requests)}
    before = told()
    found = list(engine.score(requests))
    assert told() > before, "the other process did nothing"
    assert sorted(result.key for result in found) == sorted(expected)
    for result in found:
        one = expected[result.key]
        assert abs(result.log_prob - one.log_prob) <= 2e-5 * max(1, one.tokens)
        assert (result.is_greedy, result.tokens) == (one.is_greedy, one.tokens)
    engine.close()


@pytest.mark.usefixtures("helper")
def test_two_processes_continue_texts_and_dialogues_as_one(tiny_model_dir: Path) -> None:
    first = questions(9)

    def then(result: Generation) -> list[GenerationRequest]:
        if int(result.key) >= 100:
            return []
        return [replace(questions(9)[int(result.key)], key=str(100 + int(result.key)))] if int(result.key) % 2 else []

    single, engine = alone(tiny_model_dir), open_engine(str(tiny_model_dir), CPU)
    expected = {result.key: result for result in single.generate(first, then=then)}
    known = [replace(first[1], made=expected["1"]), first[0], *first[2:]]
    found = {result.key: result for result in engine.generate(known, then=then)}
    assert found == {key: result for key, result in expected.items() if key != "1"}
    assert isinstance(engine, TransformersEngine)
    prompts = [replace(single.tokenized(request), top_logprobs=2) for request in first]
    texts = {result.key: result.text for result in engine.complete(prompts)}
    assert texts == {result.key: result.text for result in single.complete(prompts)}


@pytest.mark.usefixtures("helper")
def test_a_refused_follow_up_is_raised_once_the_rest_is_answered(tiny_model_dir: Path) -> None:
    def then(result: Generation) -> list[GenerationRequest]:
        raise UserError(f"no more after {result.key}")

    answered: list[str] = []
    results = open_engine(str(tiny_model_dir), CPU).generate(questions(6), then=then)
    with pytest.raises(UserError, match="no more after"):
        answered.extend(result.key for result in results)
    assert sorted(answered) == [str(number) for number in range(6)]


@pytest.mark.usefixtures("helper")
def test_several_models_one_after_the_other(tiny_model_dir: Path, tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "other", seed=1)
    for model in (tiny_model_dir, other):
        engine: Any = open_engine(str(model), CPU)
        requests = asked(engine, count=60)
        expected = {result.key: result.log_prob for result in alone(model).score(requests)}
        assert {result.key: result.log_prob for result in engine.score(requests)} == pytest.approx(expected, abs=1e-3)
        engine.close()


@pytest.mark.usefixtures("helper")
def test_a_call_that_is_broken_off_leaves_the_next_one_whole(tiny_model_dir: Path) -> None:
    engine: Any = open_engine(str(tiny_model_dir), CPU)
    requests = asked(engine)
    begun = engine.score(requests)
    next(begun)
    begun.close()
    assert len(list(engine.score(requests))) == len(requests)


@pytest.mark.usefixtures("helper")
def test_a_call_within_another_is_computed_here(tiny_model_dir: Path) -> None:
    engine, other = open_engine(str(tiny_model_dir), CPU), open_engine(str(tiny_model_dir), CPU)
    assert isinstance(engine, TransformersEngine)
    assert isinstance(other, TransformersEngine)
    requests = asked(engine)
    begun = engine.score(requests)
    next(begun)
    assert len(list(other.score(requests))) == len(requests)
    assert len(list(begun)) == len(requests) - 1


@pytest.mark.usefixtures("helper")
def test_what_a_helper_cannot_load_is_told_in_its_words(tiny_model_dir: Path) -> None:
    model = locate(str(tiny_model_dir))
    elsewhere = SharedWork(crew(), replace(model, location="/absent"), CPU)
    engine = TransformersEngine(model, CPU, shared=elsewhere)
    with pytest.raises(UserError, match=r"^process 1 of this launch: model /absent can't be loaded"):
        list(engine.score(asked(engine)))


def test_a_helper_that_falls_silent_ends_the_call(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_parallel, "_SILENT", 3)
    monkeypatch.setattr(data_parallel, "_TO_END_SECONDS", 0.1)
    with two_processes(ends=-signal.SIGKILL) as process:
        engine: Any = open_engine(str(tiny_model_dir), CPU)
        while crew()._board.count("drawn", 0) == 0:
            time.sleep(0.1)
        process.kill()  # it holds the number of the first piece
        with pytest.raises(ServiceError, match="process 1 of this launch has died or hangs"):
            list(engine.score(asked(engine)))
