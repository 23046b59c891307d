"""alpaca_eval's rows of outputs as answers: which of a model's belong together, and their keys.

In: rows, by file. Out: sets of rows, answers. What a row says beside its text is the answer's origin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.interop.alpaca_benchmarks import Known
from zephyr_bench.interop.alpaca_rows import GeneratedRow, Rows
from zephyr_bench.interop.imported_runs import Told
from zephyr_bench.interop.json_lines import Line
from zephyr_bench.records import Answer, Question

ORIGIN = "alpaca_eval"  # of an answer or judgment: the row, with None for what is stored beside it
PLACE = "place"  # of an answer: its row's number among the model's
Outputs = Sequence[Line[GeneratedRow]]


def output_sets(rows: Rows) -> dict[str, list[list[Line[GeneratedRow]]]]:
    """By model. Files that have different outputs for an instruction are of different runs.

    Left out is a file of baselines' outputs that annotations hold, as reference_outputs.json: no run lacks them.
    """
    compared = {(line.row.baseline, line.row.instruction, line.row.output_1) for line in rows.annotations}
    found: dict[str, list[list[Line[GeneratedRow]]]] = {}
    for lines in rows.outputs:
        if all((line.row.generator, line.row.instruction, line.row.output) in compared for line in lines):
            continue
        by_model: dict[str, list[Line[GeneratedRow]]] = {}
        for line in lines:
            by_model.setdefault(line.row.generator, []).append(line)
        for model, given in by_model.items():
            _add_to(found.setdefault(model, []), given)
    return found


def _add_to(sets: list[list[Line[GeneratedRow]]], given: list[Line[GeneratedRow]]) -> None:
    for known in sets:
        texts = {(line.row.instruction, line.row.output) for line in known}
        asked = {instruction for instruction, _ in texts}
        new = [line for line in given if (line.row.instruction, line.row.output) not in texts]
        if not any(line.row.instruction in asked for line in new):
            known += new
            return
    sets.append(given)


def answers_of(known: Known, lines: Outputs) -> dict[str, Told]:
    """By key; an instruction's second output in a set is its second replicate."""
    found: dict[str, Told] = {}
    times: Counter[str] = Counter()
    for place, line in enumerate(lines):
        row = line.row
        question = known.question(row.instruction, row.dataset)
        origin = {PLACE: place, ORIGIN: {**line.raw, "output": None}}
        answer = imported_answer(row.generator, question, row.output, times[row.instruction], origin)
        times[row.instruction] += 1
        found[answer.key] = question, answer
    return found


def imported_answer(
    model: str, question: Question, output: str, replicate: int, origin: Mapping[str, Any] | None = None
) -> Answer:
    """Keyed by its content: two files with other outputs of one model don't contradict each other."""
    what = {"model": model, "question": question.id, "output": output, "replicate": replicate}
    key = fingerprint({"imported": what})
    return Answer(key, model, question.id, 1, output, replicate=replicate, origin=origin)
