"""Our engine under lm-eval against lm-eval's own `hf` model: the same requests, tokens and scores."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from lm_eval.api.instance import Instance
from tiny_model import let_add_bos

from zephyr_bench.engines import open_engine
from zephyr_bench.engines.lm_eval_model import EngineLM
from zephyr_bench.engines.protocol import EngineOptions

FEW_SHOT = "Question: the capital of Italy?\nAnswer: Rome\n\nQuestion: the capital of France?\nAnswer:"
PAIRS = [
    (FEW_SHOT, " Paris"),
    (FEW_SHOT, " London"),
    (FEW_SHOT, " Paris, which lies on the Seine"),
    (FEW_SHOT, " A"),
    (FEW_SHOT, " B"),
    (FEW_SHOT + " ", "Paris"),  # the blank belongs to the continuation
    ("She opened the door and", " ran into the gar" + "den"),
    ("She opened the door and", "ran"),  # no blank: another token
    ("un", "believable"),  # the boundary lies inside a word
    ("", "The sky is blue."),  # empty context
    ("", " The sky is blue."),
    ("Zwölf Boxkämpfer jagen ", "Viktor quer über den großen Sylter Deich"),
    ("def f(x):\n    return", " x + 1\n"),
    ("<|im_start|>user\nHi<|im_end|>\n", "<|im_start|>assistant"),  # begins with BOS
]
TEXTS = ["A short text.", "One two three four five. " * 60, "<|im_start|>begins with BOS", "x"]


class Nothing:
    """A cache that forgets."""

    def answers(self, keys):
        return {}

    def use_answers(self, keys):
        pass

    def add_answers(self, answered):
        pass

    def token_scores(self, keys):
        return {}

    def add_token_scores(self, scores):
        pass


def with_bos(tiny_model_dir: Path, folder: Path) -> Path:
    """The tiny model, with a tokenizer that puts BOS before every text."""
    import shutil

    from transformers import AutoTokenizer

    shutil.copytree(tiny_model_dir, folder)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    let_add_bos(tokenizer)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(params=["tiny", "tiny with BOS", pytest.param("embedded", marks=pytest.mark.slow)])
def models(request, tiny_model_dir, embedded_model, tmp_path):
    """(lm-eval's model, ours) over the same weights."""
    from lm_eval.models.huggingface import HFLM

    name = {"tiny": str(tiny_model_dir), "embedded": embedded_model}.get(request.param)
    engine = open_engine(name or str(with_bos(tiny_model_dir, tmp_path / "bos")), EngineOptions(device="cpu"))
    theirs = HFLM(pretrained=engine.model.location, device="cpu", dtype="float32", batch_size=1)
    return theirs, EngineLM(engine, Nothing())


def instances(kind, arguments):
    return [Instance(kind, {}, found, number) for number, found in enumerate(arguments)]


def test_log_likelihoods_and_greedy_flags_are_lm_evals(models):
    theirs, ours = models
    requests = instances("loglikelihood", PAIRS)
    expected, found = theirs.loglikelihood(requests, disable_tqdm=True), ours.loglikelihood(requests)
    for pair, (log_prob, is_greedy), (our_log_prob, our_is_greedy) in zip(PAIRS, expected, found, strict=True):
        assert our_log_prob == pytest.approx(log_prob, abs=2e-5 * len(ours.tok_encode(pair[1])))
        assert our_is_greedy == is_greedy


def test_too_long_contexts_are_cut_as_lm_eval_cuts_them(models):
    theirs, ours = models
    theirs._max_length = ours._engine.max_length = 48
    requests = instances("loglikelihood", [(FEW_SHOT * 3, " Paris"), (FEW_SHOT * 3, " Rome, I think")])
    expected, found = theirs.loglikelihood(requests, disable_tqdm=True), ours.loglikelihood(requests)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=5e-4)


def test_rolling_log_likelihoods_are_lm_evals(models, monkeypatch):
    theirs, ours = models
    theirs._max_length = ours._engine.max_length = 64
    requests = instances("loglikelihood_rolling", [(text,) for text in TEXTS])
    expected, found = (
        theirs.loglikelihood_rolling(requests, disable_tqdm=True),
        ours.loglikelihood_rolling(requests),
    )
    # padding moves what float32 rounds away, so lm-eval's own are several numbers
    monkeypatch.setattr(theirs, "batch_size_per_gpu", 8)
    padded = theirs.loglikelihood_rolling(requests, disable_tqdm=True)
    for request, our_log_prob, *peers in zip(requests, found, expected, padded, strict=True):
        near = 2e-5 * len(ours.tok_encode(request.args[0]))
        if abs(our_log_prob - peers[0]) > near:
            (right,) = in_float64(theirs, lambda one=request: theirs.loglikelihood_rolling([one], disable_tqdm=True))
            assert abs(our_log_prob - right) <= max(near, *(abs(peer - right) for peer in peers))


def in_float64(theirs, ask):
    """What lm-eval's model says in double precision: it decides where two float32 scores differ."""
    single = theirs._model
    theirs._model = copy.deepcopy(single).double()
    try:
        return ask()
    finally:
        theirs._model = single


def test_greedy_completions_are_lm_evals(models):
    theirs, ours = models
    options = [
        {"until": ["\n\n", "."], "max_gen_toks": 24, "do_sample": False, "temperature": 0.0},
        {"until": "Question:", "max_gen_toks": 12},
        {"until": [], "max_gen_toks": 5, "do_sample": False},
    ]
    requests = instances("generate_until", [(FEW_SHOT + str(number), found) for number, found in enumerate(options)])
    assert ours.generate_until(requests) == theirs.generate_until(requests, disable_tqdm=True)


def test_chats_are_rendered_as_lm_eval_renders_them(models):
    theirs, ours = models
    chat = [{"role": "user", "content": "Hi"}]
    begun = [*chat, {"role": "assistant", "content": "The answer is"}]
    assert ours.apply_chat_template(chat) == theirs.apply_chat_template(chat)
    assert ours.apply_chat_template(begun, False) == theirs.apply_chat_template(begun, False)
    assert ours.chat_template(True) == theirs.chat_template(True)
