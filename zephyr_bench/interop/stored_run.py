"""A run of the store with all that an export writes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zephyr_bench.errors import UserError
from zephyr_bench.records import Answer, Question, SampleScore
from zephyr_bench.store import RunInfo, Store, Verdict

Row = dict[str, Any]


@dataclass(frozen=True)
class StoredRun:
    info: RunInfo
    questions: Sequence[Question]
    answers: Sequence[Answer]
    verdicts: Sequence[Verdict]
    samples: Sequence[SampleScore]

    @property
    def judge(self) -> str:
        return self.info.judge or ""


def stored_runs(store: Store, runs: Sequence[str]) -> list[StoredRun]:
    """The runs of these ids, or beginnings of ids, each once. Raises UserError for an unknown one."""
    return [_stored(store, id) for id in dict.fromkeys(store.run(run).id for run in runs)]


def _stored(store: Store, id: str) -> StoredRun:
    info = store.run(id)
    return StoredRun(
        info=info,
        questions=store.questions_of(id),
        answers=store.answers_of(id),
        verdicts=_verdicts(store, info),
        samples=store.samples_of(id),
    )


def _verdicts(store: Store, run: RunInfo) -> list[Verdict]:
    """The run's judge's; a jury's run holds its members', too."""
    verdicts = store.verdicts_of(run.id)
    return [verdict for verdict in verdicts if verdict.judgment.judge == run.judge] or verdicts


def filled(row: Mapping[str, Any], texts: Mapping[str, Any]) -> Row:
    """The row, with the texts that it left to the store; what it never had it does not get."""
    return {key: texts[key] if value is None and key in texts else value for key, value in row.items()}


def apart(one: StoredRun, other: StoredRun, what: str) -> UserError:
    return UserError(f"runs {one.info.id} and {other.info.id} {what}; export them into different folders.")
