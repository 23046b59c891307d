"""FastChat's files into the store: everything is read and checked before the first row is written.

What the store holds already is not written again: a run of the same model, benchmark and judge with all the judgments
is "already there". One name and another answer under it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zephyr_bench.benchmarks.mt_bench import MtBench
from zephyr_bench.benchmarks.pairing import CONSISTENT
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.interop.fastchat_judgments import judge_fingerprint
from zephyr_bench.interop.fastchat_plan import ImportedRun, Plan, pairwise, plan_runs
from zephyr_bench.interop.fastchat_rows import read_rows
from zephyr_bench.store import RunInfo, RunStart, Store


@dataclass(frozen=True)
class Imported:
    """A run that the files told of, and what the store has of it now."""

    run: str
    model: str
    benchmark: str
    judge: str | None
    answers: int  # with a text
    judgments: int
    without_score: int  # samples
    not_judged: int  # turns that the judge's other rows speak of, and none of this model
    new: bool


def read_fastchat(paths: Sequence[Path], benchmark: MtBench) -> Plan:
    """The runs that the files tell of. Raises UserError naming file and line."""
    plan = plan_runs(read_rows(paths), benchmark)
    if not plan.judged and not plan.answered:
        told = ", ".join(str(path) for path in paths)
        raise UserError(f"{told}: questions alone make no run; give answers or judgments beside them.")
    return plan


def add_to_store(store: Store, plan: Plan) -> list[Imported]:
    """Each run of the plan, as it is stored now. Raises UserError, before any write, where the store contradicts."""
    _check_answers(store, plan)
    done = [_put(store, run, _with_all_judgments(store, run)) for run in plan.judged]
    with_answers = {outcome.model for outcome in done if outcome.new}
    judged = {outcome.model for outcome in done}
    for run in plan.answered:
        if run.model in with_answers:  # its new run has them
            continue
        known = _with_all_texts(store, run)
        if known is None or run.model not in judged:
            done.append(_put(store, run, known))
    return done


def _check_answers(store: Store, plan: Plan) -> None:
    stored = store.answers(plan.places)
    for key, (question, answer) in ((key, told) for run in plan.runs for key, told in run.answers.items()):
        if key in stored and answer.text is not None and stored[key].text not in (None, answer.text):
            where = next(run.id for run in store.runs() if any(a.key == key for a in store.answers_of(run.id)))
            raise UserError(
                f"{plan.places[key]}: the store has another answer of {answer.model} to turn {answer.turn} of question "
                f"{question.id}, in run {where}; delete that run, or import into another store (--store)."
            )


def _with_all_judgments(store: Store, run: ImportedRun) -> RunInfo | None:
    for known in _alike(store, run):
        if known.benchmark == run.benchmark and known.judge_fingerprint == judge_fingerprint(run.judge or ""):
            held = {judgment.key for judgment in store.judgments_of(known.id)}
            if held >= run.judgments.keys():
                return known
    return None


def _with_all_texts(store: Store, run: ImportedRun) -> RunInfo | None:
    for known in _alike(store, run):
        held = {answer.key for answer in store.answers_of(known.id) if answer.text is not None}
        if known.benchmark in (run.benchmark, pairwise(run.benchmark)) and held >= run.answers.keys():
            return known
    return None


def _alike(store: Store, run: ImportedRun) -> Iterator[RunInfo]:
    """Whole imported runs of its model."""
    for known in store.runs(model=_model_fingerprint(run.model), status="complete"):
        if known.environment.get("imported") == run.environment["imported"]:
            yield known


def _put(store: Store, run: ImportedRun, known: RunInfo | None) -> Imported:
    id = known.id if known else _write(store, run)
    samples = store.samples_of(id)
    return Imported(
        run=id,
        model=run.model,
        benchmark=known.benchmark if known else run.benchmark,
        judge=known.judge if known else run.judge,
        answers=sum(answer.text is not None for answer in store.answers_of(id)),
        judgments=len(store.judgments_of(id)),
        without_score=sum(sample.value is None and sample.metric != CONSISTENT for sample in samples),
        not_judged=run.not_judged,
        new=known is None,
    )


def _write(store: Store, run: ImportedRun) -> str:
    model = _model_fingerprint(run.model)
    store.put_model(fingerprint=model, name=run.model, location="", note="imported")
    writer = store.start_run(
        RunStart(
            benchmark=run.benchmark,
            model=run.model,
            model_fingerprint=model,
            engine_fingerprint=model,
            judge=run.judge,
            judge_fingerprint=None if run.judge is None else judge_fingerprint(run.judge),
            protocol=run.protocol,
            environment=run.environment,
        )
    )
    status = "failed"
    try:
        writer.add_answers(run.answers.values())
        writer.add_judgments(run.judgments.values())
        writer.add_samples(run.samples)
        status = "complete"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        writer.finish(status, run.scores if status == "complete" else [])
    return writer.id


def _model_fingerprint(model: str) -> str:
    return fingerprint({"imported": model})
