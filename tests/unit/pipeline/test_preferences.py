"""Held-out preference accuracy against log-probabilities taken the plain way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from zephyr_bench.benchmarks.evaluate import evaluate
from zephyr_bench.engines import open_engine
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.pipeline.preferences import MARGIN, HeldOutPreferences, interval_percent
from zephyr_bench.progress import Progress
from zephyr_bench.records import Score
from zephyr_bench.store import Store
from zephyr_bench.training_data.data import Pair

PAIRS = [
    Pair(
        f"p{n}",
        ({"role": "user", "content": f"Question {n}?"},),
        {"role": "assistant", "content": f"Yes {n}."},
        {"role": "assistant", "content": "No, I would rather not say anything."},
    )
    for n in range(5)
]


def plain_log_prob(folder: Path, pair: Pair, answer: str) -> float:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompt = tokenizer.apply_chat_template(list(pair.prompt), tokenize=False, add_generation_prompt=True)
    chat = [*pair.prompt, {"role": "assistant", "content": answer}]
    whole = tokenizer.apply_chat_template(chat, tokenize=False)
    start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    ids = torch.tensor([tokenizer(whole, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        log_probs = model(ids).logits[0, :-1].log_softmax(-1)
    return float(log_probs[range(start - 1, ids.shape[1] - 1), ids[0, start:]].sum())


def test_margins_are_the_models_log_probabilities(tiny_model_dir: Path, tmp_path: Path) -> None:
    engine = open_engine(str(tiny_model_dir), EngineOptions())
    with Store(f"sqlite:///{tmp_path}/s.db") as store:
        outcome = evaluate(HeldOutPreferences(PAIRS), engine, judge=None, store=store, progress=Progress(quiet=True))
        margins = {sample.question: sample.value for sample in store.samples_of(outcome.run, MARGIN)}
    for pair in PAIRS:
        expected = plain_log_prob(tiny_model_dir, pair, pair.chosen["content"]) - plain_log_prob(
            tiny_model_dir, pair, pair.rejected["content"]
        )
        assert margins[pair.id] == pytest.approx(expected, abs=1e-3)
    right = sum(value is not None and value > 0 for value in margins.values())
    assert outcome.scores[0] == Score("log-prob-accuracy", 100 * right / 5, outcome.scores[0].stderr, 5)


def test_implicit_accuracy_is_against_the_reference(tiny_model_dir: Path, tmp_path: Path) -> None:
    """With a reference that is the model itself every margin is 0: a tie, half right, chance."""
    engine = open_engine(str(tiny_model_dir), EngineOptions())
    quiet = Progress(quiet=True)
    with Store(f"sqlite:///{tmp_path}/s.db") as store:
        first = evaluate(HeldOutPreferences(PAIRS), engine, judge=None, store=store, progress=quiet)
        own = {sample.question: sample.value or 0.0 for sample in store.samples_of(first.run, MARGIN)}
        tie = evaluate(HeldOutPreferences(PAIRS, reference=own), engine, judge=None, store=store, progress=quiet)
        lower = {name: value - 1 for name, value in own.items()}
        won = evaluate(HeldOutPreferences(PAIRS, reference=lower), engine, judge=None, store=store, progress=quiet)
    assert {score.metric: score.value for score in tie.scores}["implicit-accuracy"] == 50
    assert {score.metric: score.value for score in won.scores}["implicit-accuracy"] == 100


def test_interval_is_wilsons_in_per_cent() -> None:
    low, high = interval_percent(Score("implicit-accuracy", 68.0, 4.7, 100))
    assert (round(low, 1), round(high, 1)) == (58.3, 76.3)
