"""A reward model's verdicts are those of transformers' own forward pass, one chat at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_model import CHAT_TEMPLATE, let_add_bos, make_tiny_model

from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import UserError
from zephyr_bench.judges import JudgeOptions, open_judge, reward_model
from zephyr_bench.judges.reward_model import RewardModelJudge
from zephyr_bench.records import Answer, Match, Message, Question
from zephyr_bench.testing.judges import CHECKS, keeps_to_its_scale, pair, single

TEXTS = ("Paris.", "It is Paris, a city on the Seine.", "", "é and 🙂", "I don't know; ask somebody else, please.")
SINGLES = [single("Name the capital of France.", text) for text in TEXTS]
PAIRS = [pair("Name the capital of France.", TEXTS[n], TEXTS[n - 1]) for n in range(len(TEXTS))]
DIALOGUE = Match(
    Question("two", "writing", ("Say hi.", "Once more.")),
    2,
    (Answer("a1", "m", "two", 1, "Hi."), Answer("a2", "m", "two", 2, "Hi again.")),
)


def make_reward_model(folder: Path, *, labels: int = 1, padding: int | None = 2, **tokenizer: Any) -> Path:
    """The tiny model with a classification head in place of a language model's."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    make_tiny_model(folder, **tokenizer)
    config = LlamaConfig.from_pretrained(folder, num_labels=labels, pad_token_id=padding)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        LlamaForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reward_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    return make_reward_model(tmp_path_factory.mktemp("models") / "reward")


def judge_of(folder: Path, *, batch_size: int | None = None, **changes: Any) -> RewardModelJudge:
    """By a YAML in the model's own folder."""
    path = folder / "judge.yaml"
    path.write_text(yaml.safe_dump({"kind": "reward-model", "description": "tiny", "model": ".", **changes}))
    options = JudgeOptions(engine=EngineOptions(device="cpu", batch_size=batch_size))
    judge = open_judge(str(path), options=options)
    assert isinstance(judge, RewardModelJudge)
    return judge


def scores(judge: RewardModelJudge, matches: list[Match]) -> list[float | None]:
    """In the order of the matches."""
    found = {judgment.key: judgment.score for judgment in judge.grade(matches)}
    return [found[match.key(judge.fingerprint)] for match in matches]


def chat_of(match: Match) -> list[Message]:
    return [
        *match.question.messages(match.turn, match.answers),
        {"role": "assistant", "content": match.answers[-1].text or ""},
    ]


def plain_rewards(model: Path, matches: list[Match]) -> list[float]:
    """One chat at a time, without padding."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    head = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32)
    rewards = []
    for match in matches:
        text = tokenizer.apply_chat_template(chat_of(match), tokenize=False)
        with torch.inference_mode():
            rewards.append(head(**tokenizer(text, return_tensors="pt")).logits.item())
    return rewards


@pytest.mark.parametrize("padding", [2, None, -1])
@pytest.mark.parametrize("batch_size", [1, 2, None])
def test_rewards_are_those_of_one_chat_at_a_time(tmp_path: Path, padding: int | None, batch_size: int | None) -> None:
    model = make_reward_model(tmp_path, padding=padding)
    matches = [*SINGLES, DIALOGUE]
    found = scores(judge_of(model, batch_size=batch_size), matches)
    assert found == pytest.approx(plain_rewards(model, matches), abs=1e-5)
    assert len({round(score, 3) for score in found if score is not None}) == len(matches), "no toss-up"


@pytest.mark.parametrize("padding", [2, None])
def test_a_chat_that_ends_with_the_padding_token_is_read_where_transformers_reads_it(
    tmp_path: Path, padding: int | None
) -> None:
    template = CHAT_TEMPLATE.replace("{% if add_generation_prompt", "{{ '<|im_end|>' }}{% if add_generation_prompt")
    model = make_reward_model(tmp_path, padding=padding, chat_template=template)
    assert scores(judge_of(model), SINGLES) == pytest.approx(plain_rewards(model, SINGLES), abs=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_tokenizers_padding_side_makes_no_difference(tmp_path: Path, reward_dir: Path, side: str) -> None:
    from transformers import AutoTokenizer

    model = make_reward_model(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.padding_side = side
    tokenizer.save_pretrained(model)
    assert scores(judge_of(model), SINGLES) == scores(judge_of(reward_dir), SINGLES)


@pytest.mark.parametrize("written_by", ["tokenizer", "template", "both"])
def test_a_chat_begins_with_one_bos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written_by: str) -> None:
    from transformers import AutoTokenizer

    plain = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    bos = "" if written_by == "tokenizer" else "{{ bos_token }}"
    model = make_reward_model(tmp_path, chat_template=bos + plain)
    if written_by != "template":
        tokenizer = AutoTokenizer.from_pretrained(model)
        let_add_bos(tokenizer, and_eos=True)
        tokenizer.save_pretrained(model)
    (row,) = rows_read(judge_of(model), SINGLES[:1], monkeypatch)
    assert row[0] == 1
    assert 1 not in row[1:]
    assert row[-1] != 2, "nothing is put at the end"


def rows_read(judge: RewardModelJudge, matches: list[Match], monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """What the model was given."""
    seen: list[list[int]] = []

    def forward(model: Any, rows: list[list[int]]) -> list[float]:
        seen.extend(rows)
        return [float(len(row)) for row in rows]

    monkeypatch.setattr(reward_model, "_forward", forward)
    list(judge.grade(matches))
    return seen


def test_a_preference_is_the_sigmoid_of_the_difference(reward_dir: Path) -> None:
    rewards = plain_rewards(reward_dir, SINGLES)
    wanted = [1 / (1 + math.exp(rewards[n - 1] - rewards[n])) for n in range(len(PAIRS))]
    assert scores(judge_of(reward_dir), PAIRS) == pytest.approx(wanted, abs=1e-5)


def test_a_winner_is_who_has_the_greater_reward_and_equal_answers_tie(reward_dir: Path) -> None:
    rewards = plain_rewards(reward_dir, SINGLES)
    wanted = [float(rewards[n] > rewards[n - 1]) for n in range(len(PAIRS))]
    tie = pair("Name the capital of France.", "Paris.", "Paris.")
    assert scores(judge_of(reward_dir, preference="winner"), [*PAIRS, tie]) == [*wanted, 0.5]


def test_both_orders_of_a_pair_make_one_whole(reward_dir: Path) -> None:
    turned = [replace(match, answers=match.rival, rival=match.answers) for match in PAIRS if match.rival]
    found = scores(judge_of(reward_dir), [*PAIRS, *turned])
    for ours, theirs in zip(found[: len(PAIRS)], found[len(PAIRS) :], strict=True):
        assert ours is not None
        assert theirs == pytest.approx(1 - ours)


def test_rewards_far_apart_are_a_certain_preference(reward_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_model, "_forward", lambda _, rows: [1e4 * len(row) for row in rows])
    assert scores(judge_of(reward_dir), PAIRS[:2]) == [0.0, 1.0]


def test_the_rewards_of_a_pair_are_kept_beside_the_preference(reward_dir: Path) -> None:
    ours, rival = plain_rewards(reward_dir, [SINGLES[1], SINGLES[0]])
    (judgment,) = judge_of(reward_dir).grade([PAIRS[1]])
    kept = [float(part.removeprefix("reward ")) for part in judgment.reply.split(", ")]
    assert kept == pytest.approx([ours, rival], abs=1e-5)


def test_a_chat_in_several_matches_is_computed_once(reward_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turned = [replace(match, answers=match.rival, rival=match.answers) for match in PAIRS if match.rival]
    monkeypatch.setattr(reward_model, "_AT_ONCE", 3)
    rows = rows_read(judge_of(reward_dir), [*SINGLES, *PAIRS, *turned], monkeypatch)
    assert len(rows) == len(TEXTS)


def test_verdicts_come_as_each_batch_is_finished(reward_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []

    def forward(model: Any, rows: list[list[int]]) -> list[float]:
        batches.append(len(rows))
        return [0.0] * len(rows)

    monkeypatch.setattr(reward_model, "_forward", forward)
    verdicts = judge_of(reward_dir, batch_size=2).grade(SINGLES)
    seen = [len(batches) for _ in verdicts]
    assert (seen, batches) == ([1, 1, 2, 2, 3], [2, 2, 1])


def test_a_chat_too_long_for_the_model_has_no_verdict_and_is_not_cut(reward_dir: Path) -> None:
    long = single("Name the capital of France.", "Paris. " * 100)
    judge = judge_of(reward_dir)
    found = {judgment.key: judgment for judgment in judge.grade([*SINGLES, long])}
    told = found[long.key(judge.fingerprint)]
    assert told.score is None
    assert "tokens, and the reward model reads 512 at most" in (told.reason or "")
    assert sum(judgment.score is None for judgment in found.values()) == 1


def test_max_length_is_the_longest_chat_that_has_a_verdict(reward_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = rows_read(judge_of(reward_dir), SINGLES[:1], monkeypatch)
    monkeypatch.undo()
    assert scores(judge_of(reward_dir, max_length=len(row)), SINGLES[:1]) != [None]
    assert scores(judge_of(reward_dir, max_length=len(row) - 1), SINGLES[:1]) == [None]


def test_a_pair_with_one_side_too_long_has_no_verdict(reward_dir: Path) -> None:
    (judgment,) = judge_of(reward_dir).grade([pair("Q?", "short", "long " * 200)])
    assert judgment.score is None
    assert judgment.reason


def test_an_answer_whose_text_is_not_known_has_no_verdict(reward_dir: Path) -> None:
    unknown = replace(DIALOGUE, answers=(replace(DIALOGUE.answers[0], text=None), DIALOGUE.answers[1]))
    (judgment,) = judge_of(reward_dir).grade([unknown])
    assert (judgment.score, judgment.reason) == (None, "the text of an answer is not known")


def test_half_a_surrogate_pair_in_an_answer_is_read_as_a_replacement_character(reward_dir: Path) -> None:
    half, whole = scores(judge_of(reward_dir), [single("Q?", "bad \ud83d good"), single("Q?", "bad \ufffd good")])
    assert half == whole is not None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_reward_that_is_no_number_is_no_verdict(
    reward_dir: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    monkeypatch.setattr(reward_model, "_forward", lambda _, rows: [value] * len(rows))
    (judgment,) = judge_of(reward_dir).grade(SINGLES[:1])
    assert judgment.score is None
    assert "no finite number" in (judgment.reason or "")


def test_a_head_with_two_outputs_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = judge_of(make_reward_model(tmp_path, labels=2))
    monkeypatch.setattr(reward_model, "_load", lambda *_, **__: pytest.fail("weights were loaded"))
    (told,) = judge.missing()
    assert "has 2 labels; expected one" in told
    with pytest.raises(UserError, match="has 2 labels"):
        list(judge.grade(SINGLES))


def test_weights_without_the_head_are_refused(tmp_path: Path) -> None:
    from transformers import LlamaConfig

    model = make_tiny_model(tmp_path)
    LlamaConfig.from_pretrained(model, num_labels=1).save_pretrained(model)
    with pytest.raises(UserError, match=r"its weights lack score\.weight"):
        list(judge_of(model).grade(SINGLES))


def test_broken_weights_are_told_in_a_sentence(tmp_path: Path) -> None:
    model = make_reward_model(tmp_path)
    (model / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="can't be loaded"):
        list(judge_of(model).grade(SINGLES))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    model = make_reward_model(tmp_path)
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    (told,) = judge_of(model).missing()
    assert "is a pickle" in told


def test_what_is_no_model_for_chats_is_told(tmp_path: Path) -> None:
    (told,) = judge_of(make_reward_model(tmp_path, chat_template=None)).missing()
    assert "has no chat template" in told
    (told,) = judge_of(tmp_path, model="./nowhere").missing()
    assert "does not exist" in told
    (told,) = judge_of(make_reward_model(tmp_path), max_length=1000).missing()
    assert "max_length is 1000" in told
    assert "reads 512 tokens at most" in told


def test_a_server_for_a_reward_model_is_a_mistake(reward_dir: Path) -> None:
    judge_of(reward_dir)
    with pytest.raises(UserError, match="asks no server"):
        open_judge(str(reward_dir / "judge.yaml"), options=JudgeOptions(base_url="http://127.0.0.1:1/v1"))


@pytest.mark.parametrize("change", [{"preference": "best"}, {"max_length": 0}, {"dtype": "int4"}, {"temperature": 0}])
def test_a_yaml_that_does_not_fit_names_file_and_key(reward_dir: Path, change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"judge\.yaml line \d+: .*{next(iter(change))}"):
        judge_of(reward_dir, **change)


def test_fingerprint_changes_with_what_a_verdict_hangs_on_and_nothing_else(tmp_path: Path, reward_dir: Path) -> None:
    same = judge_of(reward_dir).fingerprint
    changes: list[dict[str, Any]] = [{"dtype": "bfloat16"}, {"max_length": 100}, {"preference": "winner"}]
    others = {judge_of(reward_dir, **change).fingerprint for change in changes}
    others.add(judge_of(make_reward_model(tmp_path / "one", chat_template=CHAT_TEMPLATE + " ")).fingerprint)
    others.add(judge_of(make_reward_model(tmp_path / "two", labels=2)).fingerprint)
    assert len({same, *others}) == 6
    assert judge_of(reward_dir, batch_size=3, description="other", dtype="float32").fingerprint == same
    assert judge_of(make_reward_model(tmp_path / "three")).fingerprint == same, "its place says nothing"


def test_weights_are_freed_when_grading_ends_or_is_broken_off(reward_dir: Path) -> None:
    judge = judge_of(reward_dir, batch_size=1)
    verdicts = judge.grade(SINGLES)
    next(verdicts)
    assert judge._loaded is not None
    verdicts.close()  # type: ignore[attr-defined]
    assert judge._loaded is None
    assert len(list(judge.grade(SINGLES))) == len(SINGLES)
    assert judge._loaded is None


def test_nothing_is_loaded_for_no_matches(reward_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_model, "_load", lambda *_, **__: pytest.fail("weights were loaded"))
    assert list(judge_of(reward_dir).grade([])) == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_reward_model_conforms(check: Callable[..., Any], reward_dir: Path) -> None:
    """But for the scale of one answer, which is the model's own."""
    check(lambda: judge_of(reward_dir), PAIRS if check is keeps_to_its_scale else [*SINGLES, *PAIRS])
