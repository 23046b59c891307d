"""From chats to tokens as TRL goes: what it learns of them, where it cuts them; then its losses and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_trl_losses import CLOSE, LOSSES, MIXED_PAIRS, TURNS, arguments, assert_same, gradients, moved, opened
from tiny_data import DIALOGUES
from tiny_model import CHAT_TEMPLATE, make_tiny_model

from zephyr_bench.recipe import DdpoStage
from zephyr_bench.records import Message
from zephyr_bench.trainers.ddpo import Referenced, preference_loss
from zephyr_bench.trainers.forward import Predictor
from zephyr_bench.training_data.data import Pair
from zephyr_bench.training_data.tokens import Example, PairExample, Tree, cut_pair, encode_dialogue, encode_pair

trl = pytest.importorskip("trl")

Row = dict[str, Any]
# TRL marks the assistant's part in the template
MARKED = CHAT_TEMPLATE.replace(
    "message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}",
    "message['role'] + '\n' }}{% if message['role'] == 'assistant' %}{% generation %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endgeneration %}{% else %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endif %}",
)
CHATS: list[list[Message]] = [
    *(row["messages"] for row in DIALOGUES[:3]),
    [*TURNS, {"role": "assistant", "content": "They are high."}],  # type: ignore[list-item]
]
BEFORE_ANSWERS: list[Message] = [{"role": "user", "content": "A question that is fairly long for so short a row."}]


def said(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]


# with a limit of 90: both fit; one fits; neither; both are as long; a prompt fills the row; an answer does
UNLIKE_PAIRS: list[Row] = [
    MIXED_PAIRS[0],
    {"prompt": BEFORE_ANSWERS, "chosen": said("No."), "rejected": said("Yes, and here is why.")},
    {"prompt": BEFORE_ANSWERS, "chosen": said("Maybe so, maybe not."), "rejected": said("Yes, and here is why.")},
    {"prompt": BEFORE_ANSWERS, "chosen": said("It is so, I am sure."), "rejected": said("It's not, I am sure.")},
    MIXED_PAIRS[3],
    {"prompt": BEFORE_ANSWERS, "chosen": said("So it is. " * 12), "rejected": said("No.")},
]


def pair_of(row: Row) -> Pair:
    return Pair("p", tuple(row["prompt"]), row["chosen"][0], row["rejected"][0])


def preference_trainer(folder: Path, rows: list[Row], tokenizer: Any, out: Path, **changes: Any) -> Any:
    """Against the model in `folder`, all its rows in one batch."""
    from datasets import Dataset

    return trl.DPOTrainer(
        model=moved(opened(folder)[0]),
        ref_model=opened(folder)[0],
        args=trl.DPOConfig(beta=0.1, **{**arguments(out), **changes}),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def sequences_of(inputs: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """(ids, whether each is the answer's) of each row of TRL's batch."""
    rows = zip(inputs["input_ids"], inputs["attention_mask"].bool(), inputs["completion_mask"], strict=True)
    return [(ids[present].tolist(), answered[present].tolist()) for ids, present, answered in rows]


def assert_preferences_are_theirs(
    folder: Path, trainer: Any, inputs: Any, examples: list[PairExample], loss: str
) -> None:
    """TRL's batch has all chosen before all rejected answers."""
    sides = [example.sides[number] for number in (0, 1) for example in examples]
    ours = [([*before, *answer], [0] * len(before) + [1] * len(answer)) for before, answer in sides]
    assert sorted(ours) == sorted(sequences_of(inputs))
    expected = trainer.compute_loss(trainer.model.train(), inputs)
    expected.backward()
    reference, model = opened(folder)[0], moved(opened(folder)[0]).train()
    with torch.no_grad():
        log_probs = Predictor(reference, pad=0)([one.tree for one in examples]).sums.view(-1, 2).tolist()
    batch = [Referenced(example, tuple(both)) for example, both in zip(examples, log_probs, strict=True)]
    stage = DdpoStage(learning_rate=1e-3, global_batch=8, beta=0.1, loss=loss)
    value, watched = preference_loss(Predictor(model, pad=0), batch, stage=stage)
    (value / len(batch)).backward()
    assert value.item() / len(batch) == pytest.approx(expected.item(), **CLOSE)
    margin = trainer._metrics["train"]["rewards/margins"][-1]
    assert watched["margin"].item() / len(batch) == pytest.approx(margin, **CLOSE)
    assert_same(gradients(model), gradients(trainer.model))


@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
@pytest.mark.parametrize("mode", ["keep_start", "keep_end"])
def test_pairs_that_are_too_long_are_cut_as_trl_cuts_them(
    tiny_model_dir: Path, tmp_path: Path, mode: str, loss: str
) -> None:
    tokenizer = opened(tiny_model_dir)[1]
    cut = {"max_length": 90, "truncation_mode": mode}
    trainer = preference_trainer(tiny_model_dir, UNLIKE_PAIRS, tokenizer, tmp_path, loss_type=LOSSES[loss], **cut)
    inputs = next(iter(trainer.get_train_dataloader()))
    examples = [encode_pair(tokenizer, pair_of(row), **cut) for row in UNLIKE_PAIRS]
    left = [example for example in examples if all(example.answers)]
    assert len(left) == len(UNLIKE_PAIRS) - (mode == "keep_start"), "the prompt that fills the row leaves no answer"
    assert any(example.before for example in left) == (mode == "keep_end")
    assert_preferences_are_theirs(tiny_model_dir, trainer, inputs, left, loss)


PROMPT, CHOSEN, REJECTED = "0123456789", "abcdefgh", "ABCD"
# as DPODataCollatorWithPadding of TRL 0.7.4 cut these three (its tokenize_batch_element, with the tiny model's
# tokenizer): max_length, max_prompt_length, truncation_mode; prompt, chosen, rejected; it ends an answer with EOS (|)
CUT_BY_TRL_0_7 = [
    (19, 6, "keep_end", "0123456789", "abcdefgh|", "ABCD|"),
    (18, 6, "keep_end", "456789", "abcdefgh|", "ABCD|"),
    (18, 6, "keep_start", "012345", "abcdefgh|", "ABCD|"),
    (14, 6, "keep_end", "456789", "abcdefgh", "ABCD|"),
    (12, 6, "keep_start", "012345", "abcdef", "ABCD|"),
    (8, 6, "keep_end", "456789", "ab", "AB"),
]


def ids_of(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text.replace("|", tokenizer.eos_token), add_special_tokens=False))


@pytest.mark.parametrize("case", CUT_BY_TRL_0_7, ids=lambda case: "-".join(map(str, case[:3])))
def test_with_max_prompt_length_a_pair_is_cut_as_trl_0_7_cut_it(
    tiny_model_dir: Path, tmp_path: Path, case: tuple[Any, ...]
) -> None:
    tokenizer = opened(tiny_model_dir)[1]
    max_length, max_prompt_length, mode, *texts = case
    whole, expected = (
        PairExample(ids_of(tokenizer, prompt), (ids_of(tokenizer, chosen), ids_of(tokenizer, rejected)))
        for prompt, chosen, rejected in ((PROMPT, CHOSEN + "|", REJECTED + "|"), texts)
    )
    cut = cut_pair(whole, max_length=max_length, max_prompt_length=max_prompt_length, truncation_mode=mode)
    assert cut == expected
    trainer = preference_trainer(tiny_model_dir, UNLIKE_PAIRS[:1], tokenizer, tmp_path, max_length=None)
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    inputs = trainer.data_collator([dict(zip(names, map(list, (expected.prompt, *expected.answers)), strict=True))])
    assert_preferences_are_theirs(tiny_model_dir, trainer, inputs, [cut], "sigmoid")


@pytest.fixture
def merging_model(tmp_path: Path) -> Path:
    """Its tokenizer joins the line break that ends the template's prompt with some answers' first character."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

    folder = make_tiny_model(tmp_path / "merging")
    plain = AutoTokenizer.from_pretrained(folder)
    merges = [("Ċ", "Ċ"), ("Ċ", "Y"), ("e", "s")]
    vocabulary = {**plain.get_vocab(), **{a + b: len(plain) + number for number, (a, b) in enumerate(merges)}}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, **plain.special_tokens_map, model_max_length=512, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = plain.chat_template
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_answers_that_merge_with_the_prompts_end_begin_where_trl_lets_them(merging_model: Path, tmp_path: Path) -> None:
    tokenizer = opened(merging_model)[1]
    rows = [
        {"prompt": BEFORE_ANSWERS, "chosen": said("Yes."), "rejected": said("No.")},
        {"prompt": BEFORE_ANSWERS, "chosen": said("\nSure."), "rejected": said("Yes, yes.")},
        {"prompt": TURNS, "chosen": said("No."), "rejected": said("Not so.")},
    ]
    trainer = preference_trainer(merging_model, rows, tokenizer, tmp_path)
    inputs = next(iter(trainer.get_train_dataloader()))
    examples = [encode_pair(tokenizer, pair_of(row), max_length=512) for row in rows]
    assert [example.merged for example in examples] == [True, True, False]
    asked = tokenizer.apply_chat_template(BEFORE_ANSWERS, add_generation_prompt=True)["input_ids"]
    assert list(examples[0].prompt) == asked[:-1], "the line break is the answer's, so the prompt ends before it"
    assert_preferences_are_theirs(merging_model, trainer, inputs, examples, "sigmoid")


def supervised_trainer(folder: Path, rows: list[Row], template: str | None, out: Path, **changes: Any) -> Any:
    from datasets import Dataset

    model, tokenizer = opened(folder)
    tokenizer.chat_template = template or tokenizer.chat_template
    return trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(**{**arguments(out), **changes}),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def learned_by(inputs: dict[str, Any]) -> list[tuple[list[int], list[bool]]]:
    """(ids, whether each is learned) of each sequence of TRL's batch; the first token of one never is."""
    ids, labels = inputs["input_ids"], inputs["labels"]
    if "attention_mask" in inputs:
        present = inputs["attention_mask"].bool()
        rows = [(row[here], label[here]) for row, label, here in zip(ids, labels, present, strict=True)]
    else:
        starts = inputs["cu_seq_lens_q"].diff().tolist()
        rows = list(zip(ids[0].split(starts), labels[0].split(starts), strict=True))
    return [(row.tolist(), [False, *(label[1:] != -100).tolist()]) for row, label in rows]


def assert_supervision_is_theirs(folder: Path, trainer: Any, examples: list[Example], *, length: int | None) -> None:
    inputs = next(iter(trainer.get_train_dataloader()))
    ours = [(list(example.ids), [False, *example.learn[1:]]) for example in examples]
    assert sorted(ours) == sorted(learned_by(inputs))
    expected = trainer.compute_loss(trainer.model, inputs)
    expected.backward()
    model = opened(folder)[0].train()
    found = Predictor(model, pad=0)([Tree(example) for example in examples], length=length)
    loss = -found.log_probs.sum() / sum(example.targets for example in examples)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), **CLOSE)
    assert_same(gradients(model), gradients(trainer.model))


@pytest.mark.parametrize("padding_free", [False, True], ids=["padded", "padding-free"])
@pytest.mark.parametrize("loss_on", ["assistant", "all"])
def test_chats_of_several_turns_are_learned_as_trl_learns_them(
    tiny_model_dir: Path, tmp_path: Path, loss_on: str, padding_free: bool
) -> None:
    """Padding-free, TRL's sequences share a row, kept apart by their positions; ours share rows of 512."""
    assistant = loss_on == "assistant"
    trainer = supervised_trainer(
        tiny_model_dir,
        [{"messages": chat} for chat in CHATS],
        MARKED,
        tmp_path,
        assistant_only_loss=assistant,
        padding_free=padding_free,
        max_length=None,
    )
    tokenizer = opened(tiny_model_dir)[1]
    examples = [encode_dialogue(tokenizer, chat, max_length=None, loss_on=loss_on) for chat in CHATS]  # type: ignore[arg-type]
    assert_supervision_is_theirs(tiny_model_dir, trainer, examples, length=512 if padding_free else None)


@pytest.mark.parametrize("loss_on", ["assistant", "all"])
def test_chats_that_are_too_long_are_cut_as_trl_cuts_them(tiny_model_dir: Path, tmp_path: Path, loss_on: str) -> None:
    """A chat of which nothing is left to learn is left out."""
    rows = [{"messages": chat} for chat in CHATS]
    trainer = supervised_trainer(
        tiny_model_dir, rows, MARKED, tmp_path, assistant_only_loss=loss_on == "assistant", max_length=60
    )
    tokenizer = opened(tiny_model_dir)[1]
    examples = [encode_dialogue(tokenizer, chat, max_length=60, loss_on=loss_on) for chat in CHATS]  # type: ignore[arg-type]
    learned = [example for example in examples if example.targets]
    assert len(learned) == len(CHATS) - (loss_on == "assistant")
    assert_supervision_is_theirs(tiny_model_dir, trainer, learned, length=None)


@pytest.mark.parametrize("how", ["assistant_only_loss", "prompt and completion"])
def test_turns_that_merge_with_what_stands_before_are_learned_as_trl_learns_them(
    merging_model: Path, tmp_path: Path, how: str
) -> None:
    chats = [[*BEFORE_ANSWERS, *said(text)] for text in ("Yes.", "\nSure.", "No.")]
    if how == "assistant_only_loss":
        chats.append([*chats[0], *BEFORE_ANSWERS, *said("Yes, yes.")])
        rows: list[Row] = [{"messages": chat} for chat in chats]
    else:
        rows = [{"prompt": chat[:-1], "completion": chat[-1:]} for chat in chats]
    marked, only = (MARKED, True) if how == "assistant_only_loss" else (None, False)
    trainer = supervised_trainer(merging_model, rows, marked, tmp_path, assistant_only_loss=only)
    tokenizer = opened(merging_model)[1]
    examples = [encode_dialogue(tokenizer, chat, max_length=512, loss_on="assistant") for chat in chats]
    assert_supervision_is_theirs(merging_model, trainer, examples, length=None)
