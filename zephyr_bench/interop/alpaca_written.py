"""The rows of alpaca_eval's files for what the store holds. Pure: values in, plain JSON objects out.

An imported row is put together again from its origin; what zephyr-bench made gets alpaca_eval's fields, the baseline
as output_1 and the preference in [1, 2].
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from zephyr_bench.benchmarks.alpaca_scores import LENGTH, PREFERENCE
from zephyr_bench.errors import UserError
from zephyr_bench.interop.alpaca_annotations import AS_JSON, REPLY
from zephyr_bench.interop.alpaca_outputs import ORIGIN, PLACE
from zephyr_bench.interop.alpaca_plan import IMPORTED
from zephyr_bench.interop.stored_run import Row, StoredRun, apart, filled
from zephyr_bench.records import Answer, SampleScore
from zephyr_bench.store import Verdict

Place = tuple[str, int]  # id of an instruction, replicate


def check_kind(run: StoredRun) -> None:
    """Raises UserError for a run that is none of AlpacaEval's."""
    info = run.info
    compared = any(sample.metric == PREFERENCE for sample in run.samples)
    if not compared and "baseline" not in info.protocol and info.environment.get("imported") != IMPORTED:
        raise UserError(f"run {info.id} is of {info.benchmark}, and alpaca_eval's files hold AlpacaEval's runs only.")
    if any(rival.startswith(f"{info.model}@") for rival in info.rivals):
        raise UserError(
            f"run {info.id} compares two checkpoints of one name, which alpaca_eval's files can't tell apart."
        )
    if all(answer.text is None for answer in run.answers):
        raise UserError(f"run {info.id} has no answers to export.")


def annotation_rows(run: StoredRun) -> list[Row]:
    """In the files' order, or the benchmark's; of a run made here each instruction that has its sample."""
    answers = {answer.key: answer for answer in run.answers}
    read = [verdict for verdict in run.verdicts if ORIGIN in (verdict.judgment.origin or {})]
    if read:
        order = {(s.question, s.replicate): place for place, s in enumerate(run.samples) if s.metric == PREFERENCE}
        read.sort(key=lambda verdict: order.get((verdict.question, verdict.replicate), len(order)))
        return [_as_read(verdict, answers) for verdict in read]
    instructions = _Instructions(run)
    verdicts = _by_place(run.verdicts)
    # lengths are known in the benchmark's order, preferences as the judge finishes
    order = {(s.question, s.replicate): place for place, s in enumerate(run.samples) if s.metric == LENGTH}
    samples = [sample for sample in run.samples if sample.metric == PREFERENCE]
    samples.sort(key=lambda sample: order.get((sample.question, sample.replicate), len(order)))
    return [
        _made_here(run, sample, verdicts.get((sample.question, sample.replicate), []), instructions)
        for sample in samples
    ]


def _as_read(verdict: Verdict, answers: Mapping[str, Answer]) -> Row:
    origin = verdict.judgment.origin or {}
    texts: dict[str, Any] = {
        "output_1": answers[verdict.rival or ""].text,
        "output_2": answers[verdict.answer].text,
    }
    if REPLY in origin:
        reply = verdict.judgment.reply
        texts[origin[REPLY]] = json.loads(reply) if origin[AS_JSON] else reply
    return filled(origin[ORIGIN], texts)


def _by_place(verdicts: Iterable[Verdict]) -> dict[Place, list[Verdict]]:
    found: dict[Place, list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault((verdict.question, verdict.replicate), []).append(verdict)
    return found


def _made_here(run: StoredRun, sample: SampleScore, verdicts: Sequence[Verdict], instructions: _Instructions) -> Row:
    own, other = _sides(run, sample, verdicts)
    # the baseline first, as the outputs stand in the row
    replies = [v.judgment.reply for v in sorted(verdicts, key=lambda verdict: verdict.answer == own.key)]
    costs = [v.judgment.cost_usd for v in verdicts if v.judgment.cost_usd is not None]
    return {
        "instruction": instructions.of(sample.question),
        "output_1": other.text,
        "generator_1": other.model,
        "dataset": sample.category,
        "output_2": own.text,
        "generator_2": own.model,
        "annotator": run.judge,
        "preference": None if sample.value is None else 1 + sample.value,
        "price_per_example": sum(costs) if costs else None,
        "raw_completion": None if not any(replies) else replies[0] if len(replies) == 1 else replies,
    }


def _sides(run: StoredRun, sample: SampleScore, verdicts: Sequence[Verdict]) -> tuple[Answer, Answer]:
    """The model's answer and the baseline's. Two equal texts are a tie without a verdict."""
    keys = [key for verdict in verdicts for key in (verdict.answer, verdict.rival)]
    both = [a for a in run.answers if a.question == sample.question and (a.key in keys or not keys)]
    own = [answer for answer in both if answer.model == run.info.model]
    others = [answer for answer in both if answer.model != run.info.model]
    pairs = [(one, other) for one in own for other in others if keys or one.text == other.text]
    if not pairs:
        raise UserError(f"run {run.info.id} lacks an answer to {sample.question}, which it has a verdict of.")
    return pairs[0]


class _Instructions:
    """Texts by id, as the store has them."""

    def __init__(self, run: StoredRun) -> None:
        self._run = run.info.id
        self._texts = {question.id: question.turns[0] for question in run.questions}

    def of(self, id: str) -> str:
        if id not in self._texts:
            raise UserError(f"run {self._run}: the store has instruction {id} under another id, of another benchmark.")
        return self._texts[id]


def output_rows(runs: Iterable[StoredRun]) -> dict[str, list[Row]]:
    """By model, in the files' order, or the benchmark's.

    Raises UserError where two runs have different outputs of one model for an instruction.
    """
    return _merged(runs, _own_answers)


def reference_rows(runs: Sequence[StoredRun]) -> list[Row]:
    """The baseline's outputs. Raises UserError where two runs compare with different ones."""
    found = _merged(runs, _baseline_answers)
    if len(found) > 1:
        one, other = _of_different_baselines(runs)
        raise apart(one, other, f"compare with different baselines ({' and '.join(found)})")
    return next(iter(found.values()), [])


def _of_different_baselines(runs: Sequence[StoredRun]) -> tuple[StoredRun, StoredRun]:
    by_baseline = {answer.model: run for run in runs for answer in _baseline_answers(run)}
    one, other, *_ = by_baseline.values()
    return one, other


def _own_answers(run: StoredRun) -> list[Answer]:
    baselines = {answer.key for answer in _baseline_answers(run)}
    return [a for a in run.answers if a.model == run.info.model and a.key not in baselines]


def _baseline_answers(run: StoredRun) -> list[Answer]:
    """In an imported run they stand second in every match; a model may be compared with itself there."""
    second = {v.rival for v in run.verdicts if ORIGIN in (v.judgment.origin or {})}
    return [answer for answer in run.answers if answer.model != run.info.model or answer.key in second]


def _merged(runs: Iterable[StoredRun], chosen: Callable[[StoredRun], list[Answer]]) -> dict[str, list[Row]]:
    found: dict[str, dict[Place, tuple[Row, StoredRun]]] = {}
    for run in runs:
        instructions = _Instructions(run)
        ranks = {sample.question: place for place, sample in reversed(list(enumerate(run.samples)))}
        categories = {s.question: s.category for s in run.samples} or {q.id: q.category for q in run.questions}
        for answer in sorted(chosen(run), key=lambda a: (_rank(a, ranks), a.replicate)):
            if answer.text is None:
                continue
            row = _output_row(answer, instructions, categories)
            rows = found.setdefault(answer.model, {})
            known, other = rows.setdefault((row["instruction"], answer.replicate), (row, run))
            if known["output"] != row["output"]:
                what = f"have different outputs of {answer.model} for instruction {answer.question}"
                raise apart(other, run, what)
    return {model: [row for row, _ in rows.values()] for model, rows in found.items()}


def _rank(answer: Answer, ranks: Mapping[str, int]) -> int:
    origin = answer.origin or {}
    return int(origin[PLACE]) if ORIGIN in origin else ranks.get(answer.question, len(ranks))


def _output_row(answer: Answer, instructions: _Instructions, categories: Mapping[str, str]) -> Row:
    if read := (answer.origin or {}).get(ORIGIN):
        return filled(read, {"output": answer.text})
    return {
        "dataset": categories.get(answer.question, ""),
        "instruction": instructions.of(answer.question),
        "output": answer.text,
        "generator": answer.model,
    }
