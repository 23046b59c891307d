"""Finds the answers that a model is compared with: those of other models, in the store.

In: what the user calls them (a model's name, a run's id, `all`). Out: whole sets of answers, one for each rival.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.records import Answer, Question
from zephyr_bench.store import RunInfo, Store

ALL = "all"


@dataclass(frozen=True)
class Rival:
    model: str
    answers: Mapping[str, tuple[Answer, ...]]  # by question, one a turn

    @property
    def keys(self) -> list[str]:
        return [answer.key for turns in self.answers.values() for answer in turns]


def find_rivals(
    store: Store,
    names: Sequence[str],
    model: ModelSource,
    questions: Sequence[Question],
    *,
    benchmarks: Collection[str],
) -> tuple[Rival, ...]:
    """The rivals of `model`, in the order of `names`. Raises UserError for one without a whole set of answers."""
    runs = [run for run in store.runs() if run.benchmark in benchmarks]
    if ALL in names:
        found = _everybody(store, runs, model, questions)
        if not found:
            raise UserError(f"--baseline all: no other model of the store has answered {min(benchmarks)}.")
        return found
    return tuple(_rival(store, runs, name, model, questions, min(benchmarks)) for name in dict.fromkeys(names))


def _rival(
    store: Store, runs: Sequence[RunInfo], name: str, model: ModelSource, questions: Sequence[Question], benchmark: str
) -> Rival:
    meant = [run for run in runs if run.model == name] or [run for run in runs if run.id.startswith(name)]
    if meant and all(run.model_fingerprint == model.fingerprint for run in meant):
        raise UserError(f"--baseline {name} is the model itself; name another one.")
    for run in meant:
        if run.model_fingerprint != model.fingerprint and (answers := _answers(store, run, questions)):
            return Rival(run.model, answers)
    what = "not all the answers" if meant else "no answers"
    known = {run.model for run in runs if run.model_fingerprint != model.fingerprint}
    raise UserError(
        f"--baseline {name}: the store has {what} of it to {benchmark}'s questions; make them with "
        f"`zephyr-bench mtbench --model {name}`, or read its file of answers with `zephyr-bench import fastchat FILE`."
        f"{did_you_mean(name, known) if known else ''}"
    )


def _everybody(
    store: Store, runs: Sequence[RunInfo], model: ModelSource, questions: Sequence[Question]
) -> tuple[Rival, ...]:
    """The newest whole set of answers of each model, by name."""
    found: dict[str, Rival] = {}
    for run in runs:  # newest first
        same = run.model_fingerprint == model.fingerprint or run.model == model.name
        if not same and run.model not in found and (answers := _answers(store, run, questions)):
            found[run.model] = Rival(run.model, answers)
    return tuple(found[name] for name in sorted(found))


def _answers(store: Store, run: RunInfo, questions: Sequence[Question]) -> dict[str, tuple[Answer, ...]] | None:
    """The run's own answers to all the questions; None where a text is missing."""
    known = {
        (answer.question, answer.turn): answer
        for answer in store.answers_of(run.id)
        if answer.model == run.model and answer.replicate == 0 and answer.text is not None
    }
    found: dict[str, tuple[Answer, ...]] = {}
    for question in questions:
        turns = [known.get((question.id, turn)) for turn in range(1, len(question.turns) + 1)]
        if None in turns:
            return None
        found[question.id] = tuple(answer for answer in turns if answer is not None)
    return found
