"""Runs as FastChat's files: what is written, under which names, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastchat_files import QUESTIONS, answer, multiset, pair, put, put_rows, read, single, write

from zephyr_bench.benchmarks.pairing import of_both, pair_samples
from zephyr_bench.errors import UserError
from zephyr_bench.interop.fastchat_export import export_fastchat
from zephyr_bench.records import Answer, Judgment, Match, Question, SampleScore
from zephyr_bench.store import RunStart, Store

ASKED = Question("7", "math", ("What is 1+1?", "And 2+2?"))


def answers_of(model: str, *texts: str | None, replicate: int = 0) -> tuple[Answer, ...]:
    return tuple(
        Answer(f"sha256:{model}{turn}{replicate}", model, "7", turn, text, replicate=replicate)
        for turn, text in enumerate(texts, start=1)
    )


def own_run(
    store: Store,
    model: str,
    answers: tuple[Answer, ...],
    judged: list[tuple[Match, Judgment]],
    samples: list[SampleScore],
    benchmark: str = "mt-bench-mini",
) -> str:
    store.put_model(fingerprint=f"sha256:{model}", name=model, location="here")
    run = store.start_run(RunStart(benchmark, model, f"sha256:{model}", f"sha256:{model}", "rubric", "sha256:r"))
    run.add_answers((ASKED, answer) for answer in answers)
    run.add_judgments(judged)
    run.add_samples(samples)
    run.finish("complete", [])
    return run.id


def graded(answers: tuple[Answer, ...], score: float | None, replicate: int = 0) -> tuple[Match, Judgment]:
    match = Match(ASKED, len(answers), answers, replicate=replicate)
    return match, Judgment(match.key("sha256:r"), "rubric", score, None if score is not None else "empty", "so")


def test_a_run_made_here_has_fastchats_fields(store: Store, tmp_path: Path) -> None:
    answers = answers_of("org/model:v1", "2", "4")
    judged = [graded(answers[:1], 7.0), graded(answers, None), graded(answers, 6.5, replicate=1)]
    samples = [SampleScore("7", "math", "score", 7.0, 1)]
    run = own_run(store, "org/model:v1", answers, judged, samples)
    export_fastchat(store, [run], tmp_path / "out")

    assert read(tmp_path / "out" / "question.jsonl") == [
        {"question_id": 7, "category": "math", "turns": ["What is 1+1?", "And 2+2?"]}
    ]
    (row,) = read(tmp_path / "out" / "model_answer" / "org%2Fmodel%3Av1.jsonl")
    assert row["model_id"] == "org/model:v1"
    assert row["choices"] == [{"index": 0, "turns": ["2", "4"]}]
    assert set(row) == {"question_id", "answer_id", "model_id", "choices", "tstamp"}
    rows = read(tmp_path / "out" / "model_judgment" / "rubric_single.jsonl")
    assert [(r["turn"], r["score"], r["judge"]) for r in rows] == [
        (1, 7, ["rubric", "single-v1"]),
        (2, -1, ["rubric", "single-v1-multi-turn"]),
        (2, 6.5, ["rubric", "single-v1-multi-turn"]),
    ]
    assert isinstance(rows[0]["score"], int)
    assert {(r["model"], r["user_prompt"], r["judgment"]) for r in rows} == {("org/model:v1", "", "so")}


def test_pairs_made_here_have_the_runs_model_first(store: Store, tmp_path: Path) -> None:
    ours, theirs = answers_of("a", "2"), answers_of("b", "3")
    first, second = Match(ASKED, 1, ours, theirs), Match(ASKED, 1, theirs, ours)
    judgments = [Judgment(first.key("sha256:r"), "rubric", 1.0), Judgment(second.key("sha256:r"), "rubric", None, "?")]
    samples = pair_samples(first, of_both(*judgments), rival="b")
    judged = list(zip([first, second], judgments, strict=True))
    run = own_run(store, "a", (*ours, *theirs), judged, samples, "mt-bench-mini-pairwise")
    export_fastchat(store, [run], tmp_path / "out")
    (row,) = read(tmp_path / "out" / "model_judgment" / "rubric_pair.jsonl")
    assert (row["model_1"], row["model_2"], row["g1_winner"], row["g2_winner"]) == ("a", "b", "model_1", "error")
    assert row["judge"] == ["rubric", "pair-v2"]
    assert {path.name for path in (tmp_path / "out" / "model_answer").iterdir()} == {"a.jsonl", "b.jsonl"}


def test_a_pair_that_both_models_runs_hold_comes_out_once(store: Store, tmp_path: Path) -> None:
    ours, theirs = answers_of("a", "2"), answers_of("b", "3")
    first, second = Match(ASKED, 1, ours, theirs), Match(ASKED, 1, theirs, ours)
    judged = [(match, Judgment(match.key("sha256:r"), "rubric", 0.5)) for match in (first, second)]
    verdict = of_both(judged[0][1], judged[1][1])
    runs = [
        own_run(store, model, (*ours, *theirs), judged, pair_samples(match, verdict, rival=rival), "mt-bench-pairwise")
        for model, rival, match in (("a", "b", first), ("b", "a", second))
    ]
    export_fastchat(store, runs, tmp_path / "out")
    (row,) = read(tmp_path / "out" / "model_judgment" / "rubric_pair.jsonl")
    assert (row["model_1"], row["model_2"]) == ("a", "b")


def test_grades_by_other_references_go_into_different_folders(store: Store, tmp_path: Path) -> None:
    answers = answers_of("a", "2")
    runs = []
    for references in ("gpt-4", "gpt-4-0125-preview"):
        store.put_model(fingerprint="sha256:a", name="a", location="here")
        start = RunStart("mt-bench", "a", "sha256:a", "sha256:a", "gpt-4", "sha256:r", {"references": references})
        run = store.start_run(start)
        run.add_answers((ASKED, answer) for answer in answers)
        run.add_judgments([graded(answers, 3.0)])
        run.finish("complete", [])
        runs.append(run.id)
    with pytest.raises(UserError, match="were judged by gpt-4 with other references"):
        export_fastchat(store, runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_repeats_are_choices_and_answers_without_a_text_are_left_out(store: Store, tmp_path: Path) -> None:
    answers = (*answers_of("a", "2", "4"), *answers_of("a", "two", None, replicate=1), *answers_of("b", None))
    run = own_run(store, "a", answers, [], [])
    export_fastchat(store, [run], tmp_path / "out")
    (row,) = read(tmp_path / "out" / "model_answer" / "a.jsonl")
    assert row["choices"] == [{"index": 0, "turns": ["2", "4"]}, {"index": 1, "turns": ["two"]}]
    assert not (tmp_path / "out" / "model_answer" / "b.jsonl").exists()


def test_what_was_made_here_comes_back_the_same(store: Store, tmp_path: Path) -> None:
    answers = answers_of("a", "2", "4")
    run = own_run(store, "a", answers, [graded(answers[:1], 7.0), graded(answers, None)], [])
    files = export_fastchat(store, [run], tmp_path / "out")
    with Store(f"sqlite:///{tmp_path / 'other.db'}") as other:
        (done,) = put(other, *files)
        assert [(s.turn, s.value) for s in other.samples_of(done.run)] == [(1, 7.0), (2, None)]
        assert {a.text for a in other.answers_of(done.run)} == {"2", "4"}
        again = export_fastchat(other, [done.run], tmp_path / "again")
        assert [path.read_bytes() for path in again] == [path.read_bytes() for path in files]


def test_several_runs_share_a_folder_and_their_common_rows_once(store: Store, tmp_path: Path) -> None:
    rows = [pair("a", "b", ("tie", "tie")), pair("b", "c", ("tie", "tie")), pair("a", "c", ("tie", "tie"))]
    done = put_rows(store, tmp_path, rows)
    files = export_fastchat(store, [run.run for run in done], tmp_path / "out")
    assert files[tmp_path / "out" / "model_judgment" / "gpt-4_pair.jsonl"] == 3
    one = export_fastchat(store, [done[0].run], tmp_path / "one")
    assert one[tmp_path / "one" / "model_judgment" / "gpt-4_pair.jsonl"] == 2


def test_names_make_safe_files_and_no_two_the_same(store: Store, tmp_path: Path) -> None:
    names = ["../up", "a/b", "a_b", "a%2Fb", ".hidden", "é", "\ud800", "x" * 400, "x" * 401, "con:\n*?"]
    done = put_rows(store, tmp_path, [answer(name) for name in names])
    export_fastchat(store, [run.run for run in done], tmp_path / "out")
    files = list((tmp_path / "out" / "model_answer").iterdir())
    assert len(files) == len(names)
    assert all(path.name.isascii() and len(path.name) < 256 and path.name[0] != "." for path in files)
    assert {row["model_id"] for path in files for row in read(path)} == set(names)
    assert not (tmp_path / "up.jsonl").exists()


def test_a_file_that_holds_something_else_stays_and_nothing_is_written(store: Store, tmp_path: Path) -> None:
    (done,) = put_rows(store, tmp_path, [single()], [answer()])
    there = tmp_path / "out" / "model_judgment" / "gpt-4_single.jsonl"
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    with pytest.raises(UserError, match=r"gpt-4_single\.jsonl is there and holds something else; name another folder"):
        export_fastchat(store, [done.run], tmp_path / "out")
    assert there.read_text() == "mine"
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [there]


def test_exporting_twice_is_no_mistake(store: Store, tmp_path: Path) -> None:
    (done,) = put_rows(store, tmp_path, [single()], [answer()])
    first = export_fastchat(store, [done.run], tmp_path / "out")
    assert export_fastchat(store, [done.run, done.run[:18]], tmp_path / "out") == first


def test_a_run_that_is_unknown_or_not_mt_benchs_is_refused(store: Store, tmp_path: Path) -> None:
    put_rows(store, tmp_path, [single()])
    with pytest.raises(UserError, match="unknown run 'nope'"):
        export_fastchat(store, ["nope"], tmp_path / "out")
    other = own_run(store, "a", answers_of("a", "2"), [], [SampleScore("7", "x", "preference", 1.0)], "alpaca-eval-1")
    with pytest.raises(UserError, match="is of alpaca-eval-1, and FastChat's files hold MT-Bench's runs only"):
        export_fastchat(store, [other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_that_contradict_each_other_go_into_different_folders(store: Store, tmp_path: Path) -> None:
    one = own_run(store, "a", answers_of("a", "2"), [], [])
    other = own_run(store, "a", (Answer("sha256:else", "a", "7", 1, "two"),), [], [])
    with pytest.raises(UserError, match="have different answers of a to question 7; export them into different"):
        export_fastchat(store, [one, other], tmp_path / "out")


def test_two_questions_of_the_same_content_both_come_out(store: Store, tmp_path: Path) -> None:
    twins = [{**QUESTIONS[0], "question_id": "twin"}, {**QUESTIONS[0], "question_id": "other"}]
    paths = write(tmp_path / "q.jsonl", twins), write(tmp_path / "a.jsonl", [answer("m", "twin"), answer("m", "other")])
    (done,) = put(store, *paths)
    export_fastchat(store, [done.run], tmp_path / "out")
    assert multiset(read(tmp_path / "out" / "question.jsonl")) == multiset(twins)
