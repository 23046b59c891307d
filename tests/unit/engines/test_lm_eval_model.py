import pytest
from lm_eval.api.instance import Instance

from zephyr_bench.engines import open_engine
from zephyr_bench.engines.lm_eval_model import EngineLM
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import UserError

PAIRS = [("The capital of France is", f" {word}") for word in ("Paris", "Rome", "a", "b")]


class Memory(dict):
    """A score cache in memory, which notes what was added."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def token_scores(self, keys):
        return {key: self[key] for key in keys if key in self}

    def add_token_scores(self, scores):
        self.batches.append(list(scores))
        self.update({scored.key: scored for scored in self.batches[-1]})


def instances(pairs=PAIRS):
    return [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]


@pytest.fixture
def engine(tiny_model_dir):
    return open_engine(str(tiny_model_dir), EngineOptions(device="cpu"))


def test_known_scores_are_not_made_again(engine, tiny_model_dir):
    memory = Memory()
    first = EngineLM(engine, memory).loglikelihood(instances())
    again = open_engine(str(tiny_model_dir), EngineOptions(device="cpu"))
    assert EngineLM(again, memory).loglikelihood(instances()) == first
    assert again._loaded is None  # no weights were needed


def test_scores_made_before_an_interruption_are_kept(engine, monkeypatch):
    memory = Memory()
    score = engine.score

    def interrupted(requests):
        for number, scored in enumerate(score(requests)):
            if number == 2:
                raise KeyboardInterrupt
            yield scored

    monkeypatch.setattr(engine, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        EngineLM(engine, memory).loglikelihood(instances())
    assert len(memory) == 2


def test_scores_are_kept_in_small_batches(engine):
    memory = Memory()
    EngineLM(engine, memory).loglikelihood(instances([("Count:", f" {number}") for number in range(150)]))
    assert len(memory.batches) >= 3
    assert sum(len(batch) for batch in memory.batches) == 150


def test_a_request_asked_twice_is_scored_once(engine):
    memory = Memory()
    first, second = EngineLM(engine, memory).loglikelihood(instances([PAIRS[0], PAIRS[0]]))
    assert first == second
    assert len(memory) == 1


def test_unknown_generation_option_is_named(engine):
    request = Instance("generate_until", {}, ("Hi", {"until": [], "top_k": 5}), 0)
    with pytest.raises(UserError, match="generation option top_k"):
        EngineLM(engine, Memory()).generate_until([request])
