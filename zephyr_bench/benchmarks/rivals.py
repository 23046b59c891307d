"""Finds the answers that a model is compared with: those of other models, in the store.

In: what the user calls them (a model's name, name@12ab34cd of several checkpoints, a run's id, `all`). Out: whole sets
of answers, one for each rival.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.fingerprint import short
from zephyr_bench.records import Answer, Question
from zephyr_bench.store import RunInfo, Store

ALL = "all"
Answers = Mapping[str, tuple[Answer, ...]]  # by question, one a turn


@dataclass(frozen=True)
class Rival:
    model: str  # its name; with @ and 8 hex digits where the model under test, or another rival, has the same
    answers: Answers

    @property
    def keys(self) -> list[str]:
        return [answer.key for turns in self.answers.values() for answer in turns]


@dataclass(frozen=True)
class Origin:
    """Where answers come from, for a message: our command, and whose files we read."""

    command: str
    files: str


def find_rivals(
    store: Store,
    names: Sequence[str],
    model: ModelSource,
    questions: Sequence[Question],
    *,
    asked: str,
    also: Collection[str],
    origin: Origin,
) -> tuple[Rival, ...]:
    """The rivals of `model`, in the order of `names`. Raises UserError for one without a whole set of answers.

    `asked` is the benchmark whose questions they are, `also` those whose runs may have answered the same ones.
    """
    runs = [run for run in store.runs() if run.benchmark in (asked, *also)]
    taken = {model.name}
    found: list[Rival] = []
    if ALL in names:
        chosen = _everybody(store, runs, model, questions)
        if not chosen:
            raise UserError(f"--baseline all: no other model of the store has answered {asked}.")
    else:
        chosen = [_rival(store, runs, name, model, questions, asked, origin) for name in dict.fromkeys(names)]
    for run, answers in chosen:
        name = _checkpoint(run) if run.model in taken else run.model
        if name in taken:
            raise UserError(f"--baseline: {name} is named twice; name each rival once.")
        taken.add(name)
        found.append(Rival(name, answers))
    return tuple(found)


def _checkpoint(run: RunInfo) -> str:
    return f"{run.model}@{short(run.model_fingerprint)}"


def _rival(
    store: Store,
    runs: Sequence[RunInfo],
    name: str,
    model: ModelSource,
    questions: Sequence[Question],
    asked: str,
    origin: Origin,
) -> tuple[RunInfo, Answers]:
    meant = [run for run in runs if name in (run.model, _checkpoint(run))]
    by_id = [] if meant else [run for run in runs if run.id.startswith(name)]
    if len({run.model_fingerprint for run in by_id}) > 1:
        raise UserError(f"--baseline {name} begins the ids of several models' runs; give more of the id.")
    meant += by_id
    others = [run for run in meant if run.model_fingerprint != model.fingerprint]
    if meant and not others:
        raise UserError(f"--baseline {name} is the model itself; name another one.")
    found: dict[str, tuple[RunInfo, Answers]] = {}  # the newest whole set of answers of each checkpoint
    for run in others:
        if _checkpoint(run) not in found and (answers := _answers(store, run, questions)):
            found[_checkpoint(run)] = run, answers
    if len(found) > 1:
        raise UserError(f"--baseline {name} names several checkpoints; name one: {', '.join(sorted(found))}.")
    if found:
        return found.popitem()[1]
    what = "not all the answers" if meant else "no answers"
    known = {run.model for run in runs if run.model_fingerprint != model.fingerprint}
    raise UserError(
        f"--baseline {name}: the store has {what} of it to {asked}'s questions; let it answer with `zephyr-bench "
        f"{origin.command} --benchmark {asked} --model …`, or read its file of answers with `zephyr-bench import "
        f"{origin.files} FILE`."
        f"{did_you_mean(name, known) if known else ''}"
    )


def _everybody(
    store: Store, runs: Sequence[RunInfo], model: ModelSource, questions: Sequence[Question]
) -> list[tuple[RunInfo, Answers]]:
    """The newest whole set of answers of each other model, by name."""
    found: dict[str, tuple[RunInfo, Answers]] = {}
    for run in runs:  # newest first
        same = run.model_fingerprint == model.fingerprint or run.model == model.name
        if not same and run.model not in found and (answers := _answers(store, run, questions)):
            found[run.model] = run, answers
    return [found[name] for name in sorted(found)]


def _answers(store: Store, run: RunInfo, questions: Sequence[Question]) -> Answers | None:
    """The run's own answers to all the questions; None where a text is missing, or another question was asked."""
    if any(rival.startswith(f"{run.model}@") for rival in run.rivals):
        return None  # two checkpoints of one name answered in that run
    turns_asked = {question.id: question.turns for question in store.questions_of(run.id)}
    known = {
        (answer.question, answer.turn): answer
        for answer in store.answers_of(run.id)
        if answer.model == run.model and answer.replicate == 0 and answer.text is not None
    }
    found: dict[str, tuple[Answer, ...]] = {}
    for question in questions:
        turns = [known.get((question.id, turn)) for turn in range(1, len(question.turns) + 1)]
        if None in turns or turns_asked.get(question.id, question.turns) != question.turns:
            return None
        found[question.id] = tuple(answer for answer in turns if answer is not None)
    return found
