"""Runs that other harnesses' files tell of, into the store: all is read and checked before the first row is written.

What the store holds already is not written again: a run of the same model, benchmark and judge with exactly these
judgments is "already there" unless it lacks a figure that this import has, a run with exactly these texts, and scores
that a stored run tells. One key and another answer under it is refused. Knows no harness.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from zephyr_bench.benchmarks.pairing import CONSISTENT
from zephyr_bench.engines.protocol import ModelSource
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
    """Answers alone. A run of one of `same_questions` (benchmarks) with just these makes another one needless."""

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
    gained: tuple[str, ...] = ()  # figures for whose sake it is new: a stored run of the same judgments lacks them

    @property
    def state(self) -> str:
        if not self.new:
            return "already there"
        return f"new, for the stored run lacks {', '.join(self.gained)}" if self.gained else "new"


def judge_fingerprint(judge: str) -> str:
    """Of a judge known by its name alone."""
    return fingerprint({"imported judge": judge})


def add_to_store(store: Store, plan: Plan) -> list[Imported]:
    """Each run of the plan, as it is stored now. Raises UserError, before any write, where the store contradicts."""
    _check_answers(store, plan)
    done = [_put_judged(store, run) for run in plan.judged]
    for run in plan.answered:
        beside = [outcome for outcome in done if outcome.model == run.model]
        known = _beside(store, run, beside) or _with_the_texts(store, run)
        if known is None or not beside:
            done.append(_put(store, run, known))
    for scored in plan.scored:
        done.append(_put(store, scored, _with_all_scores(store, scored)))
    return done


def add_answers_alone(store: Store, run: AnsweredRun) -> Imported:
    """The run without a judge that holds just these answers, though a judged one may hold them, too."""
    return _put(store, run, next((known for known in _holding(store, run) if known.judge is None), None))


def imported_model(name: str) -> ModelSource:
    """A model known by its name alone."""
    return ModelSource(name, "", fingerprint({"imported": name}), note="imported")


def _check_answers(store: Store, plan: Plan) -> None:
    stored = store.answers(plan.places)
    for key, (question, answer) in ((key, told) for run in plan.runs for key, told in run.answers.items()):
        if key in stored and answer.text is not None and stored[key].text not in (None, answer.text):
            where = next(run.id for run in store.runs() if any(a.key == key for a in store.answers_of(run.id)))
            raise UserError(
                f"{plan.places[key]}: the store has another answer of {answer.model} to turn {answer.turn} of question "
                f"{question.id}, in run {where}; delete that run, or import into another store (--store)."
            )


def _put_judged(store: Store, run: ImportedRun) -> Imported:
    alike = [known for known in _alike(store, run) if _has_the_judgments(store, known, run)]
    lacking = {known.id: _lacking(store, known, run) for known in alike}
    whole = next((known for known in alike if not lacking[known.id]), None)
    gained = lacking[alike[0].id] if alike and whole is None else ()
    return replace(_put(store, run, whole), gained=gained)


def _has_the_judgments(store: Store, known: RunInfo, run: ImportedRun) -> bool:
    """Exactly these: a run of more is another one, with other scores."""
    if known.benchmark != run.benchmark or known.judge_fingerprint != judge_fingerprint(run.judge or ""):
        return False
    return {judgment.key for judgment in store.judgments_of(known.id)} == run.judgments.keys()


def _lacking(store: Store, known: RunInfo, run: ImportedRun) -> tuple[str, ...]:
    """Figures without a value in the stored run that this one has, as of data that was not at hand then."""
    absent = {score.metric for score in store.scores_of([known.id])[known.id] if score.value is None}
    return tuple(score.metric for score in run.scores if score.value is not None and score.metric in absent)


def _beside(store: Store, run: AnsweredRun, judged: Sequence[Imported]) -> RunInfo | None:
    """A judged run of the same import that took these outputs in; it may hold more of them."""
    for outcome in judged:
        if outcome.benchmark in run.same_questions and _texts(store, outcome.run) >= run.answers.keys():
            return store.run(outcome.run)
    return None


def _with_the_texts(store: Store, run: AnsweredRun) -> RunInfo | None:
    return next(_holding(store, run), None)


def _holding(store: Store, run: AnsweredRun) -> Iterator[RunInfo]:
    """Runs whose answers by the model are exactly these: one with more of them is judged to other scores."""
    for known in _alike(store, run):
        if known.benchmark in run.same_questions and _own_texts(store, known) == run.answers.keys():
            yield known


def _texts(store: Store, run: str) -> set[str]:
    return {answer.key for answer in store.answers_of(run) if answer.text is not None}


def _own_texts(store: Store, known: RunInfo) -> set[str]:
    """Without the rivals', of which one may have the model's name."""
    verdicts = store.verdicts_of(known.id)
    rivals = {verdict.rival for verdict in verdicts} - {verdict.answer for verdict in verdicts}
    own = {a.key for a in store.answers_of(known.id) if a.text is not None and a.model == known.model}
    return own - rivals


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
    for known in store.runs(model=imported_model(run.model).fingerprint, status="complete"):
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
        not_judged=int(known.environment.get("not_judged", 0)) if known else run.not_judged,  # of the run in the row
        new=known is None,
    )


def _write(store: Store, run: ImportedRun) -> str:
    model = imported_model(run.model)
    store.put_model(fingerprint=model.fingerprint, name=model.name, location=model.location, note=model.note)
    writer = store.start_run(
        RunStart(
            benchmark=run.benchmark,
            model=run.model,
            model_fingerprint=model.fingerprint,
            engine_fingerprint=model.fingerprint,
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
