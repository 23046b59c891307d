import random
from dataclasses import replace

import pytest
import torch

from zephyr_bench.engines import open_engine
from zephyr_bench.engines.protocol import CompletionRequest, EngineOptions
from zephyr_bench.errors import UserError
from zephyr_bench.records import GenerationRequest, Sampling

PROMPTS = (
    "What is 2+2?",
    "Name three colours.",
    "Write one sentence about the sea, and another about the mountains behind it.",
    "Who wrote Hamlet?",
    "Say hi.",
)


def engine_of(model, batch_size=None):
    return open_engine(str(model), EngineOptions(device="cpu", batch_size=batch_size))


def requests_of(sampling, prompts=PROMPTS):
    return [
        GenerationRequest(str(number), ({"role": "user", "content": prompt},), sampling)
        for number, prompt in enumerate(prompts)
    ]


def texts(results):
    return {result.key: result.text for result in results}


def reference_texts(engine, prompts, max_new_tokens):
    """transformers' own greedy generate, one prompt at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(engine.model.location)
    model = AutoModelForCausalLM.from_pretrained(engine.model.location, dtype=torch.float32)
    found = {}
    for number, prompt in enumerate(prompts):
        text = engine.render([{"role": "user", "content": prompt}])
        ids = torch.tensor([engine.encode(text)])  # (1, tokens)
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )
        found[str(number)] = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
    return found


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_greedy_text_equals_transformers_generate(tiny_model_dir, batch_size):
    engine = engine_of(tiny_model_dir, batch_size)
    found = texts(engine.generate(requests_of(Sampling(max_new_tokens=40))))
    assert found == reference_texts(engine, PROMPTS, 40)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 5])
def test_embedded_model_says_what_transformers_generate_says(embedded_model, batch_size):
    engine = engine_of(embedded_model, batch_size)
    found = texts(engine.generate(requests_of(Sampling(max_new_tokens=16))))
    assert found == reference_texts(engine, PROMPTS, 16)


def test_other_architectures_say_what_transformers_generate_says(other_architecture):
    engine = engine_of(other_architecture, 3)
    found = texts(engine.generate(requests_of(Sampling(max_new_tokens=24))))
    assert found == reference_texts(engine, PROMPTS, 24)


def dialogues(known, log):
    """Nine dialogues of three turns, unlike in length and heat; `known` are results that are there."""

    def request(number, said):
        key = f"{number} turn {len(said) // 2 + 1}"
        sampling = Sampling((0.0, 0.9)[number % 2], max_new_tokens=4 + 5 * (number % 4), seed=number)
        return GenerationRequest(key, messages_of(said), sampling, known.get(key))

    def then(result):
        log[result.key] = result
        number, turn = (int(word) for word in result.key.split(" turn "))
        said = [asked(number)]
        for earlier in range(1, turn + 1):
            said += [log[f"{number} turn {earlier}"].text, "And then?"]
        return [request(number, said)] if turn < 3 else []

    def asked(number):
        return PROMPTS[number % 5] * (1 + number % 3)

    return [request(number, [asked(number)]) for number in range(9)], then


def messages_of(said):
    """The user's words and the model's, in turn."""
    return tuple({"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said))


def noted_logits(monkeypatch):
    """(key, tokens made) -> the logits of the next token, of rows that aren't known; filled as they come."""
    from zephyr_bench.engines import decoding

    seen = {}
    advance = decoding._advance

    def recorded(loaded, batch, logits):
        for number, row in enumerate(batch.rows if logits is not None else ()):
            if row.known is None:
                seen[row.request.key, len(row.made)] = logits[number].clone()
        return advance(loaded, batch, logits)

    monkeypatch.setattr(decoding, "_advance", recorded)
    return seen


@pytest.mark.parametrize("stored", [1, 6, 11, 14, 19, 26])
def test_a_run_taken_up_again_computes_the_very_bits_of_an_unbroken_one(tiny_model_dir, monkeypatch, stored):
    """Whatever was stored when it was killed: the logits of the rest, not only their texts, are the same."""
    seen = noted_logits(monkeypatch)
    engine = engine_of(tiny_model_dir, 4)
    unbroken = {}
    requests, then = dialogues({}, unbroken)
    in_order = [result.key for result in engine.generate(requests, then=then)]
    whole = dict(seen)
    seen.clear()
    resumed = {}
    requests, then = dialogues({key: unbroken[key] for key in in_order[:stored]}, resumed)
    rest = [result.key for result in engine.generate(requests, then=then)]
    assert rest == in_order[stored:]
    assert resumed == unbroken
    assert {key for key, _ in seen} == set(rest)
    assert all((whole[place] == logits).all() for place, logits in seen.items())


@pytest.mark.parametrize("batch_size", [1, 3])
def test_later_turns_read_only_what_is_new_and_say_the_same(tiny_model_dir, monkeypatch, batch_size):
    from zephyr_bench.engines import decoding

    begun = {}
    read_prompts = decoding._read_prompts

    def noted(loaded, rows):
        begun.update({row.request.key: (len(row.prompt) - row.unread, len(row.prompt)) for row in rows})
        return read_prompts(loaded, rows)

    monkeypatch.setattr(decoding, "_read_prompts", noted)
    engine = engine_of(tiny_model_dir, batch_size)
    requests, then = dialogues({}, {})
    asked = {request.key: request for request in requests}

    def listening(result):
        following = list(then(result))
        asked.update({request.key: request for request in following})
        return following

    found = texts(engine.generate(requests, then=listening))
    assert len(found) == 27
    for key, (tokens, _) in begun.items():
        number, turn = key.split(" turn ")
        assert turn == "1" or tokens == begun[f"{number} turn {int(turn) - 1}"][1]
    assert found == texts(engine_of(tiny_model_dir).generate(asked.values()))


def test_nothing_is_held_for_later_turns_beyond_the_room(tiny_model_dir, monkeypatch):
    from zephyr_bench.engines import decoding

    engine = engine_of(tiny_model_dir, 2)
    requests, then = dialogues({}, {})
    plenty = texts(engine.generate(requests, then=then))
    held, admit = [], decoding._admit

    def noted(batching, queue, running):
        held.append(queue.begun)
        return admit(batching, queue, running)

    monkeypatch.setattr(decoding, "_admit", noted)
    engine._weights.batching = replace(engine._weights.batching, begun_tokens=100)
    requests, then = dialogues({}, {})
    assert texts(engine.generate(requests, then=then)) == plenty
    assert 0 < max(held) <= 100


def lacking_memory(engine, fits):
    """The model's memory runs out where `fits(ids)` is false; notes the rows of each pass."""
    rows = []

    def fails(_, __, given):
        rows.append(given["input_ids"].shape[0])
        if not fits(given["input_ids"]):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    engine._weights.model.register_forward_pre_hook(fails, with_kwargs=True)
    return rows


def test_where_memory_runs_out_fewer_rows_go_on_and_all_is_said(tiny_model_dir):
    """While prompts are read and while answers are made; sampled ones, and those that follow, as ever."""
    requests, then = dialogues({}, {})
    expected = texts(engine_of(tiny_model_dir, 8).generate(requests, then=then))
    passes = iter(range(10**6))
    engine = engine_of(tiny_model_dir, 8)
    rows = lacking_memory(engine, lambda ids: len(ids) <= (6, 3)[next(passes) > 20])
    requests, then = dialogues({}, {})
    found = list(engine.generate(requests, then=then))
    assert texts(found) == expected
    assert len(found) == len(expected)
    assert max(rows) > 6
    assert max(rows[-20:]) <= 3


def test_memory_that_lacks_for_one_row_is_an_error(tiny_model_dir):
    engine = engine_of(tiny_model_dir, 4)
    rows = lacking_memory(engine, lambda _: False)
    told = r"memory ran out on cpu while one answer alone was made, after a prompt of \d+ tokens and 0 of at most 4 "
    with pytest.raises(UserError, match=told):
        list(engine.generate(requests_of(Sampling(max_new_tokens=4))))
    assert rows == [4, 2, 1]


def test_what_is_no_lack_of_memory_is_raised_as_it_is(tiny_model_dir):
    engine = engine_of(tiny_model_dir, 4)

    def fails(*_):
        raise RuntimeError("no such kernel")

    engine._weights.model.register_forward_pre_hook(fails)
    with pytest.raises(RuntimeError, match="no such kernel"):
        list(engine.generate(requests_of(Sampling(max_new_tokens=4))))


def test_a_second_turn_that_leaves_no_room_is_empty_and_the_rest_goes_on(tiny_model_dir):
    engine = engine_of(tiny_model_dir, 2)
    sampling = Sampling(max_new_tokens=12)
    first = [GenerationRequest(f"first {n}", messages_of(["Hi" * n]), sampling) for n in (1, 2, 3)]
    following = {"first 1": "second 1", "first 2": "too long", "too long": "after it", "first 3": "second 3"}

    def then(result):
        if result.key not in following:
            return []
        said = "long " * 600 if result.key == "first 2" else "And then?"
        return [GenerationRequest(following[result.key], messages_of([said]), sampling)]

    found = {result.key: result for result in engine.generate(first, then=then)}
    assert found.keys() == following.keys() | set(following.values())
    nothing = found["too long"]
    assert (nothing.text, nothing.finish_reason, nothing.completion_tokens) == ("", "length", 0)
    assert nothing.prompt_tokens > engine.max_length
    known = [replace(request, made=found[request.key]) for request in first]
    assert {result.key for result in engine.generate(known, then=then)} == set(following.values())


def test_sampled_text_is_the_same_whatever_the_batch(tiny_model_dir):
    requests = requests_of(Sampling(temperature=1.0, top_p=0.9, max_new_tokens=30, seed=11))
    engine = engine_of(tiny_model_dir)
    together = texts(engine.generate(requests))
    narrow = texts(engine_of(tiny_model_dir, 2).generate(reversed(requests)))
    alone = {request.key: next(iter(engine.generate([request]))).text for request in requests}
    assert together == narrow == alone


def test_greedy_rows_are_untouched_by_sampled_ones_beside_them(tiny_model_dir):
    engine = engine_of(tiny_model_dir)
    greedy = requests_of(Sampling(max_new_tokens=20))
    sampled = [
        replace(request, key=f"hot{request.key}", sampling=Sampling(1.3, max_new_tokens=20, seed=3))
        for request in greedy
    ]
    mixed = texts(engine.generate([*greedy, *sampled]))
    assert {key: mixed[key] for key in "01234"} == texts(engine.generate(greedy))


def test_every_row_has_its_own_length(tiny_model_dir):
    limits = (3, 17, 1, 9, 5)
    requests = [
        replace(request, sampling=Sampling(temperature=1.5, max_new_tokens=limit, seed=limit))
        for request, limit in zip(requests_of(Sampling()), limits, strict=True)
    ]
    for result in engine_of(tiny_model_dir, 3).generate(requests):
        limit = limits[int(result.key)]
        assert result.completion_tokens == limit or (
            result.finish_reason == "stop" and result.completion_tokens < limit
        )


def test_short_answers_are_yielded_before_long_ones_end(tiny_model_dir):
    lengths = {"long": 60, "short": 2}
    requests = [
        CompletionRequest(key, tuple(b"same prompt"), Sampling(max_new_tokens=length))
        for key, length in lengths.items()
    ]
    results = engine_of(tiny_model_dir).complete(requests)
    assert next(results).key == "short"


def test_earliest_stop_string_wins(tiny_model_dir):
    engine = engine_of(tiny_model_dir)
    request = requests_of(Sampling(max_new_tokens=40))[2]
    (whole,) = engine.generate([request])
    first, later = whole.text[5:8], whole.text[12:16]
    stop = (later, first, "never said in any answer")
    (cut,) = engine.generate([replace(request, sampling=Sampling(max_new_tokens=40, stop=stop))])
    at = min(whole.text.index(first), whole.text.index(later))
    assert (cut.text, cut.finish_reason) == (whole.text[:at], "stop")


def test_nucleus_of_nothing_but_the_best_is_greedy(tiny_model_dir):
    engine = engine_of(tiny_model_dir)
    greedy = texts(engine.generate(requests_of(Sampling(max_new_tokens=20))))
    assert texts(engine.generate(requests_of(Sampling(1.0, top_p=1e-6, max_new_tokens=20)))) == greedy


def test_sampling_follows_the_distribution():
    import torch

    from zephyr_bench.engines.sampling import choose

    n = 20_000
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    chances = [random.Random(seed) for seed in range(n)]
    tokens = choose(probabilities.log().expand(n, -1).clone(), [Sampling(1.0, top_p=0.9)] * n, chances)  # no fourth
    shares = torch.bincount(tokens, minlength=4) / n
    expected = torch.tensor([0.5, 0.3, 0.15, 0.0]) / 0.95
    assert torch.allclose(shares, expected, atol=0.015)  # four standard errors
    assert shares[3] == 0


def test_an_answer_ends_where_the_model_is_full(tiny_model_dir):
    engine = engine_of(tiny_model_dir)
    request = CompletionRequest("full", (5,) * (engine.max_length - 3), Sampling(max_new_tokens=100))
    (result,) = engine.complete([request])
    assert result.completion_tokens <= 3


def test_prompt_longer_than_the_model_is_an_error_before_any_result(tiny_model_dir):
    engine = engine_of(tiny_model_dir)
    fits = CompletionRequest("fits", (5, 6), Sampling(max_new_tokens=1))
    with pytest.raises(UserError, match="a prompt of 512 tokens leaves no room"):
        engine.complete([fits, CompletionRequest("long", (5,) * 512, Sampling())])


EXAMPLES = "".join(f"Question: what is {n} and {n + 1}?\nAnswer: it is {2 * n + 1}.\n\n" for n in range(4))


def few_shot(engine, known=None, count=9):
    """Prompts behind the same examples, some behind others, one twice, one alone; unlike in length and heat."""
    prompts = [f"{EXAMPLES}Question: {PROMPTS[n % 5]}{' Please.' * (n % 3)}\nAnswer:" for n in range(count)]
    prompts += [f"Rows of another task.\n{EXAMPLES * 2}{PROMPTS[n]}" for n in range(3)] + [prompts[4], "Alone."]
    return [
        CompletionRequest(
            str(number),
            tuple(engine.encode(prompt)),
            Sampling((0.0, 0.9)[number % 2], max_new_tokens=4 + 5 * (number % 4), seed=number),
            (known or {}).get(str(number)),
        )
        for number, prompt in enumerate(prompts)
    ]


def prompt_tokens_read(engine):
    """Notes (rows, columns) of each pass that reads prompts or a beginning of several."""
    shapes = []
    engine._weights.model.base_model.register_forward_pre_hook(
        lambda _, __, given: shapes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    return shapes


def test_a_beginning_that_prompts_share_is_read_once(tiny_model_dir):
    engine = engine_of(tiny_model_dir)
    requests = few_shot(engine)
    shapes = prompt_tokens_read(engine)
    found = texts(engine.complete(requests))
    read = sum(rows * columns for rows, columns in shapes if columns > 1)
    assert read < sum(len(request.prompt) for request in requests) / 2
    alone = {}
    for request in requests:
        alone |= texts(engine_of(tiny_model_dir).complete([request]))
    assert found == alone


@pytest.mark.parametrize("stored", [1, 5, 9, 12])
def test_shared_beginnings_leave_a_run_taken_up_again_its_bits(tiny_model_dir, monkeypatch, stored):
    seen = noted_logits(monkeypatch)
    engine = engine_of(tiny_model_dir, 4)
    unbroken = list(engine.complete(few_shot(engine)))
    whole = dict(seen)
    seen.clear()
    known = {result.key: result for result in unbroken[:stored]}
    rest = list(engine.complete(few_shot(engine, known)))
    assert rest == unbroken[stored:]
    assert seen
    assert all((whole[place] == logits).all() for place, logits in seen.items())


def test_nothing_is_shared_beyond_the_room(tiny_model_dir):
    from zephyr_bench.engines.rows import Rows, share_beginnings

    engine = engine_of(tiny_model_dir)
    rows = [Rows(lambda _: [], 512).row(request) for request in few_shot(engine)]
    share_beginnings(rows, room=len(EXAMPLES) + 40)
    begun = {id(row.begun): row.begun.tokens for row in rows if row.begun}
    assert 0 < sum(begun.values()) <= len(EXAMPLES) + 40
    assert len(begun) == 1
    for row in rows:
        row.begun = None
    share_beginnings(rows, room=100)
    assert not any(row.begun for row in rows)
