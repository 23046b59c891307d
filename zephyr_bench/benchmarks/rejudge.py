"""Grade a stored run's answers again, with another judge: a run of its own, and no model is asked.

In: a run of the store, made here or imported. Out: its scores by the other judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from zephyr_bench.benchmarks.evaluate import Outcome, completed, recorded_run
from zephyr_bench.benchmarks.protocol import Benchmark, Given, Job, Regrades, compares
from zephyr_bench.engines.protocol import FollowUp, ModelSource
from zephyr_bench.errors import MissingParts, UserError
from zephyr_bench.judges.protocol import Judge, unfit_for
from zephyr_bench.progress import Progress
from zephyr_bench.records import Answer, Generation, GenerationRequest, Match
from zephyr_bench.store import RunInfo, Store


class AnsweredModel:
    """The engine of a run whose answers are all there already."""

    def __init__(self, store: Store, run: RunInfo) -> None:
        known = store.model(run.model_fingerprint)
        self.model = ModelSource(run.model, known.location, known.fingerprint, known.lineage, known.note)
        self.fingerprint = run.engine_fingerprint

    def generate(self, requests: Iterable[GenerationRequest], *, then: FollowUp | None = None) -> Iterator[Generation]:
        raise UserError(f"model {self.model.name}: only its stored answers are judged.")

    def close(self) -> None:
        """Nothing is held."""


def judge_run(store: Store, run_id: str, benchmark: Benchmark, judge: Judge, progress: Progress) -> Outcome:
    """`benchmark` is the run's. Raises UserError for a run whose answers are not known, or are not judged at all."""
    info = store.run(run_id)
    if not isinstance(benchmark, Regrades):
        raise UserError(f"run {info.id} is of {benchmark.name}, whose answers no judge grades.")
    if info.status != "complete":
        raise UserError(
            f"run {info.id} is {info.status}: not all of it is answered or judged; finish it by the command that began "
            f"it, or name a complete run."
        )
    if lacking := [*judge.missing(), *unfit_for(judge, paired=compares(benchmark))]:
        raise MissingParts(f"judging run {info.id} by {judge.name}", lacking)
    given = Given(info.model, tuple(matches_of(store, info)), tuple(store.samples_of(info.id)))
    protocol = {**info.protocol, **benchmark.regrade_protocol(given)}
    engine = AnsweredModel(store, info)
    with recorded_run(store, engine, judge, benchmark=info.benchmark, protocol=protocol, seed=info.seed) as run:
        run.use_answers([answer.key for answer in store.answers_of(info.id)])
        job = Job(engine=engine, judge=judge, run=run, progress=progress, seed=info.seed)
        return completed(run, benchmark, benchmark.regrade(job, given))


def matches_of(store: Store, info: RunInfo) -> Iterator[Match]:
    """What the run's judge was asked; each answer by itself where none was. Raises UserError for unknown texts."""
    questions = {question.id: question for question in store.questions_of(info.id)}
    answers = store.answers_of(info.id)
    by_key = {answer.key: answer for answer in answers}
    turns = {(a.model, a.question, a.replicate, a.turn): a for a in answers}
    if len(turns) < len(answers):
        raise UserError(f"run {info.id}: two checkpoints of one name answered in it; their turns can't be told apart.")

    def up_to(answer: Answer) -> tuple[Answer, ...]:
        found = [turns.get((answer.model, answer.question, answer.replicate, t)) for t in range(1, answer.turn + 1)]
        whole = tuple(turn for turn in found if turn is not None and turn.text is not None)
        if len(whole) < answer.turn:
            raise UserError(
                f"run {info.id}: the text of {answer.model}'s answer to question {answer.question}, turn "
                f"{answer.turn}, is not known, only a judgment of it; import the file of its answers, too."
            )
        return whole

    # of a jury the members' verdicts are the run's, too
    verdicts = {(v.question, v.turn, v.answer, v.rival, v.replicate): v for v in store.verdicts_of(info.id)}.values()
    for verdict in verdicts:
        rival = None if verdict.rival is None else up_to(by_key[verdict.rival])
        yield Match(questions[verdict.question], verdict.turn, up_to(by_key[verdict.answer]), rival, verdict.replicate)
    for answer in answers if not verdicts else ():
        yield Match(questions[answer.question], answer.turn, up_to(answer), replicate=answer.replicate)
