"""What a run itself said, whatever name its answers are stored under."""

from __future__ import annotations

from chat_runs import chat_run, long_answers, short_answers
from conftest_reports import AddRun

from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Answer, Question
from zephyr_bench.reports.comparison import compare_sides
from zephyr_bench.reports.moved import said_of
from zephyr_bench.reports.scores import render_run
from zephyr_bench.reports.sides import own_answers, side_of
from zephyr_bench.store import RunStart, Store


def renamed(store: Store, run: str, name: str) -> str:
    """The same weights under another name: its answers are those that the store has."""
    first = store.run(run)
    checkpoint = first.model_fingerprint
    writer = store.start_run(
        RunStart(
            benchmark=first.benchmark,
            model=name,
            model_fingerprint=checkpoint,
            engine_fingerprint=first.engine_fingerprint,
            judge=first.judge,
            judge_fingerprint=first.judge_fingerprint,
            protocol=first.protocol,
        )
    )
    writer.use_answers([answer.key for answer in store.answers_of(run)])
    writer.add_samples(store.samples_of(run))
    writer.finish("complete", store.scores_of([run])[run])
    return writer.id


def test_a_renamed_checkpoint_said_what_is_stored_under_its_first_name(store: Store) -> None:
    first = chat_run(store, "first", short_answers)
    copy = renamed(store, first, "copy")
    sides = [side_of(store, store.run(run)) for run in (first, copy)]
    assert dict(sides[1].said or {}) == dict(sides[0].said or {}) != {}
    other = side_of(store, store.run(chat_run(store, "other", long_answers)))
    assert compare_sides(*sides).same_answers
    assert not compare_sides(sides[1], other).same_answers
    asked = next(iter(sides[0].said or {}))[0]
    texts = [turn.answer for turn in said_of(store, store.run(copy), [asked])[asked]]
    assert texts == [turn.answer for turn in said_of(store, store.run(first), [asked])[asked]]


def test_of_a_renamed_checkpoint_odd_answers_are_counted(store: Store) -> None:
    silent = chat_run(store, "first", lambda question, turn: "")
    assert "20 of 20 answers are empty" in render_run(store, renamed(store, silent, "copy"), "table")


def test_a_rivals_answers_are_not_its_own(store: Store, add_run: AddRun) -> None:
    run = store.start_run(
        RunStart("alpaca-eval-mini", "new", told(store, "new"), fingerprint("e"), protocol={"rivals": ["rival"]})
    )
    question = Question("i1", "advice", ("Why?",))
    answers = [Answer(f"key {name}", name, "i1", 1, name) for name in ("first name", "rival")]
    run.add_answers([(question, answer) for answer in answers])
    run.finish("complete", [])
    assert [answer.text for answer in own_answers(store, store.run(run.id))] == ["first name"]


def told(store: Store, model: str) -> str:
    store.put_model(fingerprint=fingerprint(model), name=model, location="", lineage={})
    return fingerprint(model)
