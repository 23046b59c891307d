"""Prompts and verdicts against FastChat's own code: what it would send, and what it reads from a reply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

common = pytest.importorskip("fastchat.llm_judge.common")

from zephyr_bench import catalogue  # noqa: E402
from zephyr_bench.benchmarks import open_benchmark  # noqa: E402
from zephyr_bench.judges import parsers  # noqa: E402
from zephyr_bench.judges.openai_judge import OpenAiSpec  # noqa: E402
from zephyr_bench.judges.prompts import prompt_name, read_prompts, render  # noqa: E402
from zephyr_bench.records import Answer, Match, Question  # noqa: E402
from zephyr_bench.yaml_file import load_model  # noqa: E402

REPLIES = st.lists(
    st.sampled_from(
        ["[[", "]]", "[", "]", "7", "10", "8.5", "0", ".", ",", " ", "A", "B", "C", "[[A]]", "[[B]]", "[[C]]", "x"]
    )
).map("".join)


@pytest.fixture(scope="module")
def spec() -> OpenAiSpec:
    return load_model(catalogue.find("judge", "gpt-4"), OpenAiSpec)


@pytest.fixture(scope="module")
def prompt_file(spec: OpenAiSpec) -> Path:
    return spec.prompts.locate(Path())


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What FastChat would have sent; it gets a fixed reply."""
    chats: list[Any] = []

    def catch(model: str, conv: Any, **_: Any) -> str:
        chats.append(conv.to_openai_api_messages())
        return "[[A]] [[5]]"

    monkeypatch.setattr(common, "chat_completion_openai", catch)
    return chats


def answers(question: Question, who: str) -> tuple[Answer, ...]:
    return tuple(
        Answer(f"{who}{turn}", who, question.id, turn, f"{who} says {{x}} to turn {turn} of {question.id}")
        for turn in (1, 2)
    )


def as_fastchat(given: tuple[Answer, ...]) -> dict[str, Any]:
    return {"choices": [{"turns": [answer.text for answer in given]}]}


@pytest.mark.parametrize("turn", [1, 2])
@pytest.mark.parametrize("kind", ["single", "pair"])
def test_all_80_questions_are_put_to_the_judge_as_fastchat_puts_them(
    kind: str, turn: int, spec: OpenAiSpec, prompt_file: Path, sent: list[Any]
) -> None:
    ours, theirs = read_prompts(prompt_file), common.load_judge_prompts(str(prompt_file))
    questions = open_benchmark("mt-bench").questions  # type: ignore[attr-defined]
    assert len(questions) == 80
    for question in questions:
        left, right = answers(question, "left"), answers(question, "right")
        match = Match(question, turn, left[:turn], right[:turn] if kind == "pair" else None)
        # as gen_judgment.py's make_judge_* and its split into math and other questions choose the prompt
        needs_reference = question.category in common.NEED_REF_CATS
        stem = {"single": "single", "pair": "pair"}[kind]
        version = "math-v1" if needs_reference else {"single": "v1", "pair": "v2"}[kind]
        name = f"{stem}-{version}" + ("-multi-turn" if turn == 2 else "")
        assert prompt_name(match, reference_categories=spec.reference_categories) == name
        judge = common.Judge("gpt-4", theirs[name], ref_based=needs_reference, multi_turn=turn == 2)
        asked = {"question_id": question.id, "turns": list(question.turns)}
        reference = {"choices": [{"turns": list(question.reference)}]} if needs_reference else None
        if kind == "single":
            common.run_judge_single(asked, as_fastchat(left), judge, reference, multi_turn=turn == 2)
        else:
            common.run_judge_pair(asked, as_fastchat(left), as_fastchat(right), judge, reference, multi_turn=turn == 2)
        assert render(ours, match, reference_categories=spec.reference_categories) == sent[-1]


@settings(max_examples=300)
@given(reply=REPLIES)
def test_a_reply_is_read_as_fastchat_reads_it(reply: str) -> None:
    single = common.Judge(
        "gpt-4", {"system_prompt": "", "prompt_template": "{question}", "output_format": "[[rating]]"}
    )
    pair = common.Judge("gpt-4", {"system_prompt": "", "prompt_template": "{question}", "output_format": "[[A]]"})
    question, answer = {"turns": ["q"]}, {"choices": [{"turns": ["a"]}]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "chat_completion_openai", lambda *_, **__: reply)
        winner, _, _ = common.run_judge_pair(question, answer, answer, pair, None)
        assert parsers.preference(reply) == {"A": 1, "B": 0, "tie": 0.5, "error": None}[winner]
        try:
            rating, _, _ = common.run_judge_single(question, answer, single, None)
        except SyntaxError:  # FastChat evaluates the digits as Python, and breaks off at [[07]]
            return
        assert parsers.rating(reply) == (None if rating == -1 else rating)
