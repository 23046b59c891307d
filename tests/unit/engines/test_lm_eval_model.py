import pytest
from lm_eval.api.instance import Instance
from tiny_model import make_tiny_model

from zephyr_bench.engines import open_engine
from zephyr_bench.engines.lm_eval_model import EngineLM
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import UserError

PAIRS = [("The capital of France is", f" {word}") for word in ("Paris", "Rome", "a", "b")]


class Memory(dict):
    """A cache in memory, which notes what was added."""

    def __init__(self):
        super().__init__()
        self.batches = []
        self.texts = {}

    def answers(self, keys):
        return {key: self.texts[key] for key in keys if key in self.texts}

    def use_answers(self, keys):
        pass

    def add_answers(self, answered):
        self.texts.update({answer.key: answer for _, answer in answered})

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


def completions(*texts):
    options = {"until": ["\n"], "max_gen_toks": 4, "do_sample": False}
    return [
        Instance("generate_until", {}, (text, options), number, ("task", number, 1))
        for number, text in enumerate(texts)
    ]


def test_known_texts_are_not_made_again(engine, tiny_model_dir):
    memory = Memory()
    first = EngineLM(engine, memory).generate_until(completions("One", "Two"))
    again = open_engine(str(tiny_model_dir), EngineOptions(device="cpu"))
    assert EngineLM(again, memory).generate_until(completions("Two", "One")) == first[::-1]
    assert again._loaded is None  # no weights were needed


def test_texts_made_before_an_interruption_are_kept(engine, monkeypatch):
    memory = Memory()
    complete = engine.complete

    def interrupted(requests):
        for number, result in enumerate(complete(requests)):
            if number == 1:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(engine, "complete", interrupted)
    with pytest.raises(KeyboardInterrupt):
        EngineLM(engine, memory).generate_until(completions("One", "Two", "Three"))
    assert len(memory.texts) == 1


def test_a_text_asked_for_twice_is_one_where_greedy_and_two_where_drawn(engine):
    memory = Memory()
    greedy = completions("One")
    EngineLM(engine, memory).generate_until(greedy * 2)
    assert len(memory.texts) == 1
    drawn = Instance("generate_until", {}, ("One", {"until": [], "max_gen_toks": 4, "temperature": 1.0}), 0)
    EngineLM(engine, memory).generate_until([drawn] * 3)
    assert sorted(answer.replicate for answer in memory.texts.values()) == [0, 0, 1, 2]


def test_a_chat_template_without_a_system_role_gets_the_chat_without_it(tmp_path):
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for message in messages %}{{ message['content'] }}|{% endfor %}"
    )
    folder = make_tiny_model(tmp_path / "no-system", chat_template=template)
    model = EngineLM(open_engine(str(folder), EngineOptions(device="cpu")), Memory())
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert model.apply_chat_template(chat) == "Hi|"
    with pytest.raises(UserError, match="refuses the chat"):
        model.apply_chat_template([{"role": "system", "content": "x"}] * 2)
