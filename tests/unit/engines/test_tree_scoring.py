"""Scoring along a token tree: every token computed once, whatever the block, the window or the memory."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from test_scoring import CHOICES, INSTRUCTION, QUESTIONS, reference_scores, requests_of

from zephyr_bench.engines import open_engine, part_attention
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.engines.token_tree import planted
from zephyr_bench.engines.tree_scoring import takes_trees
from zephyr_bench.records import ScoreRequest

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB."


def opened(model, *, tree_tokens=256):
    engine = open_engine(str(model), EngineOptions(device="cpu"))
    loaded = engine._weights
    loaded.batching = replace(loaded.batching, tree_tokens=tree_tokens)
    return engine


def scores(engine, requests):
    return {scored.key: (scored.log_prob, scored.is_greedy) for scored in engine.score(requests)}


def assert_right(engine, requests, found):
    lengths = {request.key: len(request.continuation) for request in requests}
    expected = reference_scores(engine, requests)
    assert found.keys() == expected.keys()
    for key, (log_prob, is_greedy) in expected.items():
        assert found[key] == (pytest.approx(log_prob, abs=2e-5 * lengths[key]), is_greedy)


def passes(engine, sizes):
    """Notes the tokens of each pass through the body."""
    body = engine._weights.model.base_model
    body.register_forward_pre_hook(lambda _, __, given: sizes.append(given["input_ids"].numel()), with_kwargs=True)
    return sizes


def test_the_architectures_of_the_tests_take_trees(other_architecture, tiny_model_dir):
    assert takes_trees(opened(other_architecture)._weights.model)
    assert takes_trees(opened(tiny_model_dir)._weights.model)


@pytest.mark.parametrize("tree_tokens", [1, 5, 64])
def test_blocks_of_any_size_give_a_plain_passes_scores(other_architecture, tree_tokens):
    engine = opened(other_architecture, tree_tokens=tree_tokens)
    requests = requests_of(engine)
    assert_right(engine, requests, scores(engine, requests))


@pytest.mark.parametrize("queries", [1, 7, 100])
def test_attention_in_parts_gives_a_plain_passes_scores(other_architecture, monkeypatch, queries):
    monkeypatch.setattr(part_attention, "_CPU_QUERIES", queries)
    engine = opened(other_architecture, tree_tokens=1024)
    model = engine._weights.model
    own = model.config._attn_implementation
    requests = requests_of(engine)
    assert_right(engine, requests, scores(engine, requests))
    assert model.config._attn_implementation == own
    assert not part_attention._parts


def test_each_distinct_token_is_computed_once(tiny_model_dir):
    engine = opened(tiny_model_dir)
    requests = requests_of(engine)
    scores(engine, requests[:1])  # tries whether the model takes a tree
    sizes = passes(engine, [])
    scores(engine, requests)
    split = [4, 4]  # the two tries of the head
    inputs = [(request.context + request.continuation)[:-1] for request in requests]
    assert sum(sizes) - sum(split) == planted(inputs, [0] * len(inputs)).tree.size


def test_the_head_runs_only_where_something_is_read(tiny_model_dir):
    engine = opened(tiny_model_dir)
    context = tuple(engine.encode(INSTRUCTION + QUESTIONS[0]))
    requests = [ScoreRequest(choice, context, tuple(engine.encode(choice))) for choice in CHOICES]
    scores(engine, requests[:1])
    rows = []
    engine._weights.model.get_output_embeddings().register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    scores(engine, requests)
    inputs = [(request.context + request.continuation)[:-1] for request in requests]
    read = {sequence[:end] for sequence in inputs for end in range(len(context), len(sequence) + 1)}
    assert sum(rows[-1:]) == len(read)


def test_blocks_are_halved_where_memory_runs_out_and_nothing_is_lost(tiny_model_dir):
    engine = opened(tiny_model_dir)
    requests = requests_of(engine)
    scores(engine, requests[:1])
    attention = engine._weights.model.base_model.layers[1].self_attn  # the first layer has kept its keys by then

    def fails(_, args, given):
        if given["hidden_states"].shape[1] > 20:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    attention.register_forward_pre_hook(fails, with_kwargs=True)
    sizes = passes(engine, [])
    assert_right(engine, requests, scores(engine, requests))
    assert max(sizes[3:]) > 20 > max(sizes[-3:])


def test_memory_that_lacks_for_one_token_is_an_error(tiny_model_dir):
    engine = opened(tiny_model_dir)
    requests = requests_of(engine)
    scores(engine, requests[:1])

    def fails(*_):
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    engine._weights.model.base_model.layers[0].register_forward_pre_hook(fails)
    with pytest.raises(torch.OutOfMemoryError):
        scores(engine, requests)


@pytest.mark.parametrize(("free", "largest"), [(10**12, 256), (8 * 4096, 64), (8, 1)])
def test_a_gpus_blocks_take_half_of_what_is_free(tiny_model_dir, monkeypatch, free, largest):
    """By what a small one took: here 64 KiB for 256 tokens, played by a GPU that only counts."""
    engine = opened(tiny_model_dir, tree_tokens=256)
    requests = requests_of(engine)
    scores(engine, requests[:1])
    for name, bytes_ in {
        "memory_allocated": 1000,
        "max_memory_allocated": 1000 + 64 * 1024,
        "memory_reserved": 1000,
        "reset_peak_memory_stats": None,
        "mem_get_info": (free, 10**12),
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, told=bytes_: told)
    monkeypatch.setattr(engine._weights, "device", SimpleNamespace(type="cuda"))
    sizes = passes(engine, [])
    assert_right(engine, requests, scores(engine, requests))
    assert max(sizes[3:]) == largest


def test_an_architecture_that_takes_no_mask_of_ours_is_scored_in_groups(tiny_model_dir, tmp_path):
    """BLOOM makes its positions of a mask of two dimensions."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    options = {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3, "eos_token_id": 2}
    config = AutoConfig.for_model("bloom", vocab_size=len(tokenizer), seq_length=512, **options)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "bloom")
    tokenizer.save_pretrained(tmp_path / "bloom")
    engine = opened(tmp_path / "bloom")
    assert not takes_trees(engine._weights.model)
    requests = requests_of(engine)
    assert_right(engine, requests, scores(engine, requests))


def test_bfloat16_scores_are_near(tiny_model_dir):
    exact, coarse = (
        scores(open_engine(str(tiny_model_dir), EngineOptions(device="cpu", dtype=dtype)), requests)
        for requests in [requests_of(opened(tiny_model_dir))]
        for dtype in ("float32", "bfloat16")
    )
    assert {key: log_prob for key, (log_prob, _) in coarse.items()} == {
        key: pytest.approx(log_prob, rel=0.05) for key, (log_prob, _) in exact.items()
    }


def test_scores_come_before_the_whole_tree_is_computed(tiny_model_dir):
    engine = opened(tiny_model_dir, tree_tokens=8)
    requests = requests_of(engine)
    scores(engine, requests[:1])
    sizes = passes(engine, [])
    next(engine.score(requests))
    assert sum(sizes) < 100


def test_memory_that_lacks_for_masks_leaves_the_model_as_it_was(tiny_model_dir, monkeypatch):
    engine = opened(tiny_model_dir)
    requests = requests_of(engine)
    scores(engine, requests[:1])
    plain, calls = part_attention._cut, []

    def fails_once(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        return plain(*arguments)

    monkeypatch.setattr(part_attention, "_cut", fails_once)
    own = engine._weights.model.config._attn_implementation
    assert_right(engine, requests, scores(engine, requests))
    assert engine._weights.model.config._attn_implementation == own
    assert not part_attention._parts


def test_groups_are_halved_where_memory_runs_out(tiny_model_dir):
    engine = opened(tiny_model_dir)
    engine._weights.scores_along_trees = False

    def fails(_, __, given):
        if given["input_ids"].shape[0] > 2:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    engine._weights.model.base_model.register_forward_pre_hook(fails, with_kwargs=True)
    requests = requests_of(engine)
    assert_right(engine, requests, scores(engine, requests))


def test_positions_that_turn_by_the_longest_of_a_pass_are_computed_alone(tiny_model_dir, tmp_path):
    """Phi-3's long contexts: what is beyond 64 tokens is encoded otherwise, and so is all beside it."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    config = AutoConfig.for_model(
        "phi3",
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=len(tokenizer),
        initializer_range=0.3,
        original_max_position_embeddings=64,
        max_position_embeddings=512,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0] * 4,
            "long_factor": [4.0] * 4,
        },
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "phi3")
    tokenizer.save_pretrained(tmp_path / "phi3")
    engine = opened(tmp_path / "phi3")
    assert not takes_trees(engine._weights.model)
    requests = requests_of(engine)
    assert_right(engine, requests, scores(engine, requests))
