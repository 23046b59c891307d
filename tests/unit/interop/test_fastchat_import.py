"""FastChat's files as runs: which runs there are, what they hold, and what is refused before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastchat_files import QUESTIONS, answer, mt_bench, pair, put, put_rows, single, told, write

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.mt_bench import MtBench
from zephyr_bench.benchmarks.rivals import Origin, find_rivals
from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.interop.fastchat_import import read_fastchat
from zephyr_bench.interop.fastchat_questions import Questions
from zephyr_bench.interop.imported_runs import add_to_store
from zephyr_bench.records import SampleScore
from zephyr_bench.store import RunInfo, Store

ORIGIN = Origin("mtbench", "fastchat")


def only_run(store: Store) -> RunInfo:
    (run,) = store.runs()
    return run


def scores(store: Store, run: str) -> dict[str, float | None]:
    return {score.metric: score.value for score in store.scores_of([run])[run]}


def verdicts(store: Store, model: str) -> list[SampleScore]:
    (run,) = store.runs(model=model)
    return store.samples_of(run.id, "verdict")


def test_one_judge_is_one_run_whatever_its_prompts(store: Store, tmp_path: Path) -> None:
    rows = [
        single(score=8),
        single(score=6, turn=2),
        single(question=101, score=1, judge=["gpt-4", "single-math-v1"]),
        single(question=101, score=5, judge=["claude", "single-math-v1"]),
        single(model="n", score=2, judge="gpt-4"),
    ]
    done = put_rows(store, tmp_path, rows)
    assert [(run.model, run.judge, run.judgments) for run in done] == [
        ("m", "gpt-4", 3),
        ("n", "gpt-4", 1),
        ("m", "claude", 1),
    ]
    assert scores(store, done[0].run) == {"score": 5.0, "turn-1": 4.5, "turn-2": 6.0, "reasoning": 1.0, "writing": 7.0}
    run = store.run(done[0].run)
    assert (run.status, run.note, run.seed, run.benchmark) == ("complete", "imported", 0, "mt-bench")
    assert run.environment["imported"] == "fastchat"
    assert run.protocol == {"references": "others"}, "a prompt for math that quotes none of the known answers"


def test_rows_of_one_answer_are_repeats_and_all_count(store: Store, tmp_path: Path) -> None:
    (done,) = put_rows(store, tmp_path, [single(score=8), single(score=5), single(score=8)])
    assert [(s.replicate, s.value) for s in store.samples_of(done.run)] == [(0, 8.0), (1, 5.0), (2, 8.0)]
    assert scores(store, done.run)["score"] == 7.0
    assert done.judgments == 3


def test_minus_1_and_null_are_missing_with_a_reason_and_counted(store: Store, tmp_path: Path) -> None:
    (done,) = put_rows(store, tmp_path, [single(score=8), single(score=-1, turn=2), single(question=101, score=None)])
    assert done.without_score == 2
    assert [s.reason for s in store.samples_of(done.run)] == [
        None,
        "FastChat's -1: no score was read from the reply",
        "FastChat's file has null for a score",
    ]
    (whole, *_) = store.scores_of([done.run])[done.run]
    assert (whole.value, whole.n, whole.missing) == (8.0, 1, 2)


def test_a_failed_call_is_told_apart_from_an_unread_reply(store: Store, tmp_path: Path) -> None:
    put_rows(store, tmp_path, [single("m", score=-1, judgment="$ERROR$"), single("m", 82, score=-1, judgment="Well.")])
    reasons = [sample.reason for sample in store.samples_of(only_run(store).id)]
    assert reasons == [
        "FastChat's $ERROR$: the call to the judge failed",
        "FastChat's -1: no score was read from the reply",
    ]


def test_answers_to_other_questions_are_no_baseline(store: Store, tmp_path: Path) -> None:
    benchmark = open_benchmark("mt-bench-mini")
    assert isinstance(benchmark, MtBench)
    rows = [answer("base", question.id, ("one", "two")) for question in benchmark.questions]
    asked = [{"question_id": q.id, "category": q.category, "turns": ["Other?", "And?"]} for q in benchmark.questions]
    files = [write(tmp_path / "a.jsonl", rows), write(tmp_path / "question.jsonl", asked[:1])]
    add_to_store(store, read_fastchat(files, benchmark))
    own = ModelSource("mine", "here", "sha256:mine")
    with pytest.raises(UserError, match="the store has not all the answers of it"):
        find_rivals(
            store,
            ["base"],
            own,
            benchmark.questions,
            asked="mt-bench-mini",
            also=["mt-bench-mini-pairwise"],
            origin=ORIGIN,
        )


def test_a_score_off_the_scale_is_taken_as_it_is(store: Store, tmp_path: Path) -> None:
    (done,) = put_rows(store, tmp_path, [single(score=42.5), single(turn=2, score=0)])
    assert scores(store, done.run)["score"] == 21.25


def test_turns_without_a_row_are_counted_and_shown(store: Store, tmp_path: Path) -> None:
    both = [single("m", 81, 1), single("m", 81, 2), single("n", 101, 1)]
    done = put_rows(store, tmp_path, both)
    assert [(run.model, run.not_judged) for run in done] == [("m", 2), ("n", 3)]
    assert {run.status for run in store.runs()} == {"complete"}


def test_an_answer_known_by_its_judgment_has_no_text_until_its_file_comes(store: Store, tmp_path: Path) -> None:
    (judged,) = put_rows(store, tmp_path, [single(turn=2)])
    assert {(a.turn, a.text) for a in store.answers_of(judged.run)} == {(1, None), (2, None)}
    assert judged.answers == 0
    (answered,) = put_rows(store, tmp_path, [answer()])
    assert (answered.judge, answered.new, answered.answers, answered.judgments) == (None, True, 2, 0)
    assert {(a.turn, a.text) for a in store.answers_of(judged.run)} == {(1, "one"), (2, "two")}


def test_answers_alone_are_a_run_without_judge_and_scores(store: Store, tmp_path: Path) -> None:
    put_rows(store, tmp_path, [answer("m", 81, ("a", "b"), ("c", "d")), answer("m", 101, ("e",))])
    run = only_run(store)
    assert (run.judge, run.judge_fingerprint, run.status) == (None, None, "complete")
    assert store.scores_of([run.id]) == {run.id: []}
    found = {(a.question, a.replicate, a.turn): a.text for a in store.answers_of(run.id)}
    assert found == {("81", 0, 1): "a", ("81", 0, 2): "b", ("81", 1, 1): "c", ("81", 1, 2): "d", ("101", 0, 1): "e"}


def test_answers_beside_judgments_belong_to_the_judged_run(store: Store, tmp_path: Path) -> None:
    done = put_rows(store, tmp_path, [answer("m", 81), answer("n", 81), answer("m", 101)], [single("m", 81)])
    assert [(run.model, run.judge, run.answers) for run in done] == [("m", "gpt-4", 4), ("n", None, 2)]


def test_imported_answers_are_a_baseline_for_ones_own_model(store: Store, tmp_path: Path) -> None:
    benchmark = open_benchmark("mt-bench-mini")
    assert isinstance(benchmark, MtBench)
    rows = [answer("base", question.id, ("one", "two")) for question in benchmark.questions]
    add_to_store(store, read_fastchat([write(tmp_path / "a.jsonl", rows)], benchmark))
    own = ModelSource("mine", "here", "sha256:mine")
    asked, compared = "mt-bench-mini", "mt-bench-mini-pairwise"
    (rival,) = find_rivals(store, ["base"], own, benchmark.questions, asked=asked, also=[compared], origin=ORIGIN)
    assert {answers[1].text for answers in rival.answers.values()} == {"two"}


def test_of_two_rows_to_a_question_the_last_is_the_answer_as_for_fastchat(store: Store, tmp_path: Path) -> None:
    put_rows(store, tmp_path, [answer("m", 81, ("old", "old")), answer("m", 81, ("new", "new"))])
    found = {(a.replicate, a.turn): a.text for a in store.answers_of(only_run(store).id)}
    assert found == {(0, 1): "new", (0, 2): "new", (1, 1): "old", (1, 2): "old"}


@pytest.mark.parametrize(
    ("winners", "value", "consistent"),
    [
        (("model_1", "model_1"), 1.0, 1.0),
        (("model_2", "model_2"), 0.0, 1.0),
        (("tie", "tie"), 0.5, 1.0),
        (("model_1", "model_2"), 0.5, 0.0),
        (("tie", "model_1"), 0.5, 0.0),
        (("error", "model_1"), None, None),
        (("model_1", "error"), None, None),
    ],
)
def test_a_pairs_two_verdicts_are_one_sample(
    winners: tuple[str, str], value: float | None, consistent: float | None, store: Store, tmp_path: Path
) -> None:
    (done,) = put_rows(store, tmp_path, [pair("m", "base", winners)])
    (verdict,) = store.samples_of(done.run, "verdict")
    assert (verdict.value, verdict.rival, verdict.turn) == (value, "base", 1)
    assert [sample.value for sample in store.samples_of(done.run, "consistent")] == [consistent]
    assert (verdict.reason is None) == (value is not None)
    assert done.benchmark == "mt-bench-pairwise"
    assert (done.judgments, done.without_score) == (2, int(value is None))


def test_a_judgment_is_of_the_answer_that_stood_first(store: Store, tmp_path: Path) -> None:
    (done,) = put_rows(store, tmp_path, [pair("m", "base", ("model_1", "tie"))])
    models = {answer.key: answer.model for answer in store.answers_of(done.run)}
    found = {models[v.answer]: (v.judgment.score, v.judgment.reply) for v in store.verdicts_of(done.run)}
    assert found == {"m": (1.0, "first reply"), "base": (0.5, "second reply")}


@pytest.mark.parametrize(
    ("winner", "value", "consistent"), [("model_2", 0.0, 1.0), ("tie", 0.5, 1.0), ("inconsistent", 0.5, 0.0)]
)
def test_a_row_with_one_winner_holds_for_both_orders(
    winner: str, value: float, consistent: float, store: Store, tmp_path: Path
) -> None:
    row = {key: what for key, what in pair("m", "base", ("tie", "tie")).items() if not key.endswith("_winner")}
    (done,) = put_rows(store, tmp_path, [{**row, "winner": winner}])
    assert [sample.value for sample in store.samples_of(done.run, "verdict")] == [value]
    assert [sample.value for sample in store.samples_of(done.run, "consistent")] == [consistent]
    assert done.without_score == 0


def test_a_baseline_stands_second_in_every_row_and_has_no_run(store: Store, tmp_path: Path) -> None:
    rows = [pair("a", "base", ("model_1", "model_1")), pair("b", "base", ("tie", "tie"))]
    put_rows(store, tmp_path, rows)
    assert {run.model: run.rivals for run in store.runs()} == {"a": ("base",), "b": ("base",)}


def test_of_all_pairs_each_model_has_a_run_against_all_it_met(store: Store, tmp_path: Path) -> None:
    rows = [
        pair("a", "b", ("model_1", "model_1")),
        pair("a", "c", ("model_2", "model_2")),
        pair("b", "c", ("tie", "tie")),
    ]
    put_rows(store, tmp_path, rows)
    assert {run.model: run.rivals for run in store.runs()} == dict.fromkeys("abc", ("all",)), "one table ranks them"
    met = {run.model: {sample.rival for sample in store.samples_of(run.id)} for run in store.runs()}
    assert met == {"a": {"b", "c"}, "b": {"a", "c"}, "c": {"a", "b"}}
    assert {(s.rival, s.value) for s in verdicts(store, "c")} == {("a", 1.0), ("b", 0.5)}
    shared = [{j.key for j in store.judgments_of(run.id)} for run in store.runs()]
    assert len(set.union(*shared)) == 6


def test_a_row_of_the_exchanged_order_is_a_repeat(store: Store, tmp_path: Path) -> None:
    rows = [
        pair("a", "b", ("model_1", "model_1")),
        pair("b", "a", ("model_1", "model_1")),
        pair("a", "c", ("tie", "tie")),
    ]
    put_rows(store, tmp_path, rows)
    assert [(s.rival, s.replicate, s.value) for s in verdicts(store, "a")] == [
        ("b", 0, 1.0),
        ("b", 1, 0.0),
        ("c", 0, 0.5),
    ]


def test_pairs_by_a_single_answer_judge_have_no_turn(store: Store, tmp_path: Path) -> None:
    row = pair("m", "base", ("model_1", "model_1"), judge=["gpt-4", "single-v1"], m1_score=8, m2_score=3)
    del row["turn"]
    (done,) = put_rows(store, tmp_path, [row])
    assert [(s.turn, s.value) for s in store.samples_of(done.run, "verdict")] == [(1, 1.0)]


def test_importing_twice_adds_nothing(store: Store, tmp_path: Path) -> None:
    files = [single("m"), single("n", score=-1)], [answer("m"), answer("o")], [pair("m", "n", ("tie", "tie"))]
    first = put_rows(store, tmp_path, *files)
    before = told(store)
    again = put_rows(store, tmp_path, *files)
    assert told(store) == before
    assert [(run.run, run.new) for run in again] == [(run.run, False) for run in first]


def test_judgments_are_already_there_where_answers_come_later_with_them(store: Store, tmp_path: Path) -> None:
    (judged,) = put_rows(store, tmp_path, [single("m")])
    done = put_rows(store, tmp_path, [single("m")], [answer("m")])
    assert [(run.judge, run.new) for run in done] == [("gpt-4", False), (None, True)]
    assert {a.text for a in store.answers_of(judged.run)} == {"one"}
    assert [run.new for run in put_rows(store, tmp_path, [single("m")], [answer("m")])] == [False]


def test_a_file_that_has_grown_is_a_new_run(store: Store, tmp_path: Path) -> None:
    put_rows(store, tmp_path, [single("m")])
    (done,) = put_rows(store, tmp_path, [single("m"), single("m", 101)])
    assert (done.new, done.judgments) == (True, 2)
    (old,) = put_rows(store, tmp_path, [single("m")])
    assert not old.new


def test_another_text_under_the_same_name_is_refused_and_nothing_written(store: Store, tmp_path: Path) -> None:
    (done,) = put_rows(store, tmp_path, [answer("m")])
    before = told(store)
    with pytest.raises(UserError) as error:
        put_rows(store, tmp_path, [single("x")], [answer("y"), answer("m", 81, ("one", "other"))])
    assert str(error.value) == (
        f"{tmp_path / '2.jsonl'} line 2: the store has another answer of m to turn 2 of question 81, in run "
        f"{done.run}; delete that run, or import into another store (--store)."
    )
    assert told(store) == before


def test_the_same_judge_on_another_day_is_another_run(store: Store, tmp_path: Path) -> None:
    """What FastChat's users do to see how much a judge wavers."""
    runs = [put_rows(store, tmp_path, [single("m", score=score)])[0] for score in (7, 8)]
    assert [run.new for run in runs] == [True, True]
    assert [store.samples_of(run.run)[0].value for run in runs] == [7, 8]
    pairs = [put_rows(store, tmp_path, [pair("m", "b", winners)])[0] for winners in (("tie", "tie"), ("error", "tie"))]
    assert [pair.new for pair in pairs] == [True, True]
    assert [pair.without_score for pair in pairs] == [0, 1]


def test_a_question_that_nobody_knows_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [single(), single(question=7777)])
    with pytest.raises(UserError) as error:
        read_fastchat([path], mt_bench())
    assert str(error.value) == f"{path} line 2: question '7777' is none of mt-bench's; give its question.jsonl too."


def test_a_turn_that_the_question_lacks_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [single(turn=3)])
    with pytest.raises(UserError, match=r"line 1: turn 3 of question '81', which has 2"):
        read_fastchat([path], mt_bench())


def test_without_the_benchmarks_package_a_question_file_does(tmp_path: Path) -> None:
    benchmark = mt_bench()
    absent = benchmark._spec.questions.model_copy(update={"module": "no_such_module", "hub": None})
    benchmark._spec = benchmark._spec.model_copy(update={"questions": absent})
    judged = write(tmp_path / "judged.jsonl", [single(question=101, judge=["gpt-4", "single-math-v1"])])
    with pytest.raises(UserError, match=r"judged.jsonl line 1: question '101' needs .*pip install --no-deps"):
        read_fastchat([judged], benchmark)
    plan = read_fastchat([judged, write(tmp_path / "question.jsonl", QUESTIONS)], benchmark)
    assert [sample.category for sample in plan.judged[0].samples] == ["reasoning"]


def test_questions_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="questions alone make no run"):
        read_fastchat([write(tmp_path / "question.jsonl", QUESTIONS)], mt_bench())


def test_a_question_with_two_contents_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "question.jsonl", [*QUESTIONS, {**QUESTIONS[0], "turns": ["else"]}])
    with pytest.raises(UserError, match=r"line 4: question '81' stands twice, with different content"):
        read_fastchat([path, write(tmp_path / "a.jsonl", [single()])], mt_bench())


@pytest.mark.parametrize("name", ["gpt-4", "gpt-4-0125-preview"])
def test_the_references_are_read_from_the_judges_prompts(name: str, store: Store, tmp_path: Path) -> None:
    known = Questions([], mt_bench()).references
    rows: list[dict[str, Any]] = [single()]
    for turn in (1, 2):
        for id in ("101", "111", "121", "130"):
            shown = "[Reference]\n" + "\n\n".join(known[name][id][:turn]) + "\n[The End]"
            rows.append(
                single(
                    "m",
                    int(id),
                    turn,
                    judge=["gpt-4", f"single-math-v1{'-multi-turn' * (turn - 1)}"],
                    user_prompt=shown,
                )
            )
    put(store, write(tmp_path / "a.jsonl", rows))
    assert only_run(store).references == name
    put(store, write(tmp_path / "b.jsonl", [*rows, single("m", 102, judge=["gpt-4", "single-math-v1"])]))
    assert store.runs()[0].references == "others"  # a prompt with references of its own


def test_real_judgments_tell_their_references(store: Store, real_mt_bench: Path) -> None:
    done = put(store, real_mt_bench / "orpo_gpt-4_single.jsonl.gz", real_mt_bench / "llama3_gpt-4_single.jsonl.gz")
    assert {store.run(run.run).references for run in done} == {"gpt-4"}
    assert [(run.judgments, run.without_score) for run in done] == [
        (160, 0),
        (320, 1),
        (160, 0),
        (160, 0),
        (170, 4),
        (160, 0),
    ]
