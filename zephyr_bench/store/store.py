"""The results store, opened: runs begin here, and every report reads here."""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import Connection, Row, Select, delete, exists, insert, select, update

from zephyr_bench import __version__
from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.records import Answer, Judgment, Question, SampleScore, Score
from zephyr_bench.store import frames, kept, queries, rows
from zephyr_bench.store import trainings as training_rows
from zephyr_bench.store.connection import Database
from zephyr_bench.store.contents import contents
from zephyr_bench.store.deletion import Deletion, deletion
from zephyr_bench.store.dump_file import Dump, check_target, write_dump
from zephyr_bench.store.load import Loaded, Loading
from zephyr_bench.store.migrate import downgrade, lost_by_downgrade
from zephyr_bench.store.run_info import ModelInfo, RunInfo, RunStart, Verdict
from zephyr_bench.store.run_writer import RunWriter
from zephyr_bench.store.schema import (
    REVISION,
    answers,
    judgments,
    models,
    questions,
    run_answers,
    run_judgments,
    runs,
    samples,
    scores,
    tags,
)
from zephyr_bench.store.trainings import Training, TrainingWriter
from zephyr_bench.store.writers import Writer, is_dead, this_process

if TYPE_CHECKING:
    import pandas

DEFAULT_URL = "sqlite:///zephyr-bench.db"


class Store:
    """The store at `url`; it is made where there is none, and migrated where it is older.

    `timeout` is how many seconds to wait for another process's lock. Every method raises StoreError
    (one sentence: the file, what is wrong, what to do). Processes may use one store together.
    """

    def __init__(self, url: str = DEFAULT_URL, *, timeout: float = 30.0) -> None:
        self._database = Database(url, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    @property
    def place(self) -> str:
        """The file, or the database's URL without its password."""
        return self._database.place

    def dump(self, path: Path, *, force: bool = False) -> Dump:
        """All that the store holds at this moment, into one file for any database; what was there stays until then.

        Raises StoreError for a path where anything but a dump is, unless forced; for the store's own files always.
        """
        check_target(path, own=self._database.files, force=force)
        with self._database.read() as connection:
            return write_dump(path, REVISION, contents(connection))

    def load(self, dump: Dump) -> dict[str, Loaded]:
        """Add what a dump (of `check_dump`) holds and the store doesn't, by table: all of it, or nothing."""
        loading = Loading(dump, self._database)
        with self._database.write_prepared(loading.stage) as connection:
            return loading.merge(connection)

    def lost_by_downgrade(self, revision: str) -> dict[str, int]:
        """What `downgrade` would drop, and how much of it. Raises UserError for an unknown revision."""
        with self._database.read() as connection:
            return lost_by_downgrade(connection, revision)

    def downgrade(self, revision: str, *, force: bool = False) -> None:
        """Back to the tables of an older version; this object can't be used any more.

        Raises UserError while a run is being written, unless forced.
        """
        with self._database.write() as connection:
            if not force:
                _check_ended(connection.execute(select(runs).where(runs.c.status == "running")).all())
            downgrade(connection, revision)

    def put_model(
        self,
        *,
        fingerprint: str,
        name: str,
        location: str,
        note: str = "",
        lineage: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep a checkpoint, or what is newly known of it; a lineage is never replaced by none.

        Who knows no location, as a baseline's file, replaces no name, location or note.
        """
        told: dict[str, Any] = {"name": name, "location": location, "note": note}
        better: dict[str, Any] = dict(told) if location else {}
        if lineage:
            better["lineage"] = lineage
        new = {"lineage": {}, **told, **better, "fingerprint": fingerprint, "created": rows.now()}
        with self._database.write() as connection:
            if better:
                connection.execute(update(models).where(models.c.fingerprint == fingerprint).values(better))
            self._database.add_new(connection, models, [new])

    def start_run(self, start: RunStart) -> RunWriter:
        """A new run, always: what other runs made is found by its keys. Puts dead writers' runs to rest."""
        writer = this_process()
        values = {
            "benchmark": start.benchmark,
            "model": start.model,
            "model_fingerprint": start.model_fingerprint,
            "engine_fingerprint": start.engine_fingerprint,
            "judge": start.judge,
            "judge_fingerprint": start.judge_fingerprint,
            "protocol": start.protocol,
            "status": "running",
            "created": rows.now(),
            "seed": start.seed,
            "version": __version__,
            "environment": start.environment,
            "writer_host": writer.host,
            "writer_pid": writer.pid,
            "writer_started": writer.started,
        }
        with self._database.write() as connection:
            if (
                connection.execute(select(models).where(models.c.fingerprint == start.model_fingerprint)).first()
                is None
            ):
                raise ValueError(f"put_model was not given the model {start.model} ({start.model_fingerprint})")
            _mark_interrupted(connection)
            id = _new_id(connection)
            made = connection.execute(insert(runs).values(id=id, **values))
            number = made.inserted_primary_key[0]  # type: ignore[index]
        return RunWriter(self._database, id=id, number=number)

    def start_training(self, *, fingerprint: str, name: str, steps: int, done: int) -> TrainingWriter:
        """Of the stage with that fingerprint, which goes on after step `done`; what is stored of later steps goes."""
        with self._database.write() as connection:
            number = training_rows.begin(connection, fingerprint=fingerprint, name=name, steps=steps, done=done)
        return TrainingWriter(self._database, number)

    def training(self, fingerprint: str) -> Training | None:
        """What was seen of the stage with that fingerprint; None where it was not watched with this store."""
        with self._database.read() as connection:
            return training_rows.find(connection, fingerprint)

    def runs(
        self,
        *,
        benchmark: str | None = None,
        model: str | None = None,
        trained_by: str | None = None,
        status: str | None = None,
        tagged: Iterable[str] = (),
        where: str | None = None,
        limit: int | None = None,
    ) -> list[RunInfo]:
        """Newest first. `model` is a name or a fingerprint, `trained_by` the fingerprint of a stage of training.

        `tagged` names tags that a run has all of, `where` is as the command line takes it (where.py). Raises UserError.
        """
        query = _RUNS
        if trained_by is not None:
            query = query.where(models.c.lineage["stage_fingerprint"].as_string() == trained_by)
        with self._database.read() as connection:
            query = queries.filtered(connection, query, benchmark=benchmark, model=model, tagged=tagged)
            chosen = (row for row in self._chosen(connection, query, where) if status in (None, _status(row)))
            found = list(islice(chosen, limit))
            return _infos(connection, found)

    @staticmethod
    def _chosen(connection: Connection, query: Select[Any], where: str | None) -> Iterator[Row[Any]]:
        """Those rows of a query of runs, newest first."""
        if where is None:
            yield from connection.execute(query)
            return
        for batch in rows.in_batches(queries.matching(connection, where, _status)):
            yield from connection.execute(query.where(queries.in_numbers(runs.c.number, batch)))

    def run(self, id: str) -> RunInfo:
        """The run of that id, or of the only id that begins so. Raises UserError with close matches."""
        with self._database.read() as connection:
            return _infos(connection, [_find(connection, id)])[0]

    def scores_of(self, run_ids: Iterable[str]) -> dict[str, list[Score]]:
        """Run id -> its scores, headline first. Ids are whole; one without scores has an empty list."""
        wanted = list(run_ids)
        found: dict[str, list[Score]] = {id: [] for id in wanted}
        with self._database.read() as connection:
            for batch in rows.in_batches(wanted):
                query = select(runs.c.id, *rows.SCORE).join(runs, runs.c.number == scores.c.run)
                for id, *score in connection.execute(query.where(runs.c.id.in_(batch)).order_by(scores.c.position)):
                    found[id].append(Score(*score))
        return found

    def samples_of(self, run_id: str, metric: str | None = None) -> list[SampleScore]:
        """In their order of arrival."""
        with self._database.read() as connection:
            run = _find(connection, run_id)
            query = select(*rows.SAMPLE_STORED).where(samples.c.run == run.number).order_by(samples.c.position)
            if metric is not None:
                query = query.where(samples.c.metric == metric)
            return [rows.sample(row) for row in connection.execute(query)]

    def values_of(self, run_ids: Iterable[str], metric: str) -> dict[str, dict[str, float | None]]:
        """Run id -> question -> the value that its first repeat got, where samples whole would take long."""
        found: dict[str, dict[str, float | None]] = {}
        with self._database.read() as connection:
            for id in run_ids:
                query = select(samples.c.question, samples.c.value).join(runs, runs.c.number == samples.c.run)
                query = query.where(runs.c.id == id, samples.c.metric == metric, samples.c.replicate == 0)
                found[id] = dict(connection.execute(query.order_by(samples.c.position)).tuples().all())
        return found

    def kept(self, run_ids: Iterable[str], name: str) -> dict[str, bytes]:
        """By run id, what `keep` was given by that name; nothing of a run that was written to since."""
        with self._database.read() as connection:
            return kept.read(connection, run_ids, name)

    def keep(self, derived: Iterable[tuple[RunInfo, Mapping[str, bytes]]]) -> None:
        """What was derived from complete runs, by name; nothing of a run that is not as it was when it was read.

        All in one transaction. Raises StoreError at once where another process writes: who reads waits for nobody.
        """
        with self._database.write(wait=kept.WAIT) as connection:
            for run, entries in derived:
                kept.write(connection, run.id, run.finished, entries)

    def answers_of(self, run_id: str, questions: Collection[str] | None = None) -> list[Answer]:
        """The answers that a run made or used, or of them those to a few questions, oldest first."""
        with self._database.read() as connection:
            run = _find(connection, run_id)
            query = select(*rows.ANSWER).join(run_answers, run_answers.c.answer == answers.c.key)
            query = query.where(run_answers.c.run == run.number).order_by(answers.c.created, answers.c.key)
            if questions is not None:
                query = query.where(answers.c.question.in_(questions))
            return [Answer(*row) for row in connection.execute(query)]

    def answers(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The answers that the store has for those keys."""
        with self._database.read() as connection:
            return rows.answers_by_key(connection, keys)

    def judgments_of(self, run_id: str) -> list[Judgment]:
        """The judgments that a run made or used, oldest first."""
        with self._database.read() as connection:
            run = _find(connection, run_id)
            query = select(*rows.JUDGMENT).join(run_judgments, run_judgments.c.judgment == judgments.c.key)
            query = query.where(run_judgments.c.run == run.number).order_by(judgments.c.created, judgments.c.key)
            return [Judgment(*row) for row in connection.execute(query)]

    def verdicts_of(self, run_id: str, questions: Collection[str] | None = None) -> list[Verdict]:
        """The judgments that a run made or used, with what each is of, or of a few questions, oldest first."""
        about = ("question", "turn", "answer_key", "rival_key", "replicate", "created")
        with self._database.read() as connection:
            run = _find(connection, run_id)
            query = select(*rows.JUDGMENT, *(judgments.c[name] for name in about))
            query = query.join(run_judgments, run_judgments.c.judgment == judgments.c.key)
            query = query.where(run_judgments.c.run == run.number).order_by(judgments.c.created, judgments.c.key)
            if questions is not None:
                query = query.where(judgments.c.question.in_(questions))
            width = len(rows.JUDGMENT)
            return [Verdict(Judgment(*row[:width]), *row[width:]) for row in connection.execute(query)]

    def questions_of(self, run_id: str) -> list[Question]:
        """What a run asked, in order of id."""
        with self._database.read() as connection:
            number = _find(connection, run_id).number
            asked = select(answers.c.question_fingerprint).join(run_answers, run_answers.c.answer == answers.c.key)
            judged = select(judgments.c.question_fingerprint).join(
                run_judgments, run_judgments.c.judgment == judgments.c.key
            )
            used = asked.where(run_answers.c.run == number).union(judged.where(run_judgments.c.run == number))
            query = select(questions).where(questions.c.fingerprint.in_(used)).order_by(questions.c.id)
            return [rows.question(row) for row in connection.execute(query)]

    def model(self, fingerprint: str) -> ModelInfo:
        """Raises UserError for one that no run used."""
        with self._database.read() as connection:
            row = connection.execute(select(models).where(models.c.fingerprint == fingerprint)).first()
        if row is None:
            raise UserError(f"store {self._database.place}: no model {fingerprint}; see `zephyr-bench runs`.")
        return ModelInfo(**row._mapping)

    def tag(self, run_id: str, tag: str) -> None:
        """Give a run a tag; one it has already stays."""
        if not tag.strip():
            raise UserError("a tag is a word, such as nightly; found blanks only.")
        with self._database.write() as connection:
            run = _find(connection, run_id)
            self._database.add_new(connection, tags, [{"run": run.number, "tag": tag}])

    def untag(self, run_id: str, tag: str) -> None:
        """Take a tag away. Raises UserError where the run doesn't have it."""
        with self._database.write() as connection:
            run = _find(connection, run_id)
            taken = connection.execute(delete(tags).where(tags.c.run == run.number, tags.c.tag == tag))
            if taken.rowcount == 0:
                known = queries.tags_of(connection, [run.number]).get(run.number, [])
                raise UserError(f"run {run.id} has no tag '{tag}'.{did_you_mean(tag, known)}")

    def deletion(self, run_ids: Iterable[str], *, force: bool = False) -> Deletion:
        """What `delete` would take, and which other runs it touches. Raises UserError as it does."""
        with self._database.read() as connection:
            return deletion(connection, [run.number for run in _ended(connection, run_ids, force=force)])

    def delete(self, *run_ids: str, force: bool = False) -> None:
        """Runs with all that is only their own, for good.

        Raises UserError while one is being written, unless forced: none goes. A writer that lives in spite of that
        fails at its next write.
        """
        with self._database.write() as connection:
            found = _ended(connection, run_ids, force=force)
            for batch in rows.in_batches(run.number for run in found):
                connection.execute(delete(runs).where(runs.c.number.in_(batch)))
            _delete_unused(connection)

    def scores(
        self,
        *,
        benchmark: str | None = None,
        model: str | None = None,
        metric: str | None = None,
        status: str | None = None,
        tagged: Iterable[str] = (),
        where: str | None = None,
        drift: bool = False,
    ) -> pandas.DataFrame:
        """A row a metric of a run, newest run first and headline first in it; frames.py names the columns.

        The filters are those of `runs`. Runs in which a gate only had a baseline's answers graded again are left out
        without `drift`; the column `part` tells others that aren't the whole benchmark. Raises UserError.
        """
        with self._database.read() as connection:
            chosen = queries.numbers_of(
                connection,
                _status,
                benchmark=benchmark,
                model=model,
                status=status,
                tagged=tagged,
                where=where,
                drift=drift,
            )
            return frames.scores_frame(connection, chosen, _status, metric=metric)

    def samples(
        self,
        *,
        benchmark: str | None = None,
        model: str | None = None,
        metric: str | None = None,
        status: str | None = None,
        tagged: Iterable[str] = (),
        where: str | None = None,
        drift: bool = False,
    ) -> pandas.DataFrame:
        """A row a question's part in a metric, as `scores`; a suite of many rows is large, so filter."""
        with self._database.read() as connection:
            chosen = queries.numbers_of(
                connection,
                _status,
                benchmark=benchmark,
                model=model,
                status=status,
                tagged=tagged,
                where=where,
                drift=drift,
            )
            return frames.samples_frame(connection, chosen, _status, metric=metric)


_RUNS = select(runs, models.c.note).join(models, models.c.fingerprint == runs.c.model_fingerprint)


def _status(run: Row[Any]) -> str:
    """As stored, but for a writer that died before it could say so."""
    if run.status == "running" and is_dead(Writer(run.writer_host, run.writer_pid, run.writer_started)):
        return "interrupted"
    return str(run.status)


def _ended(connection: Connection, run_ids: Iterable[str], *, force: bool) -> list[Row[Any]]:
    """Raises UserError for a run that is being written, unless forced."""
    found = [_find(connection, id) for id in run_ids]
    if not force:
        _check_ended(found)
    return found


def _check_ended(found: Iterable[Row[Any]]) -> None:
    for run in found:
        if _status(run) == "running":
            where = f"process {run.writer_pid} on {run.writer_host}"
            raise UserError(
                f"run {run.id} is being written by {where}; stop that first, or add --force where it is certainly gone."
            )


def _mark_interrupted(connection: Connection) -> None:
    running = connection.execute(select(runs).where(runs.c.status == "running")).all()
    dead = [run.number for run in running if _status(run) == "interrupted"]
    for batch in rows.in_batches(dead):
        connection.execute(update(runs).where(runs.c.number.in_(batch)).values(status="interrupted"))


def _new_id(connection: Connection) -> str:
    """Of this second, and not taken: who asks holds the store's write lock."""
    while True:
        id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        if connection.execute(select(runs.c.number).where(runs.c.id == id)).first() is None:
            return id


def _find(connection: Connection, id: str) -> Row[Any]:
    if found := connection.execute(_RUNS.where(runs.c.id == id)).first():
        return found
    known = list(connection.execute(select(runs.c.id).order_by(runs.c.id.desc())).scalars())
    matching = [other for other in known if id and other.startswith(id)]
    if len(matching) == 1:
        return connection.execute(_RUNS.where(runs.c.id == matching[0])).one()
    if matching:
        raise UserError(f"'{id}' begins the ids of {len(matching)} runs; give more of {' or '.join(matching[:3])}.")
    if not known:
        raise UserError(f"unknown run '{id}': the store has no runs yet.")
    close = difflib.get_close_matches(id, known, cutoff=0.5) or known[:5]
    raise UserError(f"unknown run '{id}'.{did_you_mean(id, close)} `zephyr-bench runs` lists them.")


def _infos(connection: Connection, found: list[Row[Any]]) -> list[RunInfo]:
    tagged = queries.tags_of(connection, [run.number for run in found])
    return [
        RunInfo(
            id=run.id,
            benchmark=run.benchmark,
            model=run.model,
            model_fingerprint=run.model_fingerprint,
            engine_fingerprint=run.engine_fingerprint,
            judge=run.judge,
            judge_fingerprint=run.judge_fingerprint,
            status=_status(run),
            created=run.created,
            finished=run.finished,
            tags=tuple(tagged.get(run.number, ())),
            protocol=run.protocol,
            seed=run.seed,
            note=run.note,
            environment=run.environment,
            version=run.version,
        )
        for run in found
    ]


def _delete_unused(connection: Connection) -> None:
    """What no run uses any more. An answer stays while a judgment of it does."""
    linked = exists().where(run_judgments.c.judgment == judgments.c.key)
    connection.execute(delete(judgments).where(~linked))
    linked = exists().where(run_answers.c.answer == answers.c.key)
    judged = exists().where(judgments.c.answer_key == answers.c.key)
    rival = exists().where(judgments.c.rival_key == answers.c.key)
    connection.execute(delete(answers).where(~linked, ~judged, ~rival))
    asked = exists().where(answers.c.question_fingerprint == questions.c.fingerprint)
    judged = exists().where(judgments.c.question_fingerprint == questions.c.fingerprint)
    connection.execute(delete(questions).where(~asked, ~judged))
