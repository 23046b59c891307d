"""The gate's report of real runs in a store: every verdict with its reason, and what stands beside it."""

from __future__ import annotations

import random

import pytest
from conftest_reports import AddRun, chat_samples, preference_samples, task_samples
from gate_runs import gate, graded, level, only_row, preferred

from zephyr_bench.errors import UserError
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.reports.drift import AnchorCheck, drift_told
from zephyr_bench.reports.gate import JudgeCalls, report
from zephyr_bench.reports.gate_formats import render_gate
from zephyr_bench.reports.gate_margins import read_margins
from zephyr_bench.reports.gate_plan import entry_of, plan_gate
from zephyr_bench.reports.gate_words import details, names, why
from zephyr_bench.reports.references import find
from zephyr_bench.stats.drift import judge_drift
from zephyr_bench.stats.gate import Verdict
from zephyr_bench.stats.sequential import Plan, progress
from zephyr_bench.store import Store


@pytest.mark.parametrize(
    ("candidate", "margin", "verdict", "reason"),
    [
        (graded(1.0), 0.3, "pass", "better"),
        (graded(-0.3, spread=0.2), 1.0, "pass", "within-margin"),
        (graded(-0.05), 1.0, "pass", "not-inferior"),
        (level(), 0.3, "pass", "same-scores"),
        (graded(-1.0), 0.3, "regression", "lower"),
        (graded(-0.3, spread=0.2), 0.0, "regression", "lower"),
        (graded(-0.2, spread=2.0), 0.3, "inconclusive", "wide"),
        (graded(-1.0, questions=5), 0.3, "inconclusive", "too-few"),
    ],
)
def test_each_verdict_has_its_reason(
    store: Store, add_run: AddRun, candidate: list[SampleScore], margin: float, verdict: str, reason: str
) -> None:
    add_run("base", samples=level())
    add_run("new", samples=candidate)
    found = gate(store, "base", "new", margin=[str(margin)])
    row = only_row(found)
    assert (row.verdict, row.reason, found.verdict) == (verdict, reason, verdict)
    assert why(row, found) in " ".join(render_gate(found, "table").split())


def test_a_run_against_itself_passes_however_small(store: Store, add_run: AddRun) -> None:
    run = add_run("base", samples=chat_samples((5, 5), (1, 9)))
    assert (only_row(gate(store, run, run)).reason, gate(store, "base", "base").verdict) == ("same-answers", "pass")


def test_a_bare_name_is_the_newest_measured_run(store: Store, add_run: AddRun) -> None:
    add_run("base", samples=level())
    add_run("new", samples=graded(-3))
    newest = add_run("new", samples=level())
    row = only_row(gate(store, "base", "new"))
    assert row.entry is not None
    assert (row.entry.comparison.candidate.id, row.verdict) == (newest, "pass")


def test_a_loss_that_is_certain_alone_is_not_among_two_benchmarks(store: Store, add_run: AddRun) -> None:
    """p = 0.019 alone, below the level of 0.025; Holm doubles the smallest of two."""
    loss = graded(-0.27)
    for name, grades, choices in (("base", level(), preferred(0, spread=0)), ("new", loss, preferred(0.2))):
        add_run(name, samples=grades)
        add_run(name, "alpaca-eval-mini", samples=choices)
    alone = only_row(gate(store, "base", "new", benchmarks=["mt-bench-mini"], margin=["0.1"]))
    assert alone.ruling is not None
    assert alone.ruling.p_lower == pytest.approx(0.019, abs=0.002)
    assert (alone.verdict, alone.reason) == ("regression", "lower")
    with pytest.raises(UserError, match=r"--margin 0\.1 would be for benchmarks in different units, alpaca-eval-mini"):
        gate(store, "base", "new", margin=["0.1"])
    found = gate(store, "base", "new", margin=["0.1", "alpaca-eval-mini=1"])
    chosen, grades = found.rows
    assert (chosen.reason, grades.reason, grades.verdict) == ("better", "lower-alone", "inconclusive")
    assert grades.ruling is not None
    assert grades.ruling.p_lower_adjusted == pytest.approx(2 * alone.ruling.p_lower)
    assert "among 2 benchmarks" in why(grades, found)
    assert "adjusted for 2 benchmarks by Holm's method" in render_gate(found, "table")


def test_a_regression_anywhere_is_one_and_what_got_worse_is_named(store: Store, add_run: AddRun) -> None:
    """Only questions of math fall, one of them from the best grade to the worst."""
    base = chat_samples(*[(10, 9)] * 24)
    worse = [(4 + place % 3, 3) if place % 2 == 0 else (10, 9) for place in range(24)]
    worse[10] = (1, 1)
    add_run("base", samples=base)
    add_run("new", samples=chat_samples(*worse))
    add_run("base", "alpaca-eval-mini", samples=preferred(0))
    add_run("new", "alpaca-eval-mini", samples=preferred(0.25))
    found = gate(store, "base", "new")
    assert [(row.benchmark, row.verdict) for row in found.rows] == [
        ("alpaca-eval-mini", "pass"),
        ("mt-bench-mini", "regression"),
    ]
    assert found.verdict is Verdict.REGRESSION
    worst, moved, *_ = details(found.rows[1])
    categories = {sample.question: sample.category for sample in base}
    assert worst.startswith(f"worst in {categories['q11']} ")
    assert moved.startswith("questions that lost most: q11 (9.50 to 1.00)")


def test_tasks_that_got_worse_are_named_for_an_average(store: Store, add_run: AddRun) -> None:
    right, wrong = [1] * 40, [1] * 6 + [0] * 34
    subjects = ("mmlu_astronomy", "mmlu_nutrition", "mmlu_high_school_geography")
    rest = {"arc_challenge": right, "truthfulqa_mc2": right, **dict.fromkeys(subjects, right)}
    add_run("base", "open-llm-mini", samples=task_samples(hellaswag=right, **rest), judge=None)
    add_run("new", "open-llm-mini", samples=task_samples(hellaswag=wrong, **rest), judge=None)
    row = only_row(gate(store, "base", "new"))
    assert row.reason == "lower"
    assert next(details(row)) == "worst in hellaswag 100.00 to 15.00"


def test_the_design_is_told_beside_a_margin_that_it_does_not_see(store: Store, add_run: AddRun) -> None:
    add_run("base", samples=level())
    add_run("new", samples=graded(0.0, spread=1.0))
    row = only_row(gate(store, "base", "new", margin=["0.1"]))
    assert row.reason == "wide"
    assert row.design is not None
    assert row.design.detectable == pytest.approx(
        2.97 * 1.0 * 24**-0.5, rel=0.2
    )  # 2.97: t at 23 degrees, and power 0.8
    assert row.design.questions is not None
    assert row.design.questions / 24 == pytest.approx((row.design.detectable / 0.1) ** 2, rel=0.2)  # as roots go
    told = next(line for line in details(row) if "detect" in line)
    assert told.startswith(f"{row.design.detectable:.2f} is the least that 24 questions detect, and the margin is 0.1")
    wide = only_row(gate(store, "base", "new", margin=["2"])).design
    assert wide is not None
    assert (wide.questions, wide.detectable) == (None, row.design.detectable)


def test_more_judgments_are_advised_where_the_judge_is_what_wavers(store: Store, add_run: AddRun) -> None:
    """Each answer was judged twice, and the two grades are far apart; the questions hardly differ."""
    drawn = random.Random(3)

    def twice(name: str) -> None:
        samples = []
        for place in range(24):
            for replicate in (0, 1):
                value = 5 + drawn.gauss(0, 1)
                samples.append(SampleScore(f"q{place}", "writing", "score", value, 1, replicate=replicate))
        add_run(name, samples=samples)

    twice("base")
    twice("new")
    row = only_row(gate(store, "base", "new", margin=["0.3"]))
    assert row.reason == "wide"
    assert row.design is not None
    assert row.design.judgments is not None
    assert row.design.judgments >= 2
    lines = list(details(row))
    assert any(f"or {row.design.judgments} times as many judgments of each answer" in line for line in lines)
    assert any(line.startswith("variance of the difference by its source: judge ") for line in lines)


def test_confidence_moves_level_interval_and_what_is_seen(store: Store, add_run: AddRun) -> None:
    add_run("base", samples=level())
    add_run("new", samples=graded(-0.27))
    usual, sure = (gate(store, "base", "new", margin=["0.1"], confidence=c) for c in (0.95, 0.99))
    assert (usual.verdict, sure.verdict) == ("regression", "inconclusive")
    assert sure.level == pytest.approx(0.005)
    narrow, wide = map(only_row, (usual, sure))
    assert narrow.low is not None
    assert narrow.high is not None
    assert narrow.design is not None
    assert wide.low is not None
    assert wide.high is not None
    assert wide.design is not None
    assert wide.low < narrow.low < narrow.high < wide.high
    assert wide.design.detectable > narrow.design.detectable
    assert "99 % interval" in render_gate(sure, "table")


# what one side lacks


def test_a_benchmark_that_the_candidate_lacks_is_listed_and_never_passes(store: Store, add_run: AddRun) -> None:
    add_run("base", samples=level())
    add_run("base", "alpaca-eval-mini", samples=preferred(0))
    add_run("new", samples=level())
    found = gate(store, "base", "new")
    assert [(row.benchmark, row.verdict, row.reason) for row in found.rows] == [
        ("alpaca-eval-mini", "inconclusive", "missing"),
        ("mt-bench-mini", "pass", "same-scores"),
    ]
    assert found.verdict is Verdict.INCONCLUSIVE
    assert why(found.rows[0], found) == "new has no complete run of it"
    assert gate(store, "base", "new", benchmarks=["mt-bench-mini"]).verdict is Verdict.PASS


def test_a_regression_is_one_though_another_benchmark_is_missing(store: Store, add_run: AddRun) -> None:
    add_run("base", samples=level())
    add_run("base", "alpaca-eval-mini", samples=preferred(0))
    add_run("new", samples=graded(-2))
    assert gate(store, "base", "new").verdict is Verdict.REGRESSION


def test_a_benchmark_that_only_the_candidate_has_is_noted(store: Store, add_run: AddRun) -> None:
    add_run("base", samples=level())
    add_run("new", samples=level())
    add_run("new", "alpaca-eval-mini", samples=preferred(0))
    found = gate(store, "base", "new")
    assert (len(found.rows), found.verdict) == (1, "pass")
    assert found.notes == ("not gated, for base has no run of them: alpaca-eval-mini",)
    asked = gate(store, "base", "new", benchmarks=["mt-bench-mini", "alpaca-eval-mini"])
    assert (asked.rows[0].reason, asked.verdict) == ("missing", "inconclusive")
    assert why(asked.rows[0], asked) == "base has no complete run of it"


def test_a_benchmark_that_neither_has_is_a_mistake(store: Store, add_run: AddRun) -> None:
    add_run("base", samples=level())
    add_run("new", samples=level())
    with pytest.raises(UserError, match=r"--benchmark mt-bensh.*Did you mean mt-bench-mini"):
        gate(store, "base", "new", benchmarks=["mt-bensh"])


def test_nothing_in_common_is_a_mistake(store: Store, add_run: AddRun) -> None:
    add_run("base", samples=level())
    add_run("new", "alpaca-eval-mini", samples=preferred(0))
    with pytest.raises(UserError, match="nothing to compare: base has mt-bench-mini by rubric, new has alpaca-eval"):
        gate(store, "base", "new")


def test_one_grading_in_common_is_enough_and_others_are_noted(store: Store, add_run: AddRun) -> None:
    add_run("base", samples=level())
    add_run("base", samples=level(), judge="gpt-4")
    add_run("new", samples=level())
    found = gate(store, "base", "new")
    assert (only_row(found).judge, found.verdict) == ("rubric", "pass")
    assert found.notes == ("not gated, for new has no such run: mt-bench-mini by gpt-4",)


def test_two_judges_of_one_benchmark_are_two_rows(store: Store, add_run: AddRun) -> None:
    for name, change in (("base", 0.0), ("new", -2.0)):
        add_run(name, samples=level())
        add_run(name, samples=graded(change), judge="gpt-4")
    found = gate(store, "base", "new")
    assert [(row.judge, row.verdict) for row in found.rows] == [("gpt-4", "regression"), ("rubric", "pass")]
    text = render_gate(found, "table")
    assert "mt-bench-mini by gpt-4: worst in" in text
    assert any(line.startswith("mt-bench-mini by rubric  ") for line in text.split("\n"))


def test_rows_that_only_their_rivals_tell_apart_have_names_of_their_own(store: Store, add_run: AddRun) -> None:
    for name in ("base", "new"):
        for rival in ("davinci", "gpt4"):
            add_run(name, "alpaca-eval-mini", samples=preferred(0), protocol={"limit": None, "rivals": [rival]})
    found = gate(store, "base", "new")
    assert names(found) == [f"alpaca-eval-mini against {rival} by rubric" for rival in ("davinci", "gpt4")]


def test_one_benchmark_needs_no_adjustment_and_the_output_says_so(store: Store, add_run: AddRun) -> None:
    add_run("base", samples=level())
    assert "one benchmark: Holm's adjustment" in render_gate(gate(store, "base", "base"), "table")


@pytest.mark.parametrize("status", ["interrupted", "incomplete", "failed"])
def test_a_run_that_is_not_complete_never_passes(store: Store, add_run: AddRun, status: str) -> None:
    base = add_run("base", samples=level())
    broken = add_run("new", samples=level(), status=status)
    found = gate(store, base, broken)
    row = only_row(found)
    assert (row.verdict, row.reason) == ("inconclusive", "incomplete")
    assert why(row, found) == f"run {broken} of new is {status}: take it up again"


def test_a_candidate_without_values_where_the_baseline_has_some_does_not_pass(store: Store, add_run: AddRun) -> None:
    """Its worst answers may be the ones that no judge could grade."""
    add_run("base", samples=level())
    silent = [(5.0, 5.0)] * 21 + [(None, None)] * 3
    add_run("new", samples=chat_samples(*silent))
    found = gate(store, "base", "new")
    row = only_row(found)
    assert (row.verdict, row.reason) == ("inconclusive", "unanswered")
    assert why(row, found).startswith("would pass, but the candidate lacks 6 values")
    back = only_row(gate(store, "new", "base"))
    assert (back.verdict, back.reason) == ("pass", "same-scores")  # the candidate answers more, not less


def test_a_few_missing_values_pass_and_are_told(store: Store, add_run: AddRun) -> None:
    add_run("base", samples=level())
    add_run("new", samples=chat_samples(*[(5.0, 5.0)] * 23, (5.0, None)))
    row = only_row(gate(store, "base", "new"))
    assert (row.verdict, row.reason) == ("pass", "same-scores")
    assert "values that the baseline has and the candidate lacks: 1" in list(details(row))


# protocols


def test_other_protocols_are_refused_unless_allowed(store: Store, add_run: AddRun) -> None:
    add_run("base", samples=level(), protocol={"limit": None, "max_new_tokens": 128})
    add_run("new", samples=level(), protocol={"limit": None, "max_new_tokens": 64})
    with pytest.raises(UserError, match="--allow-different max_new_tokens"):
        gate(store, "base", "new")
    row = only_row(gate(store, "base", "new", allow=["max_new_tokens"]))
    assert row.verdict == "pass"
    assert "not made alike, and compared all the same: max_new_tokens: 128 against 64" in list(details(row))


def test_fields_that_an_import_does_not_tell_are_listed(store: Store, add_run: AddRun) -> None:
    add_run("base", samples=level(), protocol={"limit": None, "temperature": 0.7})
    add_run("ours", samples=level(), protocol={"limit": None})
    with pytest.raises(UserError, match=r"temperature \(0\.7 against not recorded\)"):
        gate(store, "base", "ours")
    add_run("new", samples=level(), protocol={"limit": None}, environment={"imported": "fastchat"})
    told = list(details(only_row(gate(store, "base", "new"))))
    assert "taken as equal, since not both runs tell it: temperature, version" in told


# the judge


def anchored(then: list[float], now: list[float]) -> AnchorCheck:
    drift = judge_drift(then, now, tolerance=0.1)
    return AnchorCheck("mt-bench-mini", "rubric", "score", len(then), 6.0, 5.0, drift, "abc", len(then), 0)


def test_a_judge_that_moved_makes_a_loss_inconclusive(store: Store, add_run: AddRun) -> None:
    add_run("base", samples=level())
    add_run("new", samples=graded(-1))
    moved = anchored([5, 6, 7, 5, 6, 7, 5, 6, 7, 8], [4, 5, 6, 4, 5.5, 6, 4, 5, 6, 7])
    found = gate(store, "base", "new", anchors=moved)
    row = only_row(found)
    assert (row.verdict, row.reason) == ("inconclusive", "judge-drift")
    assert (
        why(row, found) == "judge drift: the judge itself moved by -0.95 on 10 anchors, so a difference may be its own"
    )
    assert drift_told(moved) in list(details(row))
    steady = anchored([5, 6, 7, 5, 6, 7], [5, 6, 7, 5, 6, 7])
    assert gate(store, "base", "new", anchors=steady).verdict is Verdict.REGRESSION


def test_a_judge_stopped_early_gives_verdict_interval_and_calls(store: Store, add_run: AddRun) -> None:
    """Its figures were looked at after each question, so neither t's interval nor Holm may be made of them."""
    add_run("base", samples=level(80))
    add_run("new", samples=graded(-4, questions=80))
    for name in ("base", "new"):
        add_run(name, "alpaca-eval-mini", samples=preferred(0))
    plan = plan_gate(find(store, "base"), find(store, "new"), read_margins(["0.3", "alpaca-eval-mini=1"], []))
    chosen, grades = plan.pairs
    early = progress([-4.0] * 30, Plan(planned=80, width=9, margin=0.3, level=0.0125))
    assert early.verdict is Verdict.REGRESSION
    entries = [entry_of(chosen), entry_of(grades, progress=early, calls=JudgeCalls(60, 160))]
    found = report(entries, confidence=0.95)
    row = found.rows[1]
    assert (row.verdict, row.reason, row.low, row.high) == ("regression", "lower", early.low, early.high)
    assert why(row, found) == "lower for certain, so the judge was stopped"
    assert "60 of 160 judge calls made" in list(details(row))
    assert row.ruling is not None
    assert row.ruling.p_lower is None
    text = render_gate(found, "table")
    assert "over the number of benchmarks (Bonferroni)" in text
    assert "adjusted for 2 benchmarks" in text


def test_a_judge_that_is_not_certain_yet_is_inconclusive(store: Store, add_run: AddRun) -> None:
    add_run("base", samples=level())
    add_run("new", samples=level())
    (pairing,) = plan_gate(find(store, "base"), find(store, "new"), read_margins([], [])).pairs
    so_far = progress([0.5, -0.5], Plan(planned=24, width=9, margin=0.3))
    assert so_far.verdict is None
    row = only_row(report([entry_of(pairing, progress=so_far)], confidence=0.95))
    assert (row.verdict, row.reason) == ("inconclusive", "incomplete")


# metrics


def test_another_metric_is_gated_with_a_margin_of_its_own(store: Store, add_run: AddRun) -> None:
    add_run("base", samples=level())
    add_run("new", samples=chat_samples(*[(5.0, 3.0 + place % 2) for place in range(24)]))
    (row,) = gate(store, "base", "new", metric=["mt-bench-mini=turn-1"], margin=["mt-bench-mini=0.5"]).rows
    assert (row.entry and row.entry.metric, row.verdict) == ("turn-1", "pass")
    (row,) = gate(store, "base", "new", metric=["mt-bench-mini=turn-2"], margin=["mt-bench-mini=0.5"]).rows
    assert (row.entry and row.entry.metric, row.verdict) == ("turn-2", "regression")


def test_a_metric_that_is_not_there_or_is_not_better_for_being_higher_is_a_mistake(
    store: Store, add_run: AddRun
) -> None:
    for name in ("base", "new"):
        add_run(name, "alpaca-eval-mini", samples=preference_samples(*[0.5] * 8))
    for metric, message in (("avg-length", "more of it is not better"), ("winrate", "Did you mean win-rate")):
        with pytest.raises(UserError, match=message):
            gate(store, "base", "new", metric=[f"alpaca-eval-mini={metric}"], margin=["1"])


def test_a_metric_that_comes_of_no_questions_is_inconclusive(store: Store, add_run: AddRun) -> None:
    for name, value in (("base", 50.0), ("new", 20.0)):
        add_run(name, "alpaca-eval-mini", scores=[Score("win-rate", value, 1.0, 805)])
    found = gate(store, "base", "new")
    row = only_row(found)
    assert (row.verdict, row.reason) == ("inconclusive", "too-few")
    assert why(row, found) == "win-rate doesn't come of single questions here: no interval"


def test_nothing_to_gate_is_no_pass() -> None:
    with pytest.raises(ValueError, match="no benchmark to gate"):
        report([], confidence=0.95)


def test_flags_of_bad_answers_are_nothing_that_a_better_candidate_lacks(store: Store, add_run: AddRun) -> None:
    """Only an answer that was cut has that sample."""
    cut = [SampleScore(f"i{place}", "advice", "cut-answer", 1.0) for place in range(20)]
    add_run("base", "alpaca-eval-mini", samples=[*preferred(0), *cut])
    add_run("new", "alpaca-eval-mini", samples=preferred(0.25))
    row = only_row(gate(store, "base", "new"))
    assert (row.verdict, row.reason, row.entry and row.entry.unanswered) == ("pass", "better", 0)


def test_of_fewer_questions_those_that_were_not_asked_are_not_unanswered(store: Store, add_run: AddRun) -> None:
    add_run("base", samples=level(24))
    add_run("new", samples=[*graded(2.0, questions=12)], protocol={"limit": 12})
    row = only_row(gate(store, "base", "new", allow=["limit"]))
    assert (row.verdict, row.reason, row.entry and row.entry.unanswered) == ("pass", "better", 0)
    add_run("new", samples=chat_samples(*[(9.0, 9.0)] * 10, (None, None), (None, None)), protocol={"limit": 12})
    row = only_row(gate(store, "base", "new", allow=["limit"]))
    assert (row.verdict, row.reason, row.entry and row.entry.unanswered) == ("inconclusive", "unanswered", 4)


def test_the_questions_that_lost_most_are_named_of_the_metric_that_is_gated(store: Store, add_run: AddRun) -> None:
    """Five others gained more than any lost, and what lost most in the first turn gained in all."""
    add_run("base", samples=level(30))
    turns = [(5.0, 10.0)] * 5 + [(1.0, 10.0), (2.0, 5.0)] + [(4.0 - place % 2 / 2, 5.0) for place in range(23)]
    add_run("new", samples=chat_samples(*turns))
    row = only_row(gate(store, "base", "new", metric=["mt-bench-mini=turn-1"], margin=["mt-bench-mini=0.1"]))
    assert row.verdict == "regression"
    told = next(line for line in details(row) if line.startswith("questions that lost most"))
    assert told == "questions that lost most: q6 (5.00 to 1.00), q7 (5.00 to 2.00), q9 (5.00 to 3.50)"


@pytest.mark.parametrize("tagged", [False, True])
def test_a_newest_run_that_broke_off_does_not_pass_by_an_older_one(store: Store, add_run: AddRun, tagged: bool) -> None:
    add_run("base", samples=level())
    store.tag(add_run("monday", samples=level()), "nightly")
    broken = add_run("tuesday", samples=level(), status="interrupted")
    if tagged:
        store.tag(broken, "nightly")
    found = gate(store, "base", "nightly@latest")
    row = only_row(found)
    assert (row.verdict, row.reason) == (("inconclusive", "incomplete") if tagged else ("pass", "same-scores"))
    assert any(broken in note for note in found.notes)
    if tagged:
        assert why(row, found) == f"run {broken} of tuesday is interrupted: take it up again"
        store.tag(add_run("wednesday", samples=level()), "nightly")
        assert gate(store, "base", "nightly@latest").verdict is Verdict.PASS


def test_a_grading_that_was_begun_or_is_the_benchmarks_own_is_not_a_note(store: Store, add_run: AddRun) -> None:
    for judge in ("rubric", "gpt-4", "other"):
        add_run("base", samples=level(), judge=judge)
    add_run("new", samples=level(), judge="other")
    add_run("new", samples=level(), judge="gpt-4", status="interrupted")
    found = gate(store, "base", "new")
    assert [(row.judge, row.verdict, row.reason) for row in found.rows] == [
        ("gpt-4", "inconclusive", "incomplete"),
        ("other", "pass", "same-scores"),
        ("rubric", "inconclusive", "missing"),
    ]
    assert found.notes == ()
    assert why(found.rows[2], found) == "new has no complete run of mt-bench-mini by rubric"
