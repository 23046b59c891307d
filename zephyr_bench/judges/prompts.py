"""MT-Bench's judge prompts: which of the eight fits a match, and the prompt with the match filled in.

In: FastChat's judge_prompts.jsonl, read where its package has it. Out: chat messages. Pure but for the read.
The choice is FastChat's (0.2.36, llm_judge/gen_judgment.py): with reference answers for some categories,
with the whole chat from turn 2 on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from zephyr_bench.errors import UserError
from zephyr_bench.records import Answer, Match, Message
from zephyr_bench.yaml_file import read_jsonl_as


class JudgePrompt(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    type: Literal["single", "pairwise"]
    system_prompt: str
    prompt_template: str
    output_format: str


def read_prompts(path: Path) -> dict[str, JudgePrompt]:
    """By name. Raises UserError naming file, line and key."""
    return {prompt.name: prompt for _, prompt in read_jsonl_as(path, JudgePrompt)}


def prompt_name(match: Match, *, reference_categories: Collection[str]) -> str:
    """The prompt's name in FastChat's file."""
    kind = "single" if match.rival is None else "pair"
    version = "math-v1" if _with_reference(match, reference_categories) else "v1" if kind == "single" else "v2"
    return f"{kind}-{version}" + ("-multi-turn" if match.turn > 1 else "")


def render(prompts: Mapping[str, JudgePrompt], match: Match, *, reference_categories: Collection[str]) -> list[Message]:
    """The chat to send for a match of one or two turns. Raises UserError where the file lacks the prompt."""
    name = prompt_name(match, reference_categories=reference_categories)
    if name not in prompts:
        raise UserError(f"the judge's prompt file has no prompt '{name}'; it has {', '.join(prompts)}.")
    prompt = prompts[name]
    question = match.question
    parts: dict[str, str] = {"question": question.turns[0]}
    sides = {"answer": match.answers} if match.rival is None else {"answer_a": match.answers, "answer_b": match.rival}
    for side, answers in sides.items():
        parts[side] = _text(answers[0])
        parts |= {f"{side}_{turn}": _text(answer) for turn, answer in enumerate(answers, start=1)}
    parts |= {f"question_{turn}": text for turn, text in enumerate(question.turns, start=1)}
    parts |= {f"ref_answer_{turn}": text for turn, text in enumerate(question.reference, start=1)}
    try:
        user = prompt.prompt_template.format_map(parts)
    except KeyError as error:
        raise UserError(f"the judge's prompt '{name}' asks for {error}, which question {question.id} lacks.") from None
    return [{"role": "system", "content": prompt.system_prompt}, {"role": "user", "content": user}]


def _with_reference(match: Match, categories: Collection[str]) -> bool:
    return match.question.category in categories and len(match.question.reference) >= match.turn


def _text(answer: Answer) -> str:
    return answer.text or ""
