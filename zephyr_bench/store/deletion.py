"""What goes when runs go, and who else hangs on them. Reads only: Store.delete does it.

An answer or judgment goes with the last run that uses it; an answer stays while a judgment of it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, exists, func, not_, or_, select

from zephyr_bench.store.queries import in_numbers
from zephyr_bench.store.schema import answers, judgments, run_answers, run_judgments, runs, samples, scores


@dataclass(frozen=True)
class Dependent:
    """A run that was made from answers of one that is to go; it keeps them all, but can't be made again."""

    run: str
    model: str
    benchmark: str
    why: str  # compares with its answers; grades its answers again


@dataclass(frozen=True)
class Deletion:
    """How much goes, in rows, and whom it touches."""

    runs: tuple[str, ...]
    answers: int
    judgments: int
    samples: int
    scores: int
    users: tuple[str, ...]  # runs that use some of the same answers or judgments, and stay as they are
    dependents: tuple[Dependent, ...]


def deletion(connection: Connection, numbers: Sequence[int]) -> Deletion:
    """Of the runs of those numbers, all at once."""

    def count(query: Select[Any]) -> int:
        return connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()

    def ids(chosen: ColumnElement[bool]) -> tuple[str, ...]:
        return tuple(connection.execute(select(runs.c.id).where(chosen).order_by(runs.c.number)).scalars())

    dependents = _dependents(connection, numbers)
    depending = {dependent.run for dependent in dependents}
    users = ids(runs.c.number.in_(_users(numbers)))
    return Deletion(
        runs=ids(in_numbers(runs.c.number, numbers)),
        answers=count(_answers_going(numbers)),
        judgments=count(_judgments_going(numbers)),
        samples=count(select(samples.c.run).where(in_numbers(samples.c.run, numbers))),
        scores=count(select(scores.c.run).where(in_numbers(scores.c.run, numbers))),
        users=tuple(user for user in users if user not in depending),
        dependents=dependents,
    )


def _judgments_going(numbers: Sequence[int]) -> Select[tuple[str]]:
    going, other = run_judgments.alias(), run_judgments.alias()
    kept = exists().where(other.c.judgment == going.c.judgment, not_(in_numbers(other.c.run, numbers)))
    return select(going.c.judgment).where(in_numbers(going.c.run, numbers), ~kept).distinct()


def _answers_going(numbers: Sequence[int]) -> Select[tuple[str]]:
    """Used by these runs only, or known by their judgments only."""
    gone = _judgments_going(numbers).cte("gone_judgments")
    own, other = run_answers.alias(), run_answers.alias()
    used = answers.c.key.in_(select(own.c.answer).where(in_numbers(own.c.run, numbers)))
    of_gone = [
        answers.c.key.in_(select(column).join(gone, gone.c.judgment == judgments.c.key).where(column.is_not(None)))
        for column in (judgments.c.answer_key, judgments.c.rival_key)
    ]
    linked = exists().where(other.c.answer == answers.c.key, not_(in_numbers(other.c.run, numbers)))
    staying = judgments.alias()
    stays = staying.c.key.not_in(select(gone.c.judgment))
    judged = [exists().where(column == answers.c.key, stays) for column in (staying.c.answer_key, staying.c.rival_key)]
    return select(answers.c.key).where(or_(used, *of_gone), ~linked, *(~one for one in judged))


def _users(numbers: Sequence[int]) -> Select[tuple[int]]:
    """Numbers of the other runs that use the same answers or judgments."""
    found = []
    for links, column in ((run_answers, "answer"), (run_judgments, "judgment")):
        going, other = links.alias(), links.alias()
        same = select(other.c.run).join(going, going.c[column] == other.c[column])
        found.append(same.where(in_numbers(going.c.run, numbers), not_(in_numbers(other.c.run, numbers))))
    return select(found[0].union(found[1]).subquery().c.run)


def _dependents(connection: Connection, numbers: Sequence[int]) -> tuple[Dependent, ...]:
    """Runs whose judgments are of these runs' own answers: as their rivals', or graded by another judge.

    An answer that a staying run of the same model made or used as well is not only theirs, and nobody depends on them
    for it.
    """
    going, own, holder, held = runs.alias(), run_answers.alias(), runs.alias(), run_answers.alias()
    dependent, theirs = runs.alias(), run_judgments.alias()
    held_by_another = (
        exists()
        .where(held.c.answer == answers.c.key, holder.c.number == held.c.run, holder.c.model == answers.c.model)
        .where(not_(in_numbers(holder.c.number, numbers)))
    )
    only_theirs = (
        select(answers.c.key, going.c.number, going.c.judge_fingerprint)
        .join(own, own.c.answer == answers.c.key)
        .join(going, going.c.number == own.c.run)
        .where(in_numbers(going.c.number, numbers), going.c.model == answers.c.model)
    )
    found: dict[str, Dependent] = {}

    def add(query: Select[Any], why: str) -> None:
        for run, model, benchmark in connection.execute(query.distinct()):
            found.setdefault(run, Dependent(run, model, benchmark, why))

    whose = select(dependent.c.id, dependent.c.model, dependent.c.benchmark)
    whose = whose.join(theirs, theirs.c.run == dependent.c.number)
    whose = whose.join(judgments, judgments.c.key == theirs.c.judgment)
    whose = whose.where(not_(in_numbers(dependent.c.number, numbers)))
    rivals = only_theirs.where(~held_by_another).subquery()
    add(whose.join(rivals, rivals.c.key == judgments.c.rival_key), "compares with its answers")
    graded = only_theirs.subquery()
    other_judge = dependent.c.judge_fingerprint.is_distinct_from(graded.c.judge_fingerprint)
    later = dependent.c.number > graded.c.number
    again = whose.join(graded, graded.c.key == judgments.c.answer_key).where(other_judge, later)
    add(again, "grades its answers again")
    return tuple(sorted(found.values(), key=lambda one: one.run))
