"""FastChat's rows as runs, before anything is stored. Reads nothing but the benchmark's own questions.

One model and one judge, whatever its prompts, make a run; a model's answers alone make one without a judge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zephyr_bench.benchmarks.mt_bench import MtBench
from zephyr_bench.benchmarks.pairing import pair_protocol, pair_scores
from zephyr_bench.interop.fastchat_answers import Answers
from zephyr_bench.interop.fastchat_judgments import Gathered, compared, graded
from zephyr_bench.interop.fastchat_questions import Questions, by_id, references_shown
from zephyr_bench.interop.fastchat_rows import Rows
from zephyr_bench.interop.imported_runs import AnsweredRun, ImportedRun, Plan, Told
from zephyr_bench.interop.json_lines import Line
from zephyr_bench.records import Question, SampleScore, Score


def plan_runs(rows: Rows, benchmark: MtBench) -> Plan:
    """Raises UserError naming file, line and id for a question that nobody knows."""
    questions = Questions(rows.questions, benchmark)
    answers = Answers(rows.answers, questions)
    judged: list[ImportedRun] = []
    for judge, singles in _by_judge(rows.singles).items():
        found = graded(singles, questions, answers)
        judged += _runs(benchmark.name, judge, found, benchmark.aggregate, questions, answers)
    for judge, pairs in _by_judge(rows.pairs).items():
        found = compared(pairs, questions, answers)
        judged += _runs(pairwise(benchmark.name), judge, found, pair_scores, questions, answers)
    answered = [_answered(benchmark.name, model, questions, answers) for model in answers.models()]
    return Plan(judged, answered, answers.places)


def pairwise(benchmark: str) -> str:
    """The benchmark of its questions with the answers compared."""
    return f"{benchmark}-pairwise"


def _by_judge(lines: Sequence[Line[Any]]) -> dict[str, list[Line[Any]]]:
    found: dict[str, list[Line[Any]]] = {}
    for line in lines:
        found.setdefault(line.row.judge_name, []).append(line)
    return found


def _runs(
    benchmark: str,
    judge: str,
    found: Mapping[str, Gathered],
    scores: Callable[[Sequence[SampleScore]], list[Score]],
    questions: Questions,
    answers: Answers,
) -> list[ImportedRun]:
    asked = {match.question.id: match.question for told in found.values() for match, _ in told.judged.values()}
    runs = []
    for model, told in found.items():
        used = {**_answers_judged(told), **answers.of(model)}
        # in an order of their own: the same rows in another order give the same figures to the last bit
        samples = sorted(told.samples, key=lambda s: (by_id(s.question), s.turn, s.rival, s.replicate))
        not_judged = _not_judged(samples, list(asked.values()))
        runs.append(
            ImportedRun(
                benchmark=benchmark,
                model=model,
                judge=judge,
                answers=used,
                judgments=told.judged,
                samples=samples,
                scores=scores(samples),
                protocol=_protocol(told, questions),
                environment={**_environment(used, questions), **({"not_judged": not_judged} if not_judged else {})},
                not_judged=not_judged,
            )
        )
    return runs


def _answered(benchmark: str, model: str, questions: Questions, answers: Answers) -> AnsweredRun:
    used = answers.of(model)
    return AnsweredRun(
        benchmark=benchmark,
        model=model,
        judge=None,
        answers=used,
        judgments={},
        samples=(),
        scores=(),
        protocol={},
        environment=_environment(used, questions),
        not_judged=0,
        same_questions=frozenset({benchmark, pairwise(benchmark)}),
    )


def _answers_judged(told: Gathered) -> dict[str, Told]:
    return {
        answer.key: (match.question, answer)
        for match, _ in told.judged.values()
        for answer in (*match.answers, *(match.rival or ()))
    }


def _protocol(told: Gathered, questions: Questions) -> dict[str, Any]:
    """Only what the rows tell: a field that is absent is not known."""
    found: dict[str, Any] = {}
    if told.shown and (references := references_shown(told.shown, questions.references)):
        found["references"] = references
    if rivals := sorted({sample.rival for sample in told.samples if sample.rival}):
        found |= pair_protocol(rivals, everybody=told.met_all)
    return found


def _environment(used: Mapping[str, Told], questions: Questions) -> dict[str, Any]:
    beside = questions.beside({question.id for question, _ in used.values()})
    return {"imported": "fastchat", **({"questions": beside} if beside else {})}


def _not_judged(samples: Sequence[SampleScore], asked: Sequence[Question]) -> int:
    judged = {(sample.rival, sample.question, sample.turn) for sample in samples}
    return sum(
        (rival, question.id, turn) not in judged
        for rival in {sample.rival for sample in samples}
        for question in asked
        for turn in range(1, len(question.turns) + 1)
    )
