"""Grade a stored run's answers again, with another judge: a run of its own, and no model is asked.

In: a run of the store, made here or imported. Out: its scores by the other judge.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from zephyr_bench.benchmarks.alpaca_eval import AlpacaEval
from zephyr_bench.benchmarks.alpaca_pairs import compared_pairs, lone_answers
from zephyr_bench.benchmarks.evaluate import Outcome, completed, recorded_run
from zephyr_bench.benchmarks.protocol import Benchmark, Given, Job, Regrades, compares
from zephyr_bench.engines.protocol import FollowUp, ModelSource
from zephyr_bench.errors import MissingParts, UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.judges.protocol import Judge, unfit_for
from zephyr_bench.progress import Progress
from zephyr_bench.records import Answer, Generation, GenerationRequest, Match, Question
from zephyr_bench.store import RunInfo, Store


class AnsweredModel:
    """The engine of a run whose answers are all there already."""

    def __init__(self, model: ModelSource, fingerprint: str) -> None:
        self.model = model
        self.fingerprint = fingerprint

    def generate(self, requests: Iterable[GenerationRequest], *, then: FollowUp | None = None) -> Iterator[Generation]:
        raise UserError(f"model {self.model.name}: only its stored answers are judged.")

    def close(self) -> None:
        """Nothing is held."""


def answered_model(store: Store, run: RunInfo) -> AnsweredModel:
    """Of a run of the store."""
    known = store.model(run.model_fingerprint)
    model = ModelSource(run.model, known.location, known.fingerprint, known.lineage, known.note)
    return AnsweredModel(model, run.engine_fingerprint)


def judge_run(
    store: Store, run_id: str, benchmark: Benchmark, judge: Judge, progress: Progress, *, limit: int | None = None
) -> Outcome:
    """`benchmark` is the run's. With `limit` so many of its questions, spread over its categories.

    Raises UserError for a run whose answers are not known, or are not judged at all.
    """
    info = store.run(run_id)
    regrading = regrades(info, benchmark)
    check_judge(judge, f"judging run {info.id} by {judge.name}", paired=compares(benchmark))
    given = given_of(store, info)
    protocol = {**info.protocol, **regrading.regrade_protocol(given)}
    cut = limit is not None and limit < len(questions_in(given))  # else it is the whole run
    if limit is not None and cut:
        given = only(given_pairs(benchmark, given), spread(questions_in(given), limit))
        protocol |= {"limit": limit, "spread": True}
    engine = answered_model(store, info)
    with recorded_run(store, engine, judge, benchmark=info.benchmark, protocol=protocol, seed=info.seed) as run:
        whole = [answer.key for answer in store.answers_of(info.id)]
        run.use_answers(stored_keys(store, given.matches) if cut else whole)
        job = Job(engine=engine, judge=judge, run=run, progress=progress, seed=info.seed)
        return completed(run, benchmark, regrading.regrade(job, given))


def stored_keys(store: Store, matches: Iterable[Match]) -> list[str]:
    """Keys of the matches' answers that the store has: a published baseline's may not be there yet."""
    keys = {answer.key for match in matches for answer in (*match.answers, *(match.rival or ()))}
    return sorted(store.answers(keys))


def regrades(info: RunInfo, benchmark: Benchmark) -> Regrades:
    """The benchmark, where it can have stored answers judged. Raises UserError where it can't, or they aren't whole."""
    if not isinstance(benchmark, Regrades):
        raise UserError(f"run {info.id} is of {benchmark.name}, whose answers no judge grades.")
    if info.status != "complete":
        raise UserError(
            f"run {info.id} is {info.status}: not all of it is answered or judged; finish it by the command that began "
            f"it, or name a complete run."
        )
    return benchmark


def check_judge(judge: Judge, what: str, *, paired: bool) -> None:
    """Raises MissingParts."""
    if lacking := [*judge.missing(), *unfit_for(judge, paired=paired)]:
        raise MissingParts(what, lacking)


def given_of(store: Store, info: RunInfo) -> Given:
    """What was judged of a run, and what came of it. Raises UserError for unknown texts."""
    return Given(info.model, tuple(matches_of(store, info)), tuple(store.samples_of(info.id)))


def given_pairs(benchmark: Benchmark, given: Given) -> Given:
    """With each lone answer beside the one that it is to be compared with, where the benchmark compares.

    A part of them can be judged then. Raises UserError where the other side is not known.
    """
    if not compares(benchmark) or compared_pairs(given):
        return given
    if not isinstance(benchmark, AlpacaEval):
        raise UserError(
            f"{benchmark.name}: nobody was compared with {given.model} yet, so that it isn't known with whom to; "
            f"`zephyr-bench mtbench --mode pairwise` compares it, and reads the answers that are stored."
        )
    pairs = benchmark.paired(lone_answers(given))
    matches = tuple(Match(p.question, 1, (p.answer,), (p.baseline,), p.replicate) for p in pairs)
    return replace(given, matches=matches)


def only(given: Given, questions: Collection[str]) -> Given:
    chosen = set(questions)
    matches = tuple(match for match in given.matches if match.question.id in chosen)
    return replace(given, matches=matches, samples=tuple(s for s in given.samples if s.question in chosen))


def questions_in(given: Given) -> list[Question]:
    """Each once, in their order."""
    return list({match.question.id: match.question for match in given.matches}.values())


def spread(questions: Sequence[Question], number: int) -> list[str]:
    """Ids of so many questions, the same each time: from each category in turn, in an order drawn by the id's hash."""
    categories: dict[str, list[str]] = {}
    for question in sorted(questions, key=lambda question: fingerprint(question.id)):
        categories.setdefault(question.category, []).append(question.id)
    places = [(place, category, id) for category, ids in categories.items() for place, id in enumerate(ids)]
    return [id for _, _, id in sorted(places)[:number]]


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
