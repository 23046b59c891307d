"""One run being written: whatever an engine or judge makes is kept here, the moment it exists.

Every add_* and use_* is one transaction, committed when it returns, and idempotent: of two writes with the
same key the first wins. What was converted is checked before the lock is taken, and no lock is held while
the caller's iterable is read. Not thread safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.exc import IntegrityError

from zephyr_bench.errors import StoreError
from zephyr_bench.records import Answer, Judgment, Match, Question, SampleScore, Score, ScoredTokens
from zephyr_bench.store import kept, rows
from zephyr_bench.store.connection import Database
from zephyr_bench.store.run_info import STATUSES
from zephyr_bench.store.schema import (
    answers,
    judgments,
    questions,
    run_answers,
    run_judgments,
    runs,
    samples,
    scores,
    token_scores,
)


class RunWriter:
    """Made by `Store.start_run`; lives as long as its store is open."""

    def __init__(self, database: Database, *, id: str, number: int) -> None:
        self.id = id
        self._number = number
        self._database = database
        self._samples = 0  # how many were given: their order of arrival

    def answers(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The answers that the store has, from any run, for those keys."""
        with self._database.read() as connection:
            return rows.answers_by_key(connection, keys)

    def judgments(self, keys: Iterable[str]) -> dict[str, Judgment]:
        """The judgments that the store has, from any run, for those keys."""
        with self._database.read() as connection:
            found = rows.rows_by_key(connection, rows.JUDGMENT, keys)
        return {key: Judgment(*row) for key, row in found.items()}

    def token_scores(self, keys: Iterable[str]) -> dict[str, ScoredTokens]:
        """The log-probabilities that the store has, from any run, for those keys."""
        with self._database.read() as connection:
            found = rows.rows_by_key(connection, rows.TOKEN_SCORE, keys)
        return {key: ScoredTokens(*row) for key, row in found.items()}

    def add_answers(self, answered: Iterable[tuple[Question, Answer]]) -> None:
        """Keep new answers, with their questions, as answers of this run.

        An imported answer of which only the judgment was known gets its text.
        """
        pairs, created = list(answered), rows.now()
        new = [rows.answer_row(question, answer, created) for question, answer in pairs]
        links = rows.link_rows(self._number, "answer", (answer.key for _, answer in pairs))
        with self._write() as connection:
            self._add_questions(connection, (question for question, _ in pairs))
            self._database.add_new(connection, answers, new)
            self._fill_in_texts(connection, (answer for _, answer in pairs))
            self._database.add_new(connection, run_answers, links)

    def add_judgments(self, judged: Iterable[tuple[Match, Judgment]]) -> None:
        """Keep new judgments as judgments of this run. Raises ValueError for a score of NaN."""
        pairs, created = list(judged), rows.now()
        new = [rows.judgment_row(match, judgment, created) for match, judgment in pairs]
        links = rows.link_rows(self._number, "judgment", (judgment.key for _, judgment in pairs))
        with self._write() as connection:
            self._add_questions(connection, (match.question for match, _ in pairs))
            self._database.add_new(connection, judgments, new)
            self._database.add_new(connection, run_judgments, links)

    def use_answers(self, keys: Iterable[str]) -> None:
        """Stored answers are answers of this run as well."""
        links = rows.link_rows(self._number, "answer", keys)
        with self._write() as connection:
            self._database.add_new(connection, run_answers, links)

    def use_judgments(self, keys: Iterable[str]) -> None:
        """Stored judgments are judgments of this run as well."""
        links = rows.link_rows(self._number, "judgment", keys)
        with self._write() as connection:
            self._database.add_new(connection, run_judgments, links)

    def add_token_scores(self, scored: Iterable[ScoredTokens]) -> None:
        """Keep log-probabilities, for any run. Raises ValueError for NaN."""
        new = [rows.token_score_row(score) for score in scored]
        with self._write() as connection:
            self._database.add_new(connection, token_scores, new)

    def add_samples(self, given: Iterable[SampleScore]) -> None:
        """Keep samples of this run, one a metric, question and turn. Raises ValueError for NaN, and once it has ended.

        What was derived from a finished run stands for all of its samples (kept.py).
        """
        new = [
            rows.sample_row(self._number, position, sample)
            for position, sample in enumerate(given, start=self._samples)
        ]
        with self._write() as connection:
            if connection.scalar(select(runs.c.finished).where(runs.c.number == self._number)) is not None:
                raise ValueError(f"run {self.id} has ended: it takes no more samples")
            self._database.add_new(connection, samples, new)
        self._samples += len(new)

    def finish(self, status: str, final: Iterable[Score]) -> None:
        """Close the run with its scores, headline first; a second call replaces them."""
        if status not in STATUSES[1:]:
            raise ValueError(f"a run ends as one of {', '.join(STATUSES[1:])}, not as {status!r}")
        new = [rows.score_row(self._number, position, score) for position, score in enumerate(final)]
        ended = update(runs).where(runs.c.number == self._number).values(status=status, finished=rows.now())
        with self._write() as connection:
            if connection.execute(ended).rowcount == 0:
                raise self._deleted()
            kept.forget(connection, self._number)
            connection.execute(delete(scores).where(scores.c.run == self._number))
            self._database.add_new(connection, scores, new)

    @staticmethod
    def _fill_in_texts(connection: Connection, given: Iterable[Answer]) -> None:
        found = [{"of": a.key, "says": a.text, "told": a.origin} for a in given if a.text is not None and a.origin]
        if found:
            unknown = update(answers).where(answers.c.key == bindparam("of"), answers.c.text.is_(None))
            connection.execute(unknown.values(text=bindparam("says"), origin=bindparam("told")), found)

    def _add_questions(self, connection: Connection, asked: Iterable[Question]) -> None:
        distinct = {question.fingerprint: question for question in asked}
        self._database.add_new(connection, questions, map(rows.question_row, distinct.values()))

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        try:
            with self._database.write() as connection:
                yield connection
        except IntegrityError:
            raise self._deleted() from None

    def _deleted(self) -> StoreError:
        return StoreError(
            f"store {self._database.place}: run {self.id}, or an answer or judgment it uses, is gone: it was "
            "deleted meanwhile; run the same command again."
        )
