"""Comparing two models or runs of a real store."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_runs import chat_run, long_answers, mini, short_answers
from conftest_reports import AddRun, chat_samples, preference_samples, task_samples
from scipy import stats

from zephyr_bench.benchmarks.open_llm_scores import rules_of, suite_scores
from zephyr_bench.errors import UserError
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.reports.baselines import write_baseline
from zephyr_bench.reports.changes import changes
from zephyr_bench.reports.compare import render_comparison
from zephyr_bench.reports.comparison import compare_sides
from zephyr_bench.reports.sides import side_of
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
    assert (entry["base"]["model"], entry["base"]["run"]) == ("a", a)
    assert (entry["candidate"]["model"], entry["candidate"]["run"]) == ("b", b)
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
    assert (moved[1]["base"], moved[1]["candidate"]) == (5.0, 1.5)
    assert [entry["question"] for entry in compared(store, "a", "b", moved=2)[0]["moved"]] == ["q2", "q3"]


def test_unscored_judgments_are_left_out_of_both_sides_and_told(store: Store, add_run: AddRun) -> None:
    add_run("a", samples=chat_samples((5, 5), (6, None), (3, 9)))
    add_run("b", samples=chat_samples((6, 6), (7, 1), (None, 9)))
    (entry,) = compared(store, "a", "b")
    row = metrics(entry)["score"]
    assert row["n"] == 4
    assert row["candidate"] - row["base"] == row["difference"]
    assert any("2 judgments or rows have a value on one side only" in note for note in entry["notes"])


def test_seeds_and_versions_that_differ_are_noted(store: Store, add_run: AddRun) -> None:
    samples = chat_samples((5, 5), (6, 4))
    add_run("a", samples=samples, environment={"torch": "2.13.0"})
    add_run("b", samples=samples, seed=3, environment={"torch": "2.12.0"})
    notes = compared(store, "a", "b")[0]["notes"]
    assert "seeds differ: 0 against 3" in notes
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


def test_what_has_no_scores_is_refused_with_the_reason(store: Store, add_run: AddRun) -> None:
    add_run("a", samples=chat_samples((5, 5), (6, 4)))
    run = add_run("b", samples=chat_samples((5, 5)), status="interrupted")
    with pytest.raises(UserError, match="b has no complete run"):
        compared(store, "a", "b")
    with pytest.raises(UserError, match=f"nothing to compare: .*run {run} of b is interrupted"):
        compared(store, "a", run)
    alone = add_run("answers")
    with pytest.raises(UserError, match=f"answers has answers and no scores: .*judge --run {alone}"):
        compared(store, "a", "answers")
    with pytest.raises(UserError, match=f"run {alone} of answers has answers alone: judge them by"):
        compared(store, "a", alone)
    other = add_run("c", scores=[Score("other", 1.0, None, 1)])
    with pytest.raises(UserError, match=f"no metric of mt-bench-mini is in both.*run {other} of c has other"):
        compared(store, "a", other)


def test_a_benchmark_that_a_model_has_no_run_of_gets_close_matches(store: Store, add_run: AddRun) -> None:
    for name in ("a", "b"):
        add_run(name, samples=chat_samples((5, 5)))
    with pytest.raises(UserError, match=r"a has no run of mt-bensh\. Did you mean mt-bench-mini\?"):
        compared(store, "a", "b", benchmark="mt-bensh")


def test_a_field_to_allow_may_be_of_one_benchmark_alone(store: Store, add_run: AddRun) -> None:
    for name, tokens in (("a", 128), ("b", 64)):
        add_run(name, samples=chat_samples((5, 5)), protocol={"limit": None, "max_new_tokens": tokens})
        add_run(name, "alpaca-eval-mini", samples=preference_samples(1, 0))
    assert len(compared(store, "a", "b", allow=["max_new_tokens"])) == 2
    with pytest.raises(UserError, match=r"--allow-different nonsense: no run here tells such a field"):
        compared(store, "a", "b", allow=["max_new_tokens", "nonsense"])


def test_a_files_name_below_the_table_stays_text(store: Store, tmp_path: Path) -> None:
    base, candidate = chat_run(store, "a", short_answers), chat_run(store, "b", long_answers)
    paths = [tmp_path / f"{word}\x1b[31m<b>.json" for word in ("base", "candidate")]
    for path, run in zip(paths, (base, candidate), strict=True):
        write_baseline(store, [store.run(run)], path)
    for form in ("table", "markdown"):
        text = render_comparison(None, str(paths[0]), str(paths[1]), format=form)
        assert "has no texts" in text
        assert "\x1b" not in text
        assert form == "table" or "<b>" not in text


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


def test_a_metric_that_only_one_run_has_is_named(store: Store, add_run: AddRun) -> None:
    add_run("a", samples=chat_samples((5, 5), (6, 4)))
    add_run("b", samples=chat_samples((5, 5)))
    run = store.runs(model="a")[0].id
    notes = compared(store, "a", "b")[0]["notes"]
    assert f"only run {run} has writing" in notes


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


def test_turns_of_a_question_are_one_pair_and_effect_and_detectable_stand_beside(store: Store, add_run: AddRun) -> None:
    a = [(5, 5), (6, 4), (3, 9), (2, 2), (4, 5), (7, 7), (8, 6), (1, 3)]
    b = [(6, 7), (6, 5), (2, 9), (4, 3), (5, 5), (8, 9), (8, 8), (3, 3)]
    add_run("a", samples=chat_samples(*a))
    add_run("b", samples=chat_samples(*b))
    row = metrics(compared(store, "a", "b")[0])["score"]
    means = np.array(b).mean(axis=1) - np.array(a).mean(axis=1)
    d = means.mean() / means.std(ddof=1)
    assert row["effect_size"] == pytest.approx(d * (1 - 3 / (4 * 7 - 1)))
    power = stats.nct(7, row["detectable"] / (means.std(ddof=1) / 8**0.5)).sf(stats.t.ppf(0.975, 7))
    assert power == pytest.approx(0.8, abs=1e-3)


def test_subjects_are_the_pairs_of_a_group_of_six_or_more(store: Store, add_run: AddRun) -> None:
    subjects = ["astronomy", "nutrition", "virology", "anatomy", "sociology", "marketing"]
    tasks = [{"task": "mmlu", "metric": "acc"}]

    def rows(right: int) -> list[SampleScore]:
        return [
            SampleScore(f"{subject}/{row}", f"mmlu_{subject}", "acc", float(row < 4 + right * (number % 3)))
            for number, subject in enumerate(subjects)
            for row in range(10)
        ]

    for name, right in (("a", 0), ("b", 1)):
        scores = suite_scores(rules_of({"tasks": tasks}), rows(right))
        add_run(name, "own", samples=rows(right), scores=scores, judge=None, protocol={"tasks": tasks, "limit": None})
    row = metrics(compared(store, "a", "b")[0])["mmlu"]
    expected = stats.ttest_1samp([0, 10, 20, 0, 10, 20], 0)
    assert (row["difference"], row["n"]) == (pytest.approx(10), 60)
    assert row["p_value"] == pytest.approx(expected.pvalue)


def test_accuracies_that_turned_are_counted(store: Store, add_run: AddRun) -> None:
    """Eight right answers went wrong and none came right: McNemar's exact test."""
    tasks = [{"task": "gsm8k", "metric": "exact_match"}]

    def rows(right: int) -> list[SampleScore]:
        return [SampleScore(f"g{row:03}", "gsm8k", "exact_match", float(row < right)) for row in range(100)]

    for name, right in (("a", 60), ("b", 52)):
        scores = suite_scores(rules_of({"tasks": tasks}), rows(right))
        add_run(name, "own", samples=rows(right), scores=scores, judge=None, protocol={"tasks": tasks, "limit": None})
    row = metrics(compared(store, "a", "b")[0])["gsm8k"]
    assert row["p_value"] == pytest.approx(stats.binomtest(0, 8).pvalue)
    assert -16 < row["low"] < row["difference"] == -8 < row["high"] < 0


def test_repeated_judgments_tell_the_judges_part_of_the_error(store: Store, add_run: AddRun) -> None:
    rng = np.random.default_rng(5)

    def rows(shift: float) -> list[SampleScore]:
        return [
            SampleScore(f"q{number}", "math", "score", 5 + shift + mean + rng.normal(0, 0.5), 1, replicate=replicate)
            for number, mean in enumerate(rng.normal(0, 1, 12))
            for replicate in range(3)
        ]

    add_run("a", samples=rows(0.0))
    add_run("b", samples=rows(0.5))
    (entry,) = compared(store, "a", "b")
    parts = {tuple(part["sources"]): part for part in entry["components"]["parts"]}
    assert set(parts) == {("questions", "sampling"), ("judge",)}
    assert sum(part["stderr"] ** 2 for part in parts.values()) == pytest.approx(entry["metrics"][0]["stderr"] ** 2)
    assert parts["judge",]["stderr"] == pytest.approx((2 * 0.5**2 / 3 / 12) ** 0.5, rel=0.4)
    text = render_comparison(store, "a", "b", format="table")
    assert "error of score," in text
    for name in ("c", "d"):  # a file of judgments alone doesn't say that they are of one answer
        add_run(name, samples=rows(0.0), environment={"imported": "fastchat"})
    (entry,) = compared(store, "c", "d")
    assert {tuple(part["sources"]) for part in entry["components"]["parts"]} == {("sampling", "judge"), ("questions",)}
    assert "one checkpoint each: what another seed of the training would change is not in the error" in text


def test_parts_of_the_error_are_the_same_in_whatever_order_the_samples_came(store: Store, add_run: AddRun) -> None:
    values = [(4.0, 9.0), (5.0, 7.0), (3.0, 8.0), (6.0, 9.0)]
    once, again = (chat_samples(*((a + shift, b + shift) for a, b in values)) for shift in (0.0, 0.5))
    rows = [*once, *(replace(sample, replicate=1) for sample in again)]
    add_run("a", samples=rows)
    others = chat_samples((4.5, 9.0), (6.0, 7.0), (2.0, 8.5), (6.0, 10.0))
    add_run("b", samples=others)
    add_run("c", samples=others[::-1])
    forth, back = (compared(store, "a", name)[0]["components"] for name in ("b", "c"))
    assert forth["stderr"] == pytest.approx(back["stderr"])
    assert forth["detectable"] == pytest.approx(back["detectable"])


def test_nothing_repeated_tells_no_parts(store: Store, add_run: AddRun) -> None:
    add_run("a", samples=chat_samples((5, 5), (6, 4)))
    add_run("b", samples=chat_samples((6, 5), (6, 4)))
    assert compared(store, "a", "b")[0]["components"] is None


def test_seeds_that_scatter_widen_the_interval(store: Store, add_run: AddRun) -> None:
    """Three checkpoints a side, each better or worse than the next on every question alike."""
    hard = np.array([(4, 5), (6, 4), (3, 7), (2, 2), (4, 5), (7, 6)], float)
    gains = np.array([0.9, 1.1, 1.2, 0.8, 1.0, 1.0])

    def run(name: str, values: np.ndarray[Any, Any]) -> str:
        return add_run(name, samples=chat_samples(*((float(a), float(b)) for a, b in values)))

    shifts = (-0.5, 0.0, 0.5)
    base = ",".join(run(f"a{number}", hard + shift) for number, shift in enumerate(shifts))
    candidate = ",".join(run(f"b{number}", hard + gains[:, None] + shift) for number, shift in enumerate(shifts))
    (entry,) = compared(store, base, candidate)
    row = entry["metrics"][0]
    questions, seeds = gains.var(ddof=1) / 6, 2 * 0.5**2 / 3
    assert row["difference"] == pytest.approx(1.0)
    assert row["stderr"] == pytest.approx((questions + seeds) ** 0.5)
    assert (row["high"] - row["low"]) / 2 == pytest.approx(stats.t.ppf(0.975, 4) * row["stderr"], rel=0.05)
    assert entry["components"]["parts"][0]["sources"] == ["seeds"]
    assert entry["components"]["parts"][0]["stderr"] == pytest.approx(seeds**0.5)
    assert entry["components"]["seeds_known"]
    assert len(entry["base"]["seeds"]) == 3


def test_two_runs_of_one_checkpoint_repeat_its_sampling_and_not_its_training(store: Store, add_run: AddRun) -> None:
    rng = np.random.default_rng(3)
    means = rng.normal(5, 1, 8)

    def run(name: str, seed: int) -> str:
        values = [(float(mean + rng.normal(0, 0.3)), float(mean + rng.normal(0, 0.3))) for mean in means]
        return add_run(name, samples=chat_samples(*values), seed=seed)

    base, candidate = (",".join(run(name, seed) for seed in range(3)) for name in ("a", "b"))
    components = compared(store, base, candidate)[0]["components"]
    assert {tuple(part["sources"]) for part in components["parts"]} == {("sampling", "judge"), ("questions",)}
    assert not components["seeds_known"]


def test_seeds_of_an_average_of_tasks_widen_it_too(store: Store, add_run: AddRun) -> None:
    def run(name: str, right: int) -> str:
        rows = {"mmlu_astronomy": [1, 0], "mmlu_nutrition": [1, 0, 1], "mmlu_high_school_geography": [1, 0]}
        samples = task_samples(
            arc_challenge=[1] * right + [0] * (8 - right), hellaswag=[1, 0], truthfulqa_mc2=[1, 1, 0], **rows
        )
        return add_run(name, "open-llm-mini", samples=samples, judge=None)

    runs = [run(f"s{number}", right) for number, right in enumerate((2, 4, 6))]
    other = run("other", 5)
    alone = metrics(compared(store, runs[1], other)[0])["average"]
    together = metrics(compared(store, ",".join(runs), other)[0])["average"]
    assert together["difference"] == pytest.approx(alone["difference"])
    assert together["stderr"] > alone["stderr"]


def test_seeds_of_another_protocol_are_refused(store: Store, add_run: AddRun) -> None:
    samples = chat_samples((5, 5), (6, 4))
    one = add_run("a", samples=samples)
    other = add_run("b", samples=samples, protocol={"limit": 2})
    third = add_run("c", samples=samples)
    with pytest.raises(UserError, match=r"differ in limit \(none against 2\)"):
        compared(store, f"{one},{other}", third)


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json"])
def test_what_differs_is_refused_or_allowed_and_said_in_every_format(store: Store, add_run: AddRun, form: str) -> None:
    samples = chat_samples((5, 5), (6, 4))
    add_run("a", samples=samples, protocol={"max_new_tokens": 128, "limit": None})
    unlike = {"max_new_tokens": 64, "limit": None, "system_prompt": "Be kind."}
    add_run("b", samples=samples, protocol=unlike)
    with pytest.raises(UserError, match=r"max_new_tokens \(128 against 64\).*--allow-different max_new_tokens"):
        render_comparison(store, "a", "b", format=form)
    text = render_comparison(store, "a", "b", format=form, allow=["max_new_tokens", "system_prompt"])
    assert all(word in text.replace("\\", "") for word in ("max_new_tokens", "128", "64", "system_prompt"))


def test_an_allowed_judge_is_said_and_other_judges_pair(store: Store, add_run: AddRun) -> None:
    one = add_run("a", samples=chat_samples((5, 5), (6, 4)))
    other = add_run("b", samples=chat_samples((5, 6), (6, 4)), judge="gpt-4")
    with pytest.raises(UserError, match="differ in judge"):
        compared(store, one, other)
    (entry,) = compared(store, one, other, allow=["judge"])
    assert [field["field"] for field in entry["allowed_different"]] == ["judge"]
    assert any("not made alike, and compared all the same: judge: rubric" in note for note in entry["notes"])


def test_both_answers_and_judgments_are_shown_of_questions_that_moved(store: Store) -> None:
    base, candidate = chat_run(store, "a", short_answers), chat_run(store, "b", long_answers)
    (entry,) = compared(store, base, candidate, moved=2)
    assert len(entry["moved"]) == 2
    question = entry["moved"][0]["question"]
    for side, says, run in (("base_said", short_answers, base), ("candidate_said", long_answers, candidate)):
        texts = [turn["answer"] for turn in entry["moved"][0][side]]
        asked = next(asked for asked in mini().questions if asked.id == question)
        assert texts == [says(asked, 1), says(asked, 2)]
        grades = [turn["judgments"][0]["score"] for turn in entry["moved"][0][side]]
        stored = {v.turn: v.judgment.score for v in store.verdicts_of(run) if v.question == question}
        assert grades == [stored[1], stored[2]]
    text = render_comparison(store, base, candidate, format="table", moved=2)
    assert f"Answer 2 to question {question}." in text
    assert "# An answer 1. To question" in text  # on one line
    assert "graded" in text
    assert "question " not in render_comparison(store, base, candidate, format="table", moved=0).splitlines()[-1]


def test_hostile_answers_do_not_reach_the_terminal_or_the_markdown(store: Store) -> None:
    hostile = chat_run(store, "evil", lambda question, turn: "\x1b[2J<script>alert(1)</script> | **x**")
    kind = chat_run(store, "kind", long_answers)
    assert "\x1b" not in render_comparison(store, hostile, kind, format="table")
    assert "<script>" not in render_comparison(store, hostile, kind, format="markdown")


def test_answers_that_are_word_for_word_the_same_are_told(store: Store) -> None:
    one, again = chat_run(store, "a", short_answers), chat_run(store, "copy", short_answers)
    other = chat_run(store, "b", long_answers)
    assert compared(store, one, again)[0]["same_answers"]
    assert compared(store, one, one)[0]["same_answers"]
    assert not compared(store, one, other)[0]["same_answers"]


def test_one_model_that_answered_otherwise_did_not_say_the_same(store: Store) -> None:
    """Texts decide where they are known: a server's model may change behind its name."""
    one, other = (chat_run(store, "served", says, seed=seed) for seed, says in enumerate((short_answers, long_answers)))
    assert not compared(store, one, other)[0]["same_answers"]


def test_without_texts_the_same_weights_engine_and_protocol_with_the_same_rows_are_the_same_answers(
    store: Store, add_run: AddRun
) -> None:
    rows = {"mmlu_astronomy": [1, 0], "mmlu_nutrition": [1, 0], "mmlu_high_school_geography": [1, 0]}
    samples = task_samples(arc_challenge=[1, 0], hellaswag=[1, 0], truthfulqa_mc2=[1, 0], **rows)
    runs = [add_run("a", "open-llm-mini", samples=samples, judge=None) for _ in range(2)]
    assert compared(store, *runs)[0]["same_answers"]
    seeded = add_run("a", "open-llm-mini", samples=samples, judge=None, seed=1)
    assert not compared(store, runs[0], seeded)[0]["same_answers"]
    imported = [
        add_run("a", "open-llm-mini", samples=samples, judge=None, environment={"imported": "lm_eval"}, weights="name")
        for _ in range(2)
    ]
    assert not compared(store, *imported)[0]["same_answers"]


def test_texts_of_some_tasks_do_not_speak_for_those_that_have_none(store: Store, add_run: AddRun) -> None:
    """Log-probabilities were asked for as well: two checkpoints that differ there alone are not the same."""
    rows = {"hellaswag": [1] * 8, "truthfulqa_mc2": [1, 0], "mmlu_astronomy": [1, 0], "mmlu_nutrition": [1, 0]}
    rows["mmlu_high_school_geography"] = [1, 0]
    sides = []
    for model, right in (("a", [1] * 8), ("b", [0] * 8)):
        run = add_run(model, "open-llm-mini", samples=task_samples(arc_challenge=right, **rows), judge=None)
        said = {(f"hellaswag/{place}", 1, 0): "the same" for place in range(8)}
        sides.append(replace(side_of(store, store.run(run)), said=said))
    assert not compare_sides(*sides).same_answers
    told = [replace(side, said={(s.question, 1, 0): "the same" for s in side.samples}) for side in sides]
    assert not compare_sides(*told).same_answers  # no judge read the texts, and the values differ
    assert compare_sides(told[0], told[0]).same_answers
