"""The leaderboard over a real store: which run counts, what is marked, the order, the contract."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from conftest_reports import HEADLINES, AddRun, chat_samples, preference_samples, put_run, task_samples

from zephyr_bench.errors import UserError
from zephyr_bench.records import Score
from zephyr_bench.reports.leaderboard import render_leaderboard
from zephyr_bench.store import Store

KEYS = ["model", "benchmark", "metric", "value", "stderr", "n", "judge", "run", "published"]


def as_records(store: Store, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(render_leaderboard(store, HEADLINES, format="json", **options))
    return found


def table(store: Store, **options: Any) -> str:
    return render_leaderboard(store, HEADLINES, format="table", **options)


def score(value: float, stderr: float | None = None, metric: str = "score", missing: int = 0) -> list[Score]:
    return [Score(metric, value, stderr, 48 - missing, missing)]


def test_json_keeps_the_contract_keys_and_full_precision(store: Store, add_run: AddRun) -> None:
    run = add_run("tiny", samples=chat_samples((7.0, 6.0), (3.0, 4.0), (1.0, 9.0)))
    rows = as_records(store)
    assert [list(row) for row in rows] == [KEYS] * len(rows)
    assert [row["metric"] for row in rows] == ["score", "turn-1", "turn-2", "math", "writing"]
    first = rows[0]
    assert first["value"] == 5.0
    assert first["stderr"] == pytest.approx(0.8660254037844386, abs=1e-15)
    assert (first["model"], first["n"], first["judge"], first["run"]) == ("tiny", 6, "rubric", run)
    assert first["published"] is False


def test_table_has_a_row_a_model_and_a_column_a_benchmark(store: Store, add_run: AddRun) -> None:
    add_run("start", samples=chat_samples((5, 5), (6, 6)))
    add_run(
        "start",
        "open-llm-mini",
        samples=task_samples(arc_challenge=[1, 0]),
        judge=None,
        scores=score(50, 3.5, "average"),
    )
    add_run("ddpo", samples=chat_samples((7, 7), (6, 8)))
    lines = table(store).splitlines()
    assert lines[0].split() == ["model", "mt-bench-mini", "score", "open-llm-mini", "average"]
    assert lines[2].split() == ["ddpo", "7.00", "±0.00", "(1–2)", "-"]
    assert lines[3].split() == ["start", "5.50", "±0.50", "(1–2)", "50.00", "±3.50"]
    assert lines[4] == "± standard error"
    assert lines[5].startswith("1–3: the ranks that a model may have; models whose difference isn't significant share")


def test_with_a_benchmark_each_metric_has_a_column(store: Store, add_run: AddRun) -> None:
    add_run("tiny", samples=chat_samples((7.0, 6.0), (3.0, 4.0)))
    add_run("tiny", "alpaca-eval-mini", samples=preference_samples(1, 0, 0.5))
    lines = table(store, benchmark="mt-bench-mini").splitlines()
    assert lines[0] == "mt-bench-mini, judged by rubric"
    assert lines[2].split() == ["model", "score", "turn-1", "turn-2", "math", "writing"]
    assert {row["benchmark"] for row in as_records(store, benchmark="mt-bench-mini")} == {"mt-bench-mini"}


def test_best_model_first_and_ties_by_name(store: Store, add_run: AddRun) -> None:
    for name, value in (("b", 5.0), ("c", 5.0), ("a", 5.0), ("worst", 1.0), ("best", 9.123456)):
        add_run(name, scores=score(value))
    names = ["best", "a", "b", "c", "worst"]
    assert [row["model"] for row in as_records(store)] == names
    assert [line.split()[0] for line in table(store).splitlines()[2:]] == names


def test_newest_complete_run_counts(store: Store, add_run: AddRun) -> None:
    add_run("tiny", scores=score(3.0))
    newest = add_run("tiny", scores=score(4.0))
    add_run("tiny", status="interrupted")
    assert [(row["run"], row["value"]) for row in as_records(store)] == [(newest, 4.0)]
    assert "left out" not in table(store)


def test_quick_trial_does_not_hide_a_whole_result(store: Store, add_run: AddRun) -> None:
    whole = add_run("tiny", scores=score(4.0))
    add_run("tiny", scores=score(9.0), protocol={"limit": 2})
    assert [row["run"] for row in as_records(store)] == [whole]


def test_run_of_some_tasks_hides_no_whole_one(store: Store, add_run: AddRun) -> None:
    add_run("tiny", scores=score(3.0), protocol={"limit": None, "only": None})
    add_run("tiny", scores=score(9.0), protocol={"limit": None, "only": ["ifeval"]})
    add_run("other", scores=score(8.0), protocol={"limit": None, "only": ["ifeval"]})
    text = table(store)
    assert "3.00" in text
    assert "9.00" not in text
    assert "only ifeval" in text


def test_limited_run_alone_is_shown_and_marked(store: Store, add_run: AddRun) -> None:
    add_run("tiny", scores=score(9.0), protocol={"limit": 2})
    text = table(store)
    assert "9.00 ¹" in text
    assert "¹ only the first questions: --limit 2" in text


def test_incomplete_run_has_no_row_but_a_line(store: Store, add_run: AddRun) -> None:
    add_run("whole", scores=score(5.0))
    run = add_run("half", status="interrupted", samples=chat_samples((9, 9)))
    text = table(store)
    assert "half" not in "".join(text.splitlines()[:3])
    assert f"left out: run {run} of half on mt-bench-mini is interrupted" in text
    assert [row["model"] for row in as_records(store)] == ["whole"]


def test_missing_judgments_have_a_footnote(store: Store, add_run: AddRun) -> None:
    add_run("tiny", samples=chat_samples((7.0, None), (3.0, 4.0), (None, None)))
    text = table(store)
    assert "4.67 ±1.56 ¹" in text
    assert "¹ no score for 3 of 6; left out of the mean" in text


def test_run_without_any_score_shows_none(store: Store, add_run: AddRun) -> None:
    add_run("tiny", samples=chat_samples((None, None)))
    assert as_records(store)[0]["value"] is None
    assert table(store).splitlines()[2].split() == ["tiny", "-", "¹"]


def test_two_checkpoints_of_one_name_are_told_apart(store: Store, add_run: AddRun) -> None:
    add_run("tiny", weights="one", scores=score(3.0))
    add_run("tiny", weights="two", scores=score(4.0))
    names = [row["model"] for row in as_records(store)]
    assert len(set(names)) == 2
    assert all(name.startswith("tiny@") and len(name) == len("tiny@") + 8 for name in names)


def test_one_checkpoint_of_two_names_keeps_both(store: Store, add_run: AddRun) -> None:
    add_run("tiny", weights="one", scores=score(3.0))
    add_run("other-name", weights="one", scores=score(4.0))
    assert [row["model"] for row in as_records(store)] == ["other-name", "tiny"]


def test_judges_have_columns_of_their_own(store: Store, add_run: AddRun) -> None:
    add_run("tiny", scores=score(3.0), judge="rubric")
    add_run("tiny", scores=score(8.0), judge="gpt-4")
    assert table(store).splitlines()[2].split() == ["tiny", "8.00", "3.00"]
    assert "mt-bench-mini score by gpt-4" in table(store)
    by_metric = table(store, benchmark="mt-bench-mini").splitlines()
    assert [line.split() for line in by_metric[4:6]] == [
        ["tiny", "gpt-4", "8.00"],
        ["tiny", "rubric", "3.00"],
    ]


def test_another_version_of_the_judge_is_marked(store: Store, add_run: AddRun) -> None:
    add_run("a", scores=score(3.0))
    add_run("b", scores=score(4.0))
    add_run("c", scores=score(5.0), judge_version="2")
    text = table(store)
    assert "5.00 ¹" in text
    assert "another version of rubric" in text


def test_another_protocol_is_marked_with_what_differs(store: Store, add_run: AddRun) -> None:
    add_run("a", scores=score(3.0), protocol={"max_new_tokens": 128})
    add_run("b", scores=score(4.0), protocol={"max_new_tokens": 128})
    add_run("c", scores=score(5.0), protocol={"max_new_tokens": 64})
    assert "¹ asked otherwise than a (max_new_tokens: 128 against 64)" in table(store)


def test_note_of_the_model_stands_beside_its_name(store: Store, add_run: AddRun) -> None:
    add_run("tiny", scores=score(3.0), note="quantised")
    assert "tiny (quantised)" in table(store)
    assert as_records(store)[0]["model"] == "tiny"


def test_benchmark_outside_the_catalogue_is_ranked_by_its_first_metric(store: Store, add_run: AddRun) -> None:
    add_run("tiny", "house-questions", scores=[Score("kindness", 2.0, None, 3), Score("a", 1.0, None, 3)])
    assert "house-questions kindness" in table(store)


def test_empty_store_says_what_to_run(store: Store) -> None:
    with pytest.raises(UserError, match="holds no run yet: make one with `zephyr-bench mtbench"):
        table(store)
    assert as_records(store) == []


def test_store_with_unfinished_runs_only_names_them(store: Store, add_run: AddRun) -> None:
    run = add_run("tiny", status="failed")
    with pytest.raises(UserError, match=f"no complete run.*\n.*{run} of tiny on mt-bench-mini failed"):
        table(store)


def test_unknown_benchmark_gets_close_matches(store: Store, add_run: AddRun) -> None:
    add_run("tiny", scores=score(3.0))
    with pytest.raises(UserError, match=r"unknown benchmark 'mt-bench-mino'.*mt-bench-mini"):
        as_records(store, benchmark="mt-bench-mino")


def test_unknown_format_is_refused(store: Store, add_run: AddRun) -> None:
    add_run("tiny", scores=score(3.0))
    with pytest.raises(UserError, match="unknown format 'html'"):
        render_leaderboard(store, HEADLINES, format="html")


def test_published_figures_come_only_when_asked_for(store: Store, add_run: AddRun) -> None:
    add_run("tiny", "mt-bench", scores=score(1.5), judge="gpt-4")
    assert not any(row["published"] for row in as_records(store))
    rows = as_records(store, published=True)
    zephyr = [row for row in rows if row["model"] == "zephyr-7b-beta" and row["metric"] in ("score", "win-rate")]
    assert {(row["benchmark"], row["value"], row["stderr"]) for row in zephyr} >= {
        ("mt-bench", 7.34, None),
        ("alpaca-eval-1", 90.60, 1.03),
    }
    assert all(row["run"] is None for row in rows if row["published"])
    assert [row["model"] for row in rows if not row["published"]] == ["tiny"]


def test_published_rows_are_marked_with_their_source(store: Store, add_run: AddRun) -> None:
    add_run("zephyr-7b-beta", "mt-bench", scores=score(7.1, 0.2), judge="gpt-4")
    lines = table(store, benchmark="mt-bench", published=True).splitlines()
    ours = next(line for line in lines if line.startswith("zephyr-7b-beta  "))
    theirs = next(line for line in lines if line.startswith("zephyr-7b-beta †"))
    assert "7.10 ±0.20" in ours
    assert "7.34" in theirs
    mark = theirs.split()[2]
    assert any(line.startswith(f"{mark} ") and "arXiv 2310.16944" in line for line in lines)
    assert "† published by others, not measured here" in lines


def test_published_figures_fill_an_empty_store(store: Store) -> None:
    assert "gpt-4 †" in table(store, published=True)


def test_same_store_gives_the_same_bytes(store: Store, add_run: AddRun) -> None:
    for name in ("b", "a", "c"):
        add_run(name, samples=chat_samples((5, 5), (6, None)))
    for form in ("table", "markdown", "csv", "json"):
        first = render_leaderboard(store, HEADLINES, format=form, published=True)
        assert first == render_leaderboard(store, HEADLINES, format=form, published=True)
        assert first.endswith("\n")


def test_hostile_names_are_shown_and_not_obeyed(store: Store, add_run: AddRun) -> None:
    name = "=cmd|' /C'!A0`\n<script>alert(1)</script>\x1b[31m[bold]\u202e"
    add_run(name, scores=score(3.0))
    markdown = render_leaderboard(store, HEADLINES, format="markdown")
    row = markdown.splitlines()[2]
    assert "<" not in row
    assert row.replace("\\|", "").count("|") == 3
    assert "\\`" in row
    shown = table(store)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "[bold]" in shown
    cells = list(csv.reader(io.StringIO(render_leaderboard(store, HEADLINES, format="csv"))))
    assert len(cells) == 2
    assert cells[1][0].startswith("'=cmd")
    assert as_records(store)[0]["model"] == name


def test_csv_holds_the_json_records(store: Store, add_run: AddRun) -> None:
    add_run("tiny", samples=chat_samples((7.0, 6.0), (3.0, 4.0), (1.0, 9.0)))
    rows = list(csv.DictReader(io.StringIO(render_leaderboard(store, HEADLINES, format="csv"))))
    assert list(rows[0]) == KEYS
    assert [float(row["value"]) for row in rows] == [row["value"] for row in as_records(store)]
    assert rows[0]["published"] == "false"


def test_measured_models_stand_above_published_ones(store: Store, add_run: AddRun) -> None:
    add_run("tiny", scores=score(1.5))
    lines = table(store, published=True).splitlines()
    assert lines[0].split()[:3] == ["model", "mt-bench-mini", "score"]
    assert lines[2].split()[:2] == ["tiny", "1.50"]


def test_one_benchmarks_table_has_a_column_of_ranks(store: Store, add_run: AddRun) -> None:
    for name, value in (("low", 2), ("high", 9)):
        add_run(name, samples=chat_samples(*((value, value + index % 2) for index in range(8))))
    add_run("high", "alpaca-eval-mini", samples=preference_samples(1, 0, 0.5))
    lines = table(store, benchmark="mt-bench-mini").splitlines()
    assert lines[2].split()[:3] == ["model", "rank", "score"]
    assert [line.split()[:2] for line in lines[4:6]] == [["high", "1"], ["low", "2"]]
    assert "rank" not in table(store, benchmark="alpaca-eval-mini").splitlines()[2].split()


def test_ranks_stand_after_the_contract_keys_of_a_headline(store: Store, add_run: AddRun) -> None:
    for name, value in (("low", 2), ("high", 9)):
        add_run(name, samples=chat_samples(*((value, value + index % 2) for index in range(8))))
    rows = as_records(store)
    assert [list(row) for row in rows if row["metric"] == "score"] == [[*KEYS, "rank_low", "rank_high"]] * 2
    assert [list(row) for row in rows if row["metric"] != "score"] == [KEYS] * (len(rows) - 2)
    with_header = list(csv.DictReader(io.StringIO(render_leaderboard(store, HEADLINES, format="csv"))))
    assert [(row["rank_low"], row["rank_high"]) for row in with_header[:2]] == [("1", "1"), ("", "")]


def test_published_figures_have_no_rank(store: Store, add_run: AddRun) -> None:
    for name, value in (("low", 2), ("high", 9)):
        add_run(name, "mt-bench", judge="gpt-4", samples=chat_samples(*((value, value + i % 2) for i in range(8))))
    rows = as_records(store, published=True, benchmark="mt-bench")
    assert any(row["published"] for row in rows)
    assert all(row["published"] == ("rank_low" not in row) for row in rows if row["metric"] == "score")


def test_the_order_in_which_a_store_was_filled_does_not_show(tmp_path: Path) -> None:
    models = [(f"m{number}", 5.0 + number % 3) for number in range(5)]
    texts = []
    for name, order in (("forth", models), ("back", models[::-1])):
        with Store(f"sqlite:///{tmp_path / name}.db") as store:
            for model, value in order:
                put_run(store, model, samples=chat_samples(*((value, value + i % 2) for i in range(8))))
                put_run(store, model, "alpaca-eval-mini", samples=preference_samples(1, value % 2, 0.5, 0, 1, 1))
            shown = (None, "mt-bench-mini", "alpaca-eval-mini")
            texts.append([render_leaderboard(store, HEADLINES, format="markdown", benchmark=name) for name in shown])
    assert texts[0] == texts[1]


def test_the_order_of_columns_does_not_hang_on_who_is_first(store: Store, add_run: AddRun) -> None:
    add_run("whole", scores=[Score("score", 5.0, 0.1, 4), Score("turn-1", 5.0, 0.1, 2), Score("turn-2", 5.0, 0.1, 2)])
    before = table(store, benchmark="mt-bench-mini").splitlines()[2].split()
    add_run("first", scores=[Score("score", 9.0, 0.1, 4), Score("turn-2", 9.0, 0.1, 2)])
    after = table(store, benchmark="mt-bench-mini").splitlines()[2].split()
    assert [name for name in after if name != "rank"] == before
