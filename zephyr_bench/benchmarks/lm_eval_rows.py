"""What lm-eval's tasks raise at data that isn't as they expect, told in one sentence that names task and place.

A missing column or a broken file leads lm-eval, datasets or a task's own code to whatever error it happens to be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from zephyr_bench.errors import UserError, ZephyrBenchError, first_line

_LONGEST = 240  # characters of another library's sentence; datasets lists each file ending that it knows
_UNDEFINED = re.compile("('.+') is undefined")  # jinja's word
_ASKS, _GRADES = ("fewshot_context", "construct_requests"), "process_results"  # lm-eval's, both of a row


@contextmanager
def told_as(problem: str, *, row: Any = None, advice: str = "") -> Iterator[None]:
    """Whatever is raised within becomes `PROBLEM: REASON; ADVICE.`; our own errors pass."""
    try:
        yield
    except (ZephyrBenchError, MemoryError):
        raise
    except Exception as error:
        told = reason(error)
        if told.startswith("it has no") and isinstance(row, Mapping):
            advice = f"its columns are {', '.join(map(str, row))}"
        raise UserError(f"{problem}: {told}{f'; {advice}' if advice else ''}.") from error


@dataclass(frozen=True)
class Source:
    """Where a task's rows lie, for what is told of them."""

    task: str
    place: str

    @property
    def no_data(self) -> str:
        return f"{self.task} can't take its data from {self.place}"

    @property
    def no_grade(self) -> str:
        return f"{self.task} can't grade a reply to a row of {self.place}"


def tell_of_rows(task: Any, source: Source) -> None:
    """Has lm-eval's task object raise UserError where it can't read a row."""
    for name in _ASKS:
        setattr(task, name, _telling(getattr(task, name), source.no_data))
    setattr(task, _GRADES, _telling(getattr(task, _GRADES), source.no_grade))


def try_grading(task: Any, source: Source) -> None:
    """Grades an empty reply to the first row: a column that only grading reads is missed before any text is made."""
    row = task.task_docs[0]
    with told_as(source.no_grade, row=row):
        task.process_results(row, [""])


def reason(error: BaseException) -> str:
    """In one line; where datasets says no more than that it failed, of the error behind its own."""
    from datasets.exceptions import DatasetGenerationError
    from datasets.table import CastError

    while isinstance(error, DatasetGenerationError) and error.__cause__ is not None:
        error = error.__cause__
    told = first_line(error).removeprefix("Error: ").rstrip(".!")
    if isinstance(error, KeyError):
        return f"it has no {told}"
    if undefined := _UNDEFINED.fullmatch(told):
        return f"it has no {undefined[1]}"
    if isinstance(error, IndexError) and "size 0" in told:
        return "it has no row for that task"
    if isinstance(error, CastError):
        return _other_columns(set(error.requested_column_names), set(error.table_column_names))
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        # datasets reads what follows the README's first line
        return f"malformed YAML in README.md line {error.problem_mark.line + 2}: {error.problem}"
    told = told.partition(" with any supported extension")[0]  # and 60 of them
    return told if len(told) <= _LONGEST else f"{told[:_LONGEST].rstrip()}…"


def _other_columns(expected: set[str], found: set[str]) -> str:
    lacking, new = (", ".join(sorted(names)) for names in (expected - found, found - expected))
    parts = [f"without {lacking}" if lacking else "", f"with {new}" if new else ""]
    return f"its rows differ in their columns: some are {' and '.join(filter(None, parts))}"


def _telling(read: Callable[..., Any], problem: str) -> Callable[..., Any]:
    def reading(doc: Any, *arguments: Any, **more: Any) -> Any:
        with told_as(problem, row=doc):
            return read(doc, *arguments, **more)

    return reading
