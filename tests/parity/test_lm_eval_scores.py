"""Log-probabilities of lm-eval's own tasks, in the leaderboards' shots: ours are its `hf` model's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exact_scores import Exact
from lm_eval_requests import SHAPES, Shape, requests_of, write_hellaswag
from test_lm_eval import Nothing
from tiny_model import make_tiny_model

from zephyr_bench.engines import open_engine
from zephyr_bench.engines.lm_eval_model import EngineLM
from zephyr_bench.engines.protocol import EngineOptions

APART = 2e-5  # a scored token
EACH = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)


Few = Callable[[Shape], list[Any]]


@pytest.fixture
def few(request: pytest.FixtureRequest, tmp_path: Path) -> Few:
    """Two questions of a shape; HellaSwag's rows are ours, the others real."""

    def asked(shape: Shape) -> list[Any]:
        if shape.task != "hellaswag":
            request.getfixturevalue("real_open_llm")
        write_hellaswag(tmp_path / "own")
        return requests_of(replace(shape, questions=2), tmp_path / "own")

    return asked


def both(model: str) -> tuple[Any, EngineLM]:
    """(lm-eval's model, ours) over the same weights."""
    from lm_eval.models.huggingface import HFLM

    engine = open_engine(model, EngineOptions(device="cpu", dtype="float32"))
    ours = EngineLM(engine, Nothing())
    return HFLM(pretrained=engine.model.location, device="cpu", dtype="float32", batch_size=1), ours


def assert_same(model: str, requests: list[Any]) -> None:
    """Where both are further apart than they may be, a float64 pass says who is right; where a flag differs, too."""
    theirs, ours = both(model)
    expected, found = theirs.loglikelihood(requests, disable_tqdm=True), ours.loglikelihood(requests)
    exact = Exact(theirs.model)
    for request, (log_prob, greedy), (our_log_prob, our_greedy) in zip(requests, expected, found, strict=True):
        context, continuation = ours._encode_pair(*request.args)
        near = APART * len(continuation)
        if abs(our_log_prob - log_prob) > near or our_greedy != greedy:
            right, margin = exact(context, continuation)
            assert abs(our_log_prob - right) <= near
            assert our_greedy == greedy or margin < 10 * APART
    assert accuracies(requests, found) == accuracies(requests, expected)


def accuracies(requests: list[Any], scores: list[tuple[float, bool]]) -> dict[int, int]:
    """By question the choice that is taken, by length too, as acc_norm takes it."""
    taken: dict[int, tuple[float, int]] = {}
    for request, (log_prob, _) in zip(requests, scores, strict=True):
        value = log_prob / max(1, len(request.args[1]))
        if request.doc_id not in taken or value > taken[request.doc_id][0]:
            taken[request.doc_id] = value, request.idx
    return {number: choice for number, (_, choice) in taken.items()}


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    # bytes are its tokens: 25 shots are longer than its 4096, so beginnings are cut as well
    return str(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", max_length=4096))


@EACH
def test_scores_of_real_rows_are_lm_evals(tiny_model: str, few: Few, shape: Shape) -> None:
    assert_same(tiny_model, few(shape))


@pytest.mark.slow
@EACH
def test_scores_of_the_embedded_model_are_lm_evals(embedded_model: str, few: Few, shape: Shape) -> None:
    assert_same(embedded_model, few(shape))
