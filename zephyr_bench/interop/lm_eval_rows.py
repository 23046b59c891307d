"""Rows of lm-eval's samples as scores of ours: a number a row, or one for each of its parts (IFEval's instructions).

Questions are named as in our own runs, TASK/DOCUMENT, so that both compare row by row. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zephyr_bench.errors import UserError
from zephyr_bench.interop.lm_eval_files import SampleRow, SamplesFile
from zephyr_bench.interop.lm_eval_names import NO_FILTER, Label, label_of_0_4
from zephyr_bench.records import SampleScore

NO_NUMBER = "the metric is not a number"  # as in our own runs


@dataclass(frozen=True)
class Labelled:
    """A row with its metrics under their filter."""

    row: SampleRow
    values: Mapping[Label, Any]


def labelled(file: SamplesFile, leaf: str, filters: Sequence[str]) -> Iterator[Labelled]:
    """`filters` are the task's, in lm-eval's order; early releases leave a row's to be told by its place.

    Raises UserError where it can't be told.
    """
    times: Counter[int] = Counter()
    for row in file.rows:
        extraction = row.filter
        if extraction is None:
            place, times[row.doc_id] = times[row.doc_id], times[row.doc_id] + 1
            known = filters or (NO_FILTER,)
            if place >= len(known):
                raise UserError(
                    f"{row.place}: document {row.doc_id} stands there again, and no row tells its filter; "
                    "give the results file, too, which does."
                )
            extraction = known[place]
        labels = {label_of_0_4(leaf, metric, extraction): value for metric, value in row.values.items()}
        yield Labelled(row, {label: value for label, value in labels.items() if label is not None})


def scores_of(file: SamplesFile, leaf: str, filters: Sequence[str], wanted: Mapping[Label, str]) -> list[SampleScore]:
    """`wanted` are the metrics with their names among our samples. A row that stands twice counts once.

    Raises UserError naming file, line and metric for a value that is no number, and for a row that contradicts another.
    """
    found: dict[tuple[str, str, int], SampleScore] = {}
    for entry in labelled(file, leaf, filters):
        question = f"{leaf}/{entry.row.doc_id}"
        for label, name in wanted.items():
            if label not in entry.values:
                continue
            for turn, value in _values(entry.row, label, entry.values[label]):
                sample = SampleScore(question, leaf, name, value, turn, None if value is not None else NO_NUMBER)
                known = found.setdefault((question, name, turn), sample)
                if known != sample:
                    raise UserError(
                        f"{entry.row.place}: another row of document {entry.row.doc_id} tells another {label[0]}."
                    )
    return list(found.values())


def share(file: SamplesFile, label: Label, leaf: str, filters: Sequence[str]) -> float | None:
    """The mean over the rows, None where there is none."""
    samples = scores_of(file, leaf, filters, {label: label[0]})
    values = [sample.value for sample in samples if sample.value is not None]
    return sum(values) / len(values) if values else None


def _values(row: SampleRow, label: Label, value: Any) -> Iterator[tuple[int, float | None]]:
    """(turn, number); a row without parts has turn 0."""
    if isinstance(value, list):
        yield from ((turn, _number(row, label, part)) for turn, part in enumerate(value, start=1))
    else:
        yield 0, _number(row, label, value)


def _number(row: SampleRow, label: Label, value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, bool | int | float):
        raise UserError(f"{row.place}: {label[0]}: expected a number, or a list of them, found {value!r}.")
    return float(value)
