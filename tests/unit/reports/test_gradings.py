"""Runs graded with other references, against other rivals or several times: kept apart, compared, told."""

from __future__ import annotations

import csv
import io
import json

import pytest
from conftest_reports import HEADLINES, AddRun, chat_samples

from zephyr_bench.benchmarks.pairing import pair_scores
from zephyr_bench.errors import UserError
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.reports.compare import render_comparison
from zephyr_bench.reports.leaderboard import render_leaderboard
from zephyr_bench.reports.scores import judge_noise, render_run
from zephyr_bench.store import Store

ORIGINAL, CORRECTED = {"references": "gpt-4", "limit": None}, {"references": "gpt-4-0125-preview", "limit": None}


def graded(value: float) -> list[Score]:
    return [Score("score", value, 0.1, 80)]


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_figures_of_other_references_are_never_in_one_column(store: Store, add_run: AddRun) -> None:
    add_run("a", scores=graded(5.0), protocol=ORIGINAL)
    add_run("a", scores=graded(6.0), protocol=CORRECTED)
    add_run("b", scores=graded(7.0), protocol=CORRECTED)
    table = lines(render_leaderboard(store, HEADLINES, format="table"))
    assert "mt-bench-mini score references gpt-4 " in table[0] + " "
    assert table[2:4] == ["a 5.00 ±0.10 6.00 ±0.10 (2) ¹", "b - 7.00 ±0.10 (1) ¹"]
    by_metric = lines(render_leaderboard(store, HEADLINES, format="table", benchmark="mt-bench-mini"))
    assert "a gpt-4 - 5.00 ±0.10" in by_metric
    assert "b ¹ gpt-4-0125-preview 1 7.00 ±0.10" in by_metric


def test_a_run_that_does_not_tell_its_references_stands_with_the_only_others(store: Store, add_run: AddRun) -> None:
    add_run("a", scores=graded(5.0), protocol=ORIGINAL)
    add_run("imported", scores=graded(6.0), protocol={"limit": None})
    table = lines(render_leaderboard(store, HEADLINES, format="table"))
    assert table[2:4] == ["imported 6.00 ±0.10 ¹", "a 5.00 ±0.10"]


def test_grades_by_other_references_are_not_compared(store: Store, add_run: AddRun) -> None:
    first = add_run("a", samples=chat_samples((5, 6), (7, 8)), protocol=ORIGINAL)
    second = add_run("b", samples=chat_samples((6, 6), (7, 9)), protocol=CORRECTED)
    with pytest.raises(UserError, match=r"differ in references \(gpt-4 against gpt-4-0125-preview\)"):
        render_comparison(store, first, second, format="table")


def test_an_imported_run_compares_and_what_it_does_not_tell_is_listed(store: Store, add_run: AddRun) -> None:
    protocol = {"temperature": {"other": 0.7}}
    ours = {**ORIGINAL, **protocol, "max_new_tokens": 1024}
    add_run("ours", samples=chat_samples((5, 6), (7, 8)), protocol=ours)
    imported = {"imported": "fastchat"}
    samples = chat_samples((6, 6), (7, 9))
    add_run("theirs", samples=samples, protocol=protocol, environment=imported, judge_version="import")
    text = render_comparison(store, "ours", "theirs", format="table")
    unknown = "judge, limit, max_new_tokens, references, version"
    assert f"taken as equal, since not both runs tell it: {unknown}" in text
    assert "not made alike" not in text


def test_repeats_are_averaged_before_runs_are_paired(store: Store, add_run: AddRun) -> None:
    """A file may hold a judgment of one answer twice and of the next once."""
    base = [
        SampleScore("q1", "math", "score", 4.0, 1),
        SampleScore("q1", "math", "score", 6.0, 1, replicate=1),
        SampleScore("q2", "math", "score", 8.0, 1),
    ]
    add_run("a", samples=base)
    add_run("b", samples=[SampleScore("q1", "math", "score", 7.0, 1), SampleScore("q2", "math", "score", 8.0, 1)])
    (found,) = json.loads(render_comparison(store, "a", "b", format="json"))
    headline = found["metrics"][0]
    assert (headline["base"], headline["candidate"], headline["difference"], headline["n"]) == (6.5, 7.5, 1.0, 2)


def test_published_figures_have_the_references_of_their_source_only(store: Store, add_run: AddRun) -> None:
    add_run("ours", "mt-bench", scores=graded(5.0), protocol=CORRECTED, judge="gpt-4")
    text = render_leaderboard(store, {"mt-bench": "score"}, format="table", benchmark="mt-bench", published=True)
    rows = {" ".join(line.split()) for line in text.splitlines()}
    assert any(row.startswith("ours gpt-4 gpt-4-0125-preview 5.00") for row in rows)
    assert any(row.startswith("zephyr-7b-beta † ¹ gpt-4 gpt-4 7.34") for row in rows)


def test_runs_against_other_rivals_are_not_compared(store: Store, add_run: AddRun) -> None:
    ids = []
    for name, rival in (("a", "weak"), ("b", "strong")):
        samples = pair_run(1.0, 0.0, rival=rival)
        protocol = {"rivals": [rival]}
        ids.append(add_run(name, "mt-bench-pairwise", samples=samples, scores=pair_scores(samples), protocol=protocol))
    with pytest.raises(UserError, match=r"differ in rivals \(weak against strong\)"):
        render_comparison(store, *ids, format="table")


def test_machines_are_told_what_a_figure_was_graded_with(store: Store, add_run: AddRun) -> None:
    add_run("plain", samples=chat_samples((5, 6)))
    add_run("ours", "mt-bench", scores=graded(5.0), protocol=CORRECTED, judge="gpt-4")
    samples = pair_run(1.0, 0.0)
    add_run("ours", "mt-bench-pairwise", samples=samples, scores=pair_scores(samples), protocol={"rivals": ["base"]})
    headlines = {"mt-bench-mini": "score", "mt-bench": "score", "mt-bench-pairwise": "win-rate-adjusted"}
    rows = {row["benchmark"]: row for row in json.loads(render_leaderboard(store, headlines, format="json"))}
    assert rows["mt-bench"]["references"] == "gpt-4-0125-preview"
    assert rows["mt-bench-pairwise"]["rivals"] == ["base"]
    assert not {"references", "rivals"} & rows["mt-bench-mini"].keys()
    lines = list(csv.DictReader(io.StringIO(render_leaderboard(store, headlines, format="csv"))))
    told = {line["benchmark"]: (line["references"], line["rivals"]) for line in lines}
    assert told["mt-bench"] == ("gpt-4-0125-preview", "")
    assert told["mt-bench-pairwise"] == ("", "base")
    assert told["mt-bench-mini"] == ("", "")


def test_answers_without_scores_take_no_part(store: Store, add_run: AddRun) -> None:
    add_run("a", "mt-bench", scores=[], judge=None)
    add_run("b", "mt-bench", scores=[], judge=None)
    with pytest.raises(UserError, match="a has answers and no scores: judge them first"):
        render_comparison(store, "a", "b", format="table")


def pair_run(*values: float, rival: str = "base") -> list[SampleScore]:
    return [
        SampleScore(f"q{number}", ("math", "writing")[number % 2], metric, value, 1, None, rival)
        for number, verdict in enumerate(values)
        for metric, value in (("verdict", verdict), ("consistent", 1.0))
    ]


def test_two_models_are_compared_by_how_they_fare_against_the_same_rival(store: Store, add_run: AddRun) -> None:
    protocol = {"rivals": ["base"], "limit": None}
    for name, values in {"a": (0.0, 0.5, 1.0, 0.0), "b": (1.0, 0.5, 1.0, 0.5)}.items():
        samples = pair_run(*values)
        add_run(name, "mt-bench-pairwise", samples=samples, scores=pair_scores(samples), protocol=protocol)
    (found,) = json.loads(render_comparison(store, "a", "b", format="json"))
    metrics = {entry["metric"]: entry for entry in found["metrics"]}
    assert (metrics["win-rate-adjusted"]["difference"], metrics["win-rate-adjusted"]["n"]) == (37.5, 4)
    assert metrics["win-rate"]["difference"] == 25
    assert metrics["math"]["difference"] == 50
    assert all(entry["n"] > 0 for entry in found["metrics"]), "every rate is paired"


def test_rates_against_other_rivals_have_columns_of_their_own(store: Store, add_run: AddRun) -> None:
    for rival, values in {"weak": (1.0, 1.0), "strong": (0.0, 0.5)}.items():
        samples = pair_run(*values, rival=rival)
        add_run("a", "mt-bench-pairwise", samples=samples, scores=pair_scores(samples), protocol={"rivals": [rival]})
    head, _, row, *_ = lines(render_leaderboard(store, HEADLINES, format="table"))
    assert "win-rate-adjusted against strong" in head
    assert "win-rate-adjusted against weak" in head
    assert row.startswith("a 25.00 ±25.00 100.00")


def test_the_judges_own_part_of_the_error_is_told(store: Store, add_run: AddRun) -> None:
    samples = [
        SampleScore(f"q{number}", "math", "score", mean + wobble, 1, replicate=replicate)
        for number, mean in enumerate((3.0, 5.0, 8.0))
        for replicate, wobble in enumerate((-0.5, 0.5))
    ]
    run = add_run("a", samples=samples)
    parts = judge_noise(samples, store.scores_of([run])[run])
    assert parts is not None
    assert (parts.repeats, parts.spread) == (2, pytest.approx(0.5**0.5))
    text = render_run(store, run, "table")
    assert "2 judgments an answer: one differs from the next by a standard deviation of 0.71" in text
    assert "the judge gives 0.29, the choice of questions 1.42" in text


def test_a_verdict_that_is_missing_is_told_with_its_reason(store: Store, add_run: AddRun) -> None:
    run = add_run("a", samples=chat_samples((5, None), (7, 8)))
    assert "1 without a score, left out of the mean (no verdict)" in render_run(store, run, "table")
