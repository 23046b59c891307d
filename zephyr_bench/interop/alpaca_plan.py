"""alpaca_eval's rows as runs, before anything is stored. Reads nothing but the benchmarks' own data.

One model, judge and baseline make a run; a model's outputs alone make one without a judge. Every row of an annotation
file is a sample, as alpaca_eval's mean has them.
"""

from __future__ import annotations

from collections.abc import Sequence

from zephyr_bench.benchmarks.alpaca_eval import no_length_control
from zephyr_bench.benchmarks.alpaca_scores import pair_facts, preference_sample
from zephyr_bench.benchmarks.one_order import Pair
from zephyr_bench.benchmarks.pairing import PairVerdict, pair_protocol
from zephyr_bench.interop.alpaca_annotations import judged_pairs
from zephyr_bench.interop.alpaca_benchmarks import Choice, Known
from zephyr_bench.interop.alpaca_outputs import Outputs, answers_of, output_sets
from zephyr_bench.interop.alpaca_rows import AnnotationRow, Rows
from zephyr_bench.interop.imported_runs import AnsweredRun, ImportedRun, Plan, Told
from zephyr_bench.interop.json_lines import Line

IMPORTED = "alpaca_eval"  # what a run's environment says of it


def plan_runs(rows: Rows, choice: Choice) -> Plan:
    """Raises UserError naming file and row for a baseline or a judge that isn't the benchmark's."""
    groups: dict[tuple[str, str, str], list[Line[AnnotationRow]]] = {}
    for line in rows.annotations:
        groups.setdefault((line.row.model, line.row.annotator, line.row.baseline), []).append(line)
    outputs = output_sets(rows)
    of_models: dict[str, Known] = {}
    judged = []
    for (model, _, _), lines in groups.items():
        known = choice.of(lines[0])
        of_models.setdefault(model, known)
        judged.append(_judged(known, lines, outputs.get(model, ())))
    answered = []
    for model, alike in ((model, alike) for model, sets in outputs.items() for alike in sets):
        known = of_models.get(model) or choice.of_outputs(line.row.instruction for line in alike)
        told_of = model in of_models or choice.asked is not None
        answered.append(_answered(known, model, alike, {known.name} if told_of else {*choice.catalogue}))
    return Plan(judged, answered)


def _judged(known: Known, lines: Sequence[Line[AnnotationRow]], outputs: Sequence[Outputs]) -> ImportedRun:
    row = lines[0].row
    judged = list(judged_pairs(known, lines))
    pairs = [pair for pair, _, _ in judged]
    why = known.benchmark.without_length_control(row.annotator, row.baseline, whole_file=True)
    if row.model == row.baseline:
        why = "the baseline is compared with itself"  # alpaca_eval says 50
    samples = [
        *([no_length_control(why)] if why else []),
        *pair_facts(pairs),
        *(preference_sample(pair, PairVerdict(found.score, None, found.reason)) for pair, _, found in judged),
    ]
    not_judged = known.without(pair.question.turns[0] for pair in pairs)
    return ImportedRun(
        benchmark=known.name,
        model=row.model,
        judge=row.annotator,
        answers=_answers(known, pairs, outputs),
        judgments={judgment.key: (match, judgment) for _, match, judgment in judged},
        samples=samples,
        scores=known.benchmark.aggregate_file(samples),
        protocol={
            **({} if row.baseline == known.benchmark.baseline else pair_protocol([row.baseline], everybody=False)),
            **({} if why else known.benchmark.length_control_protocol()),
        },
        environment={"imported": IMPORTED, **({"not_judged": not_judged} if not_judged else {})},
        not_judged=not_judged,
    )


def _answers(known: Known, pairs: Sequence[Pair], outputs: Sequence[Outputs]) -> dict[str, Told]:
    """Both sides'; and all outputs of the first set that gives no others than the judged to these instructions."""
    both = {answer.key: (pair.question, answer) for pair in pairs for answer in (pair.answer, pair.baseline)}
    for given in (answers_of(known, lines) for lines in outputs):
        theirs = {question.id for question, _ in given.values()}
        if all(pair.answer.key in given for pair in pairs if pair.question.id in theirs):
            return {**both, **given}
        both = {key: given.get(key, told) for key, told in both.items()}  # with the row it came from
    return both


def _answered(known: Known, model: str, lines: Outputs, same_questions: set[str]) -> AnsweredRun:
    return AnsweredRun(
        benchmark=known.name,
        model=model,
        judge=None,
        answers=answers_of(known, lines),
        judgments={},
        samples=(),
        scores=(),
        protocol={},
        environment={"imported": IMPORTED},
        not_judged=0,
        same_questions=frozenset(same_questions),
    )
