import pytest

from zephyr_bench.engines import open_engine
from zephyr_bench.engines.protocol import CompletingEngine, EngineOptions
from zephyr_bench.testing.engines import CHECKS, SCORING_CHECKS, a_too_long_context_is_cut_on_the_left


@pytest.mark.parametrize("check", [*CHECKS, *SCORING_CHECKS], ids=lambda check: check.__name__)
def test_transformers_engine_conforms(check, tiny_model_dir):
    check(lambda: open_engine(str(tiny_model_dir), EngineOptions(device="cpu")))


@pytest.mark.slow
@pytest.mark.parametrize(
    "check",
    # the model's 8192 tokens take a minute here; the tiny model is cut at 512
    [check for check in (*CHECKS, *SCORING_CHECKS) if check is not a_too_long_context_is_cut_on_the_left],
    ids=lambda check: check.__name__,
)
def test_embedded_model_conforms(check, embedded_model):
    check(lambda: open_engine(embedded_model, EngineOptions(device="cpu")))


def test_transformers_engine_continues_plain_text(tiny_model_dir):
    assert isinstance(open_engine(str(tiny_model_dir), EngineOptions()), CompletingEngine)
