import pytest
from exact_scores import Exact

from zephyr_bench.engines import open_engine
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import UserError
from zephyr_bench.records import ScoreRequest

INSTRUCTION = "The following are questions with answers.\n\n"
QUESTIONS = (
    "Question: Which planet is the largest of the solar system, and how many moons has it?\nAnswer:",
    "Question: Who wrote the play Hamlet?\nAnswer:",
    "Question: What do bees make?\nAnswer:",
)
CHOICES = (
    " A",
    " B",
    " Jupiter, with many moons",
    " Jupiter, with no moon",
    " honey",
    " William Shakespeare",
)


def requests_of(engine):
    """Shared contexts, single tokens, continuations that begin alike, contexts inside others, a long one."""
    pairs = [(INSTRUCTION + question, choice) for question in QUESTIONS for choice in CHOICES]
    pairs += [
        ("x", " y"),
        (QUESTIONS[1], " A"),
        (QUESTIONS[1] + " A", " B"),
        ("The", " sea is " + "very " * 30 + "deep"),
    ]
    return [
        ScoreRequest(str(number), tuple(engine.encode(context)), tuple(engine.encode(rest)))
        for number, (context, rest) in enumerate(pairs)
    ]


def reference_scores(engine, requests):
    """A plain forward pass for each request."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(engine.model.location, dtype=torch.float32).eval()
    found = {}
    with torch.inference_mode():
        for request in requests:
            ids = torch.tensor([request.context + request.continuation])[:, -(engine.max_length + 1) :]  # (1, tokens)
            log_probs = model(ids[:, :-1]).logits[0].log_softmax(-1)[-len(request.continuation) :]
            targets = torch.tensor(request.continuation)
            log_prob = log_probs.gather(1, targets[:, None]).sum().item()
            found[request.key] = (log_prob, bool((log_probs.argmax(-1) == targets).all()))
    return found


def assert_same_scores(model, batch_size=None, *, trees=None):
    """`trees` False: in groups, as architectures are scored that take no tree."""
    engine = open_engine(str(model), EngineOptions(device="cpu", batch_size=batch_size))
    engine._weights.scores_along_trees = trees
    requests = requests_of(engine)
    lengths = {request.key: len(request.continuation) for request in requests}
    found = {scored.key: (scored.log_prob, scored.is_greedy) for scored in engine.score(requests)}
    expected = reference_scores(engine, requests)
    assert found.keys() == expected.keys()
    exact = Exact(engine._weights.model)
    for request in requests:
        (log_prob, is_greedy), apart = found[request.key], 2e-5 * lengths[request.key]
        plain, plainly_greedy = expected[request.key]
        if abs(log_prob - plain) > apart:
            right, _ = exact(request.context, request.continuation)
            assert abs(log_prob - right) <= max(apart, abs(plain - right)), request.key
        assert is_greedy == plainly_greedy, request.key


def test_scores_equal_a_plain_forward_pass(tiny_model_dir):
    assert_same_scores(tiny_model_dir)


@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_scores_of_groups_equal_a_plain_forward_pass(tiny_model_dir, batch_size):
    assert_same_scores(tiny_model_dir, batch_size, trees=False)


@pytest.mark.slow
def test_scores_of_the_embedded_model_equal_a_plain_forward_pass(embedded_model):
    assert_same_scores(embedded_model)


@pytest.mark.parametrize("trees", [None, False])
def test_other_architectures_are_scored_alike(other_architecture, trees):
    assert_same_scores(other_architecture, trees=trees)


def test_one_context_with_one_token_choices_needs_one_pass(tiny_model_dir):
    engine = open_engine(str(tiny_model_dir), EngineOptions(device="cpu"))
    context = tuple(engine.encode(QUESTIONS[0]))
    requests = [ScoreRequest(str(token), context, (token,)) for token in (10, 11, 12, 13)]
    list(engine.score(requests[:1]))  # tries whether the model takes a tree
    passes = []
    engine._weights.model.model.register_forward_hook(lambda *_: passes.append(1))
    list(engine.score(requests[:1]))
    alone = len(passes)
    list(engine.score(requests))
    assert len(passes) == 2 * alone


def test_empty_context_is_an_error(tiny_model_dir):
    engine = open_engine(str(tiny_model_dir), EngineOptions(device="cpu"))
    with pytest.raises(UserError, match="needs a context of one token at least"):
        list(engine.score([ScoreRequest("empty", (), (5,))]))
