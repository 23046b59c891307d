"""What one model on one benchmark will ask for: answers, judgments, tokens, cost. Counts; asks nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from zephyr_bench.benchmarks.protocol import Benchmark
from zephyr_bench.judges.protocol import Judge

# for estimates: tokens of a judge's instructions and a question (MT-Bench's longest prompt has about 300), of an answer
# (those on AlpacaEval's board are 200 to 500 long) and of a reply, where no limit is below
_JUDGE_PROMPT_TOKENS = 500
_ANSWER_TOKENS = 400
_JUDGE_REPLY_TOKENS = 300


@dataclass(frozen=True)
class EvaluationPlan:
    model: str
    benchmark: str
    judge: str | None
    questions: int
    answers: int
    judgments: int
    generated_tokens_at_most: int
    judge_tokens_about: int
    judge_cost_usd_about: float | None  # None where the judge's price is not known
    budget_minutes: float | None  # for all the models together


def estimate(
    benchmark: Benchmark, judge: Judge | None, model: str, limit: int | None, *, budget_minutes: float | None = None
) -> EvaluationPlan:
    """What one model on one benchmark asks for; what is stored already is not taken off."""
    size = benchmark.size(limit)
    generated = size["answers"] * size["max_new_tokens"]
    read, written = judging_tokens(size["judgments"], answer_tokens=size["max_new_tokens"], answers=2)
    return EvaluationPlan(
        model=model,
        benchmark=benchmark.name,
        judge=judge.name if judge else None,
        questions=size["questions"],
        answers=size["answers"],
        judgments=size["judgments"],
        generated_tokens_at_most=generated,
        judge_tokens_about=read + written if judge else 0,
        judge_cost_usd_about=judge.cost_usd(read, written) if judge else 0.0,
        budget_minutes=budget_minutes,
    )


def judging_tokens(judgments: int, *, answer_tokens: int, answers: int = 1) -> tuple[int, int]:
    """Tokens that a judge reads and writes, about: of judgments on so many answers, of so many tokens at most, each."""
    read = judgments * (_JUDGE_PROMPT_TOKENS + answers * min(answer_tokens, _ANSWER_TOKENS))
    return read, judgments * _JUDGE_REPLY_TOKENS


def render_estimate(benchmark: Benchmark, judge: Judge | None, model: str, limit: int | None, format: str) -> str:
    """For --dry-run, as text."""
    found = estimate(benchmark, judge, model, limit)
    if format == "json":
        return json.dumps(asdict(found), indent=2) + "\n"
    return render_estimates([found], format)


def render_estimates(evaluations: Sequence[EvaluationPlan], format: str) -> str:
    from zephyr_bench.reports.render import render_table

    columns = ["model", "benchmark", "judge", "questions", "answers", "judgments", "tokens at most"]
    columns += ["judge tokens about", "USD about"]
    budgeted = any(e.budget_minutes for e in evaluations)
    cells = [
        [
            e.model,
            e.benchmark,
            e.judge or "-",
            *(number_told(n) for n in (e.questions, e.answers, e.judgments, e.generated_tokens_at_most)),
            number_told(e.judge_tokens_about),
            "unknown" if e.judge_cost_usd_about is None else f"{e.judge_cost_usd_about:.2f}",
            *([minutes_told(e.budget_minutes)] if budgeted else []),
        ]
        for e in evaluations
    ]
    return render_table([*columns, *(["budget of all models"] if budgeted else [])], cells, format)


def number_told(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def minutes_told(value: float | None) -> str:
    return "" if value is None else f"{value:g} min"
