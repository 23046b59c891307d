"""The two-turn prompt is what the model reads, and each thing wrong with it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_model import CHAT_TEMPLATE, let_add_bos, make_tiny_model

from zephyr_bench.engines import open_engine
from zephyr_bench.engines.prompt_check import Finding, TwoTurnPrompt, findings, two_turn_prompt
from zephyr_bench.engines.protocol import EngineOptions, ScoringEngine
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import GenerationRequest, Sampling

BOS, EOS = 1, 2  # of the tiny model: <|im_start|> and <|im_end|>
DECLARED = frozenset({EOS})
WITHOUT_BOS = (
    "{% for message in messages %}"
    "{{ '[' + message['role'] + ']\n' + message['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '[assistant]\n' }}{% endif %}"
)
WITHOUT_EOS = CHAT_TEMPLATE.replace("<|im_end|>", "<|endoftext|>")
WITHOUT_ANSWERS = CHAT_TEMPLATE.replace("messages %}", "messages if message['role'] == 'user' %}")


@pytest.fixture
def engine_with(tmp_path: Path) -> Callable[..., ScoringEngine]:
    def make(template: str | None = CHAT_TEMPLATE, *, tokenizer_adds_bos: bool = False) -> ScoringEngine:
        folder = make_tiny_model(tmp_path / "model", chat_template=template)
        if tokenizer_adds_bos:
            _let_tokenizer_add_bos(folder)
        engine = open_engine(str(folder), EngineOptions(device="cpu"))
        assert isinstance(engine, ScoringEngine)
        return engine

    return make


def _let_tokenizer_add_bos(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    let_add_bos(tokenizer)
    tokenizer.save_pretrained(folder)


def _found(engine: ScoringEngine, declared_ends: frozenset[int] = DECLARED) -> list[Finding]:
    return list(findings(engine, two_turn_prompt(engine, declared_ends)))


def _only(found: list[Finding]) -> tuple[str, str, str]:
    (finding,) = found
    return finding.what, finding.state, finding.told


def test_prompt_holds_both_turns_and_asks_for_the_second_answer(engine_with):
    prompt = two_turn_prompt(engine_with(), DECLARED)
    assert prompt.text == (
        "<|im_start|>user\n{turn 1}<|im_end|>\n<|im_start|>assistant\n{answer 1}<|im_end|>\n"
        "<|im_start|>user\n{turn 2}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (prompt.start, prompt.ends, prompt.after_answer) == (BOS, {EOS}, "<|im_end|>\n<|im_start|>user\n")


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, WITHOUT_BOS])
@pytest.mark.parametrize("tokenizer_adds_bos", [False, True])
def test_checked_tokens_are_as_many_as_the_model_reads(engine_with, template, tokenizer_adds_bos):
    engine = engine_with(template, tokenizer_adds_bos=tokenizer_adds_bos)
    chat = tuple(
        {"role": role, "content": text}
        for role, text in (("user", "{turn 1}"), ("assistant", "{answer 1}"), ("user", "{turn 2}"))
    )
    (answer,) = engine.generate([GenerationRequest("1", chat, Sampling(max_new_tokens=1))])
    assert len(two_turn_prompt(engine, DECLARED).tokens) == answer.prompt_tokens


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, WITHOUT_BOS])
def test_nothing_is_found_where_the_template_fits(engine_with, template):
    assert _found(engine_with(template)) == []


@pytest.mark.slow
def test_nothing_is_found_on_the_embedded_model(embedded_model):
    engine = open_engine(embedded_model, EngineOptions(device="cpu"))
    assert isinstance(engine, ScoringEngine)
    assert _found(engine, frozenset({engine.end_token})) == []


def test_template_that_writes_bos_twice_is_warned_of(engine_with):
    what, state, told = _only(_found(engine_with("{{ bos_token }}" + CHAT_TEMPLATE)))
    assert (what, state) == ("double BOS", "warn")
    assert 'writes "<|im_start|>" twice' in told


def test_bos_that_only_other_callers_double_is_a_note(engine_with):
    what, state, told = _only(_found(engine_with(tokenizer_adds_bos=True)))
    assert (what, state) == ("double BOS", "note")
    assert told.startswith("not here")


def test_bos_that_the_template_leaves_to_the_tokenizer_is_read_once_and_noted(engine_with):
    engine = engine_with(WITHOUT_BOS, tokenizer_adds_bos=True)
    what, state, told = _only(_found(engine))
    assert (what, state) == ("missing BOS", "note")
    assert told.startswith("not here")
    tokens = two_turn_prompt(engine, DECLARED).tokens
    assert (tokens[0], tokens.count(BOS)) == (BOS, 1)


def test_answers_without_an_end_token_are_warned_of(engine_with):
    what, state, told = _only(_found(engine_with(WITHOUT_EOS)))
    assert (what, state) == ("missing EOS", "warn")
    assert "<|endoftext|>" in told
    assert '("<|im_end|>")' in told


def test_end_token_of_the_generation_config_ends_an_answer_too(engine_with):
    assert _found(engine_with(WITHOUT_EOS), frozenset({0})) == []  # <|endoftext|>


def test_end_token_after_the_second_turn_alone_is_not_enough(engine_with):
    template = CHAT_TEMPLATE.replace("'<|im_end|>\n'", "('<|im_end|>\n' if message['role'] == 'user' else '\n')")
    assert _only(_found(engine_with(template)))[:2] == ("missing EOS", "warn")


def test_generation_config_without_end_token_is_a_note_where_the_tokenizer_has_one(engine_with):
    what, state, told = _only(_found(engine_with(), frozenset()))
    assert (what, state) == ("missing EOS", "note")
    assert "generation_config.json" in told


def test_model_without_any_end_token_is_warned_of(engine_with):
    engine = engine_with()
    folder = Path(engine.model.location)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": None}))
    what, state, told = _only(_found(open_engine(str(folder), EngineOptions(device="cpu")), frozenset()))
    assert (what, state) == ("missing EOS", "warn")
    assert told.startswith("neither the tokenizer nor generation_config.json")


def test_template_that_hides_the_first_answer_is_warned_of(engine_with):
    assert _only(_found(engine_with(WITHOUT_ANSWERS)))[:2] == ("first answer", "warn")


def test_a_checkpoint_is_not_asked_through_another_template_than_it_was_trained_with(engine_with):
    engine = engine_with()
    engine.model = replace(engine.model, lineage={"chat_template": fingerprint(WITHOUT_BOS)})
    told = rf"another \({fingerprint(CHAT_TEMPLATE)[7:15]}\) than .* trained with \({fingerprint(WITHOUT_BOS)[7:15]} in"
    with pytest.raises(UserError, match=told):
        _found(engine)
    request = GenerationRequest("1", ({"role": "user", "content": "Hi"},), Sampling(max_new_tokens=1))
    with pytest.raises(UserError, match=told):
        next(engine.generate([request]))
    assert engine.encode("plain text is asked all the same")


@pytest.mark.parametrize("lineage", [{}, {"stage": "dsft"}, {"chat_template": fingerprint(CHAT_TEMPLATE)}])
def test_template_trained_with_and_one_of_unknown_training_give_no_warning(engine_with, lineage):
    engine = engine_with()
    engine.model = replace(engine.model, lineage=lineage)
    assert _found(engine) == []


def test_model_without_chat_template_has_no_prompt(engine_with):
    with pytest.raises(UserError, match="has no chat template"):
        two_turn_prompt(engine_with(None), DECLARED)


def test_nothing_is_loaded_but_the_tokenizer(engine_with):
    engine = engine_with()
    for weights in Path(engine.model.location).glob("*.safetensors"):
        weights.unlink()
    assert isinstance(two_turn_prompt(engine, DECLARED), TwoTurnPrompt)
