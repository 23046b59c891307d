"""Runs by what is true of them: `--where` and --tag.

SQL narrows, Python decides: a database sorts and folds text in its own way, so that what a run is held against is said
once, in where.py, and both databases find the same runs. Runs come and go by their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, bindparam, exists, func, not_, or_, select, true

from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.fingerprint import short
from zephyr_bench.store import rows
from zephyr_bench.store.run_info import DRIFT
from zephyr_bench.store.schema import models, runs, tags
from zephyr_bench.store.where import TREES, Joined, Not, Term, Where, holds, look_into, parse_where, tests_of

_BY_LINEAGE = ("recipe", "stage")
_TEXTS = {"benchmark": runs.c.benchmark, "judge": runs.c.judge}
WRITER = (runs.c.status, runs.c.writer_host, runs.c.writer_pid, runs.c.writer_started)


def matching(connection: Connection, where: str, status_of: Callable[[Row[Any]], str]) -> list[int]:
    """Numbers of the runs that the text is true of, newest first. Raises UserError.

    `status_of` tells a run's status, which for one whose writer died isn't the stored one.
    """
    tree = parse_where(where)
    fields = {test.root for test in tests_of(tree)}
    of_lineage = bool(fields & {"lineage", *_BY_LINEAGE})
    columns = [runs.c.number, runs.c.id, runs.c.model_fingerprint, runs.c.model, runs.c.benchmark, runs.c.judge]
    columns += [runs.c.created, runs.c.seed, runs.c.version, *WRITER]
    columns += [runs.c[name] for name in ("protocol", "environment") if name in fields]
    query = select(*columns).where(_narrowed(tree)).order_by(runs.c.created.desc(), runs.c.number.desc())
    found = connection.execute(query).all()
    lineages = lineages_of(connection, (run.model_fingerprint for run in found)) if of_lineage else {}
    tagged = tags_of(connection) if "tag" in fields else {}

    def look_at(run: Row[Any]) -> Callable[[Term], Any]:
        def look(test: Term) -> Any:
            match test.root:
                case "tag":
                    return tagged.get(run.number, ())
                case "status":
                    return status_of(run)
                case "model":  # by any of its names
                    return _names(run) if test.operator in ("=", "!=") else run.model
                case "recipe" | "stage":
                    return look_into(lineages[run.model_fingerprint], test.root)
                case "lineage":
                    return look_into(lineages[run.model_fingerprint], test.path)
                case "protocol" | "environment":
                    return look_into(run._mapping[test.root], test.path)
            return run._mapping[test.field]

        return look

    looks = [(run.number, look_at(run)) for run in found]
    for test in tests_of(tree):
        if test.root in TREES and not test.wants_none and all(look(test) is None for _, look in looks):
            _check_told(connection, test)
    return [number for number, look in looks if holds(tree, look)]


def numbers_of(
    connection: Connection,
    status_of: Callable[[Row[Any]], str],
    *,
    benchmark: str | None,
    model: str | None,
    status: str | None,
    tagged: Iterable[str],
    where: str | None,
    drift: bool,
) -> list[int]:
    """Of the runs that all filters let through (`Store.runs` tells them), newest first. Raises UserError.

    Without `drift`, none in which a gate only had a baseline's answers graded again: no result of its model's.
    """
    query: Select[Any] = select(runs.c.number, *WRITER, runs.c.protocol[DRIFT].label("of_drift"))
    query = filtered(connection, query, benchmark=benchmark, model=model, tagged=tagged)
    chosen = (run for run in connection.execute(query) if drift or run.of_drift is None)
    found = [run.number for run in chosen if status in (None, status_of(run))]
    if where is None:
        return found
    fitting = set(matching(connection, where, status_of))
    return [number for number in found if number in fitting]


def filtered(
    connection: Connection, query: Select[Any], *, benchmark: str | None, model: str | None, tagged: Iterable[str]
) -> Select[Any]:
    """A query of runs, narrowed and newest first. `model` is a name or a fingerprint, `tagged` tags to have all of."""
    query = query.order_by(runs.c.created.desc(), runs.c.number.desc())
    if benchmark is not None:
        query = query.where(runs.c.benchmark == benchmark)
    if model is not None:
        query = query.where(or_(runs.c.model == model, runs.c.model_fingerprint == model))
    if wanted := list(tagged):
        query = query.where(in_numbers(runs.c.number, _with_tags(connection, wanted)))
    return query


def in_numbers(column: ColumnElement[int], numbers: Iterable[int]) -> ColumnElement[bool]:
    """However many: they are written into the statement, as databases limit its parameters."""
    return column.in_(bindparam(None, list(numbers), expanding=True, literal_execute=True))


def _with_tags(connection: Connection, wanted: Iterable[str]) -> set[int]:
    """Numbers of the runs that have all these tags."""
    having = [set(connection.execute(select(tags.c.run).where(tags.c.tag == tag)).scalars()) for tag in wanted]
    return set.intersection(*having) if having else set()


def _names(run: Row[Any]) -> tuple[str, ...]:
    """As leaderboards have them: its name, name@12ab34cd of several, its fingerprint."""
    return run.model, f"{run.model}@{short(run.model_fingerprint)}", run.model_fingerprint


def lineages_of(connection: Connection, fingerprints: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """By the fingerprint of a model, each read once."""
    found: dict[str, Mapping[str, Any]] = {}
    for batch in rows.in_batches(dict.fromkeys(fingerprints)):
        query = select(models.c.fingerprint, models.c.lineage).where(models.c.fingerprint.in_(batch))
        found.update((fingerprint, lineage or {}) for fingerprint, lineage in connection.execute(query))
    return found


def tags_of(connection: Connection, numbers: Iterable[int] | None = None) -> dict[int, list[str]]:
    """By a run's number, in their order; None: of all runs."""
    query = select(tags).order_by(tags.c.tag)
    chosen = [query] if numbers is None else (query.where(tags.c.run.in_(some)) for some in rows.in_batches(numbers))
    tagged: dict[int, list[str]] = {}
    for part in chosen:
        for run, tag in connection.execute(part):
            tagged.setdefault(run, []).append(tag)
    return tagged


def _check_told(connection: Connection, test: Term) -> None:
    """Raises UserError for a name below protocol, lineage or environment that no run of the store knows.

    A mistyped one would be true of no run, and its opposite of all.
    """
    column = models.c.lineage if test.root == "lineage" else runs.c[test.root]
    known: set[str] = set()
    for (tree,) in connection.execute(select(column)):
        if look_into(tree, test.path) is not None:
            return
        known |= {f"{test.root}.{name}" for name in tree or {}}
    if known:
        raise UserError(
            f"--where, position {test.position}: no run tells {test.field}.{did_you_mean(test.field, known)}"
        )


def _narrowed(tree: Where) -> ColumnElement[bool]:
    found = _condition(tree)
    return true() if found is None else found[0]


def _condition(tree: Where) -> tuple[ColumnElement[bool], bool] | None:
    """(condition, whether it is exact): true at least of the runs that the tree is true of; None where SQL can't say.

    It is never NULL, so that its opposite is, too, what Python takes for it.
    """
    match tree:
        case Not(part):
            found = _condition(part)
            return None if found is None or not found[1] else (not_(found[0]), True)
        case Joined("and", parts):
            told = [found for found in map(_condition, parts) if found is not None]
            whole = len(told) == len(parts) and all(exact for _, exact in told)
            return (and_(*(condition for condition, _ in told)), whole) if told else None
        case Joined(_, parts):
            each = [found for found in map(_condition, parts) if found is not None]
            if len(each) < len(parts):
                return None
            return or_(*(condition for condition, _ in each)), all(exact for _, exact in each)
        case Term():
            return _test(tree)
    raise TypeError(f"no tree: {tree!r}")


def _test(test: Term) -> tuple[ColumnElement[bool], bool] | None:
    equal = test.operator in ("=", "!=")
    if test.field in _TEXTS and equal:
        column = _TEXTS[test.field]
        value = None if test.wants_none else test.value
        same = column.is_not_distinct_from(value)
        return (same if test.operator == "=" else not_(same)), True
    if test.wants_none:
        return None
    if test.field == "status" and test.operator == "=":
        dying = ("running", "interrupted")  # a stored 'running' may be an interrupted one
        return runs.c.status.in_(dying if test.value in dying else [test.value]), test.value not in dying
    if test.field == "tag" and equal:
        tagged = exists().where(tags.c.run == runs.c.number, tags.c.tag == test.value)
        return (tagged if test.operator == "=" else ~tagged), True
    if test.field == "created" and test.operator != "~":
        return _compared(func.substr(runs.c.created, 1, len(test.value)), test.operator, test.value.replace(" ", "T"))
    if test.field == "seed" and test.operator != "~" and abs(int(test.value)) < 2**63:
        return _compared(runs.c.seed, test.operator, int(test.value))
    return None


def _compared(column: ColumnElement[Any], operator: str, value: Any) -> tuple[ColumnElement[bool], bool]:
    return {
        "=": column == value,
        "!=": column != value,
        "<": column < value,
        "<=": column <= value,
        ">": column > value,
        ">=": column >= value,
    }[operator], True
