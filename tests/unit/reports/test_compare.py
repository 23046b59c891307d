"""Comparing two models or runs of a real store."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from conftest_reports import AddRun, chat_samples, preference_samples, task_samples
from scipy import stats

from zephyr_bench.errors import UserError
from zephyr_bench.records import Score
from zephyr_bench.reports.changes import changes
from zephyr_bench.reports.compare import render_comparison
from zephyr_bench.store import Store


def compared(store: Store, base: str, candidate: str, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(render_comparison(store, base, candidate, format="json", **options))
    return found


def metrics(entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in entry["metrics"]}


def test_every_metric_and_category_is_compared_by_question(store: Store, add_run: AddRun) -> None:
    a = add_run("a", samples=chat_samples((5, 5), (6, 4), (3, 9), (2, 2)))
    b = add_run("b", samples=chat_samples((6, 7), (6, 5), (2, 9), (4, 3)))
    (entry,) = compared(store, "a", "b")
    assert entry["base"] == {"model": "a", "run": a}
    assert entry["candidate"] == {"model": "b", "run": b}
    rows = metrics(entry)
    assert list(rows) == ["score", "turn-1", "turn-2", "math", "writing"]
    assert (rows["score"]["base"], rows["score"]["candidate"]) == (4.5, 5.25)
    assert rows["score"]["difference"] == 0.75
    assert rows["score"]["n"] == 8
    # the two turns of a question are one cluster; all have two, so it is a t-test of question means
    means = np.array([1.5, 0.5, -0.5, 1.5])
    expected = stats.ttest_1samp(means, 0)
    interval = expected.confidence_interval()
    assert rows["score"]["p_value"] == pytest.approx(expected.pvalue)
    assert (rows["score"]["low"], rows["score"]["high"]) == pytest.approx((interval.low, interval.high))


def test_average_over_tasks_counts_tasks_alike(store: Store, add_run: AddRun) -> None:
    rest = {"mmlu_astronomy": [1, 0], "mmlu_nutrition": [1, 0, 1], "mmlu_high_school_geography": [1, 0]}
    base = task_samples(arc_challenge=[1, 0, 0, 0], hellaswag=[1, 0], truthfulqa_mc2=[1, 1, 0], **rest)
    better = task_samples(arc_challenge=[1, 1, 0, 0], hellaswag=[1, 0], truthfulqa_mc2=[1, 1, 0], **rest)
    add_run("a", "open-llm-mini", samples=base, judge=None)
    add_run("b", "open-llm-mini", samples=better, judge=None)
    rows = metrics(compared(store, "a", "b")[0])
    assert rows["arc_challenge"]["difference"] == 25.0
    assert rows["average"]["difference"] == pytest.approx(25.0 / 4)
    assert rows["average"]["stderr"] == pytest.approx(25.0 / 4)  # 25 / 4 tasks: the others did not move
    assert rows["hellaswag"]["difference"] == 0.0
    assert rows["hellaswag"]["p_value"] == 1.0


def test_win_rates_are_split_by_category(store: Store, add_run: AddRun) -> None:
    add_run("a", "alpaca-eval-mini", samples=preference_samples(1, 0, 0, 0))
    add_run("b", "alpaca-eval-mini", samples=preference_samples(1, 1, 1, 0))
    rows = metrics(compared(store, "a", "b")[0])
    assert rows["win-rate"]["difference"] == 50.0
    assert rows["win-rate: advice"]["difference"] == 50.0
    assert rows["win-rate: facts"]["n"] == 2


def test_questions_that_moved_most_come_first(store: Store, add_run: AddRun) -> None:
    values = [(5, 5)] * 8
    add_run("a", samples=chat_samples(*values))
    add_run("b", samples=chat_samples((5, 5), (9, 9), (1, 2), (6, 5), (5, 5), (4, 4), (7, 7), (5, 6)))
    moved = compared(store, "a", "b")[0]["moved"]
    assert [entry["question"] for entry in moved] == ["q2", "q3", "q7", "q6", "q4"]
    assert moved[1] == {"question": "q3", "base": 5.0, "candidate": 1.5}


def test_unscored_judgments_are_left_out_of_both_sides_and_told(store: Store, add_run: AddRun) -> None:
    add_run("a", samples=chat_samples((5, 5), (6, None), (3, 9)))
    add_run("b", samples=chat_samples((6, 6), (7, 1), (None, 9)))
    (entry,) = compared(store, "a", "b")
    row = metrics(entry)["score"]
    assert row["n"] == 4
    assert row["candidate"] - row["base"] == row["difference"]
    assert any("2 judgments or rows have a value on one side only" in note for note in entry["notes"])


def test_differing_protocols_judges_and_versions_are_noted(store: Store, add_run: AddRun) -> None:
    samples = chat_samples((5, 5), (6, 4))
    left = {"max_new_tokens": 128, "questions": ["x", "y"], "temperature": {"math": 0.0}}
    right = {"max_new_tokens": 64, "questions": ["x"], "temperature": {"math": 0.7}}
    add_run("a", samples=samples, protocol=left, environment={"torch": "2.13.0"})
    add_run("b", samples=samples, protocol=right, judge_version="2", seed=3, environment={"torch": "2.12.0"})
    notes = compared(store, "a", "b")[0]["notes"]
    assert "protocols differ: max_new_tokens: 128 against 64" in notes
    assert "protocols differ: questions: 2 against 1 entries, 1 in common" in notes
    assert "protocols differ: temperature.math: 0.0 against 0.7" in notes
    assert "seeds differ: 0 against 3" in notes
    assert any(note.startswith("versions of judge rubric differ") for note in notes)
    assert "made with other versions: torch: 2.13.0 against 2.12.0" in notes
    shown = render_comparison(store, "a", "b", format="table")
    assert all(note in shown for note in notes)


def test_same_run_twice_is_no_difference(store: Store, add_run: AddRun) -> None:
    run = add_run("a", samples=chat_samples((5, 5), (6, 4)))
    (entry,) = compared(store, run, run)
    row = metrics(entry)["score"]
    assert (row["difference"], row["p_value"]) == (0.0, 1.0)
    assert entry["moved"] == []
    assert entry["notes"] == []


def test_only_benchmarks_with_the_same_judge_are_paired(store: Store, add_run: AddRun) -> None:
    for name in ("a", "b"):
        add_run(name, samples=chat_samples((5, 5), (6, 4)))
        add_run(name, "alpaca-eval-mini", samples=preference_samples(1, 0))
    add_run("a", samples=chat_samples((9, 9), (9, 9)), judge="gpt-4")
    found = [(entry["benchmark"], entry["judge"]) for entry in compared(store, "a", "b")]
    assert found == [("alpaca-eval-mini", "rubric"), ("mt-bench-mini", "rubric")]
    assert len(compared(store, "a", "b", benchmark="mt-bench-mini")) == 1


def test_nothing_in_common_says_what_each_has(store: Store, add_run: AddRun) -> None:
    add_run("a", samples=chat_samples((5, 5)))
    add_run("b", "alpaca-eval-mini", samples=preference_samples(1, 0))
    with pytest.raises(UserError, match="a has mt-bench-mini by rubric, b has alpaca-eval-mini by rubric"):
        compared(store, "a", "b")


def test_unknown_model_gets_close_matches(store: Store, add_run: AddRun) -> None:
    add_run("smol-dsft", samples=chat_samples((5, 5)))
    with pytest.raises(UserError, match=r"'smol-dsf' is neither a model nor a run.*smol-dsft"):
        compared(store, "smol-dsft", "smol-dsf")


def test_model_without_a_complete_run_is_refused_but_its_run_is_not(store: Store, add_run: AddRun) -> None:
    add_run("a", samples=chat_samples((5, 5), (6, 4)))
    run = add_run("b", samples=chat_samples((5, 5)), status="interrupted")
    with pytest.raises(UserError, match="model b has no complete run"):
        compared(store, "a", "b")
    (entry,) = compared(store, "a", run)
    assert f"run {run} of b is interrupted: only what it has is compared" in entry["notes"]


def test_name_of_two_checkpoints_means_the_newest_and_says_so(store: Store, add_run: AddRun) -> None:
    add_run("a", weights="one", samples=chat_samples((1, 1), (2, 2)))
    newest = add_run("a", weights="two", samples=chat_samples((5, 5), (6, 6)))
    add_run("b", samples=chat_samples((5, 5), (6, 6)))
    (entry,) = compared(store, "a", "b")
    assert entry["base"]["run"] == newest
    assert any("a names several checkpoints; the newest, a@" in note for note in entry["notes"])


def test_metric_that_is_not_the_mean_of_its_samples_has_no_interval(store: Store, add_run: AddRun) -> None:
    add_run("a", samples=chat_samples((5, 5)), scores=[Score("score", 4.0, None, 2)])
    add_run("b", samples=chat_samples((5, 5)), scores=[Score("score", 6.0, None, 2)])
    (entry,) = compared(store, "a", "b")
    row = metrics(entry)["score"]
    assert (row["difference"], row["low"], row["n"]) == (2.0, None, 0)
    assert "no shared questions behind score: no interval" in entry["notes"]


def test_csv_has_a_row_a_metric_at_full_precision(store: Store, add_run: AddRun) -> None:
    add_run("a", samples=chat_samples((5, 5), (6, 4), (1, 1)))
    add_run("b", samples=chat_samples((6, 7), (6, 5), (1, 1)))
    rows = list(csv.DictReader(io.StringIO(render_comparison(store, "a", "b", format="csv"))))
    expected = compared(store, "a", "b")[0]["metrics"]
    assert [row["metric"] for row in rows] == [row["metric"] for row in expected]
    assert float(rows[0]["high"]) == expected[0]["high"]


def test_hostile_names_and_questions_stay_text(store: Store, add_run: AddRun) -> None:
    add_run("a|<b>", samples=chat_samples((5, 5), (6, 4)))
    add_run("b\x1b[2J", samples=chat_samples((6, 5), (6, 4)))
    assert "\x1b" not in render_comparison(store, "a|<b>", "b\x1b[2J", format="table")
    assert "<b>" not in render_comparison(store, "a|<b>", "b\x1b[2J", format="markdown")


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json"])
def test_same_store_gives_the_same_bytes(store: Store, add_run: AddRun, form: str) -> None:
    add_run("a", samples=chat_samples((5, 5), (6, 4)))
    add_run("b", samples=chat_samples((6, 5), (6, 4)))
    assert render_comparison(store, "a", "b", format=form) == render_comparison(store, "a", "b", format=form)


def test_change_whose_interval_holds_zero_is_called_wide(store: Store, add_run: AddRun) -> None:
    a = add_run("a", samples=chat_samples((5, 5), (6, 4), (3, 9), (2, 2)))
    b = add_run("b", samples=chat_samples((6, 7), (6, 5), (2, 9), (4, 3)))
    assert changes(store, a, b)[0] == "score 4.50 -> 5.25 (+0.75, 95 % -0.77 to +2.27: wide, no change shown)"


def test_change_that_the_interval_shows_is_called_by_its_sign(store: Store, add_run: AddRun) -> None:
    a = add_run("a", samples=chat_samples((5, 5), (6, 4), (3, 9), (2, 2)))
    b = add_run("b", samples=chat_samples((7, 7), (8, 7), (5, 10), (4, 5)))
    assert changes(store, a, b)[0].endswith(": higher)")
    assert changes(store, b, a)[0].endswith(": lower)")


def test_change_without_an_interval_says_why(store: Store, add_run: AddRun) -> None:
    one = add_run("a", samples=chat_samples((5, 5)))
    other = add_run("b", samples=chat_samples((6, 8)))
    assert changes(store, one, other)[0] == "score 5.00 -> 7.00 (+2.00, too few questions for an interval)"
    assert changes(store, one, one)[0].endswith("too few questions for an interval)")
    two = add_run("c", samples=chat_samples((5, 5), (6, 6)))
    assert changes(store, two, two)[0] == "score 5.50 -> 5.50 (0.00, no question changed)"
