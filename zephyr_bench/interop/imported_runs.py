"""Runs that other harnesses' files tell of, into the store: all is read and checked before the first row is written.

What the store holds already is not written again: a run of the same model, benchmark and judge with all the judgments
is "already there", and so are scores that a stored run tells. One key and another answer under it is refused. Knows no
harness.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zephyr_bench.benchmarks.pairing import CONSISTENT
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Answer, Judgment, Match, Question, SampleScore, Score
from zephyr_bench.store import RunInfo, RunStart, Store

Told = tuple[Question, Answer]
_SAME = 1e-9  # of one score, computed from rows and read from a file


@dataclass(frozen=True)
class ImportedRun:
    """A run as the files tell it."""

    benchmark: str
    model: str
    judge: str | None
    answers: Mapping[str, Told]  # by key; without a text where only a judgment names it
    judgments: Mapping[str, tuple[Match, Judgment]]  # by key
    samples: Sequence[SampleScore]
    scores: Sequence[Score]
    protocol: Mapping[str, Any]
    environment: Mapping[str, Any]  # `imported` names the harness
    not_judged: int  # turns of questions that no row of this model and judge speaks of


@dataclass(frozen=True)
class AnsweredRun(ImportedRun):
    """Answers alone. A run of one of `same_questions` (benchmarks) that has them all makes another one needless."""

    same_questions: frozenset[str]


@dataclass(frozen=True)
class ScoredRun(ImportedRun):
    """Scores that no judge gave. One that tells all that this one tells makes it needless."""


@dataclass(frozen=True)
class Plan:
    judged: Sequence[ImportedRun]
    answered: Sequence[AnsweredRun]
    places: Mapping[str, str] = field(default_factory=dict)  # where a text stands, by keys that don't tell the text
    scored: Sequence[ScoredRun] = ()

    @property
    def runs(self) -> Sequence[ImportedRun]:
        return (*self.judged, *self.answered, *self.scored)


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
    not_judged: int
    new: bool


def judge_fingerprint(judge: str) -> str:
    """Of a judge known by its name alone."""
    return fingerprint({"imported judge": judge})


def add_to_store(store: Store, plan: Plan) -> list[Imported]:
    """Each run of the plan, as it is stored now. Raises UserError, before any write, where the store contradicts."""
    _check_answers(store, plan)
    done = [_put(store, run, _with_all_judgments(store, run)) for run in plan.judged]
    judged = {outcome.model for outcome in done}
    for run in plan.answered:
        known = _with_all_texts(store, run)  # may be one of those just written
        if known is None or run.model not in judged:
            done.append(_put(store, run, known))
    for scored in plan.scored:
        done.append(_put(store, scored, _with_all_scores(store, scored)))
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


def _with_all_texts(store: Store, run: AnsweredRun) -> RunInfo | None:
    for known in _alike(store, run):
        held = {answer.key for answer in store.answers_of(known.id) if answer.text is not None}
        if known.benchmark in run.same_questions and held >= run.answers.keys():
            return known
    return None


def _with_all_scores(store: Store, run: ScoredRun) -> RunInfo | None:
    # which tasks they are of, `only` names; the protocol has an entry of each
    told = {name: value for name, value in run.protocol.items() if name != "only"}
    for known in _alike(store, run):
        if known.benchmark == run.benchmark and _tells(known.protocol, told):
            values = {score.metric: score.value for score in store.scores_of([known.id])[known.id]}
            new = {score.metric: score.value for score in run.scores if score.value is not None}
            if all(_close(values.get(metric), value) for metric, value in new.items()):
                graded = {sample for sample in run.samples if sample.question}
                if graded <= {*store.samples_of(known.id)}:
                    return known
    return None


def _tells(known: Any, new: Any) -> bool:
    """Whether the one has all that the other has; of lists, whether each entry of the other is told by some entry."""
    if isinstance(known, Mapping) and isinstance(new, Mapping):
        return all(key in known and _tells(known[key], value) for key, value in new.items())
    if isinstance(known, list) and isinstance(new, list):
        return all(any(_tells(entry, value) for entry in known) for value in new)
    return bool(known == new)


def _close(known: float | None, new: float) -> bool:
    return known is not None and abs(known - new) <= _SAME * max(1.0, abs(new))


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
        # a sample of no question says why the run as a whole lacks a figure
        without_score=sum(s.value is None and s.metric != CONSISTENT and s.question != "" for s in samples),
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
