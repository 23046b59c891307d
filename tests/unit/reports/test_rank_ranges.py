"""Rank ranges: the same figures as `compare`, for all pairs at once, from what the store keeps."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest_reports import HEADLINES, AddRun, chat_samples, preference_samples, task_samples
from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.benchmarks.open_llm_scores import rules_of, suite_scores
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.reports import kept_terms, rank_ranges
from zephyr_bench.reports.comparison import compare_sides
from zephyr_bench.reports.leaderboard import render_leaderboard
from zephyr_bench.reports.scores import render_run
from zephyr_bench.reports.sides import side_of
from zephyr_bench.stats.all_pairs import holm_rejects
from zephyr_bench.stats.claims import LEAST_QUESTIONS
from zephyr_bench.stats.holm import holm
from zephyr_bench.store import Store

Design = Callable[[np.random.Generator], Sequence[SampleScore]]


def chat(random: np.random.Generator, *, lost: float = 0.0) -> list[SampleScore]:
    """Grades of 20 questions, some without a verdict."""
    grades = random.integers(1, 11, size=(20, 2)).astype(float)
    return chat_samples(*[tuple(None if random.random() < lost else g for g in turns) for turns in grades.tolist()])


def judged_thrice(random: np.random.Generator) -> list[SampleScore]:
    return [
        SampleScore(f"q{q}", "writing", "score", float(random.integers(1, 11)), turn, None, "", replicate)
        for q in range(12)
        for turn in (1, 2)
        for replicate in range(3)
    ]


def preferences(random: np.random.Generator) -> list[SampleScore]:
    return preference_samples(*random.choice([0.0, 0.5, 1.0], size=40).tolist())


def wins_and_losses(random: np.random.Generator) -> list[SampleScore]:
    return preference_samples(*random.choice([0.0, 1.0], size=25).tolist())


def mostly_won(random: np.random.Generator) -> list[SampleScore]:
    """Few differ, so that they are counted, or all are won."""
    return preference_samples(*(random.random(200) > 0.02).astype(float).tolist())


def suite(random: np.random.Generator, *, subjects: int = 8) -> list[SampleScore]:
    rows = {f"mmlu_{'abcdefgh'[s]}": random.integers(0, 2, size=5 + s).tolist() for s in range(subjects)}
    return task_samples(arc_challenge=random.integers(0, 2, size=30).tolist(), **rows)


RULES = [{"task": "arc_challenge", "metric": "acc_norm"}, {"task": "mmlu", "metric": "acc"}]
FROM_CHANCE = [rule | {"choices": 8} for rule in RULES]


DESIGNS: dict[str, tuple[str, Design, Any]] = {
    "two turns a question": ("mt-bench-mini", chat, None),
    "without some verdicts": ("mt-bench-mini", lambda random: chat(random, lost=0.1), None),
    "three judgments an answer": ("mt-bench-mini", judged_thrice, None),
    "preferences": ("alpaca-eval-mini", preferences, None),
    "wins and losses": ("alpaca-eval-mini", wins_and_losses, None),
    "hardly any losses": ("alpaca-eval-mini", mostly_won, None),
    "an average over tasks, one of subjects": ("open-llm-1", suite, RULES),
    "tasks counted from chance": ("open-llm-2", suite, FROM_CHANCE),
    "few subjects": ("open-llm-1", lambda random: suite(random, subjects=3), RULES),
    "an import that tells no rules": ("open-llm-1", suite, "none told"),
}


@pytest.mark.parametrize(("benchmark", "design", "rules"), DESIGNS.values(), ids=DESIGNS)
def test_every_pair_has_the_difference_error_and_p_value_of_compare(
    store: Store, add_run: AddRun, benchmark: str, design: Design, rules: Any
) -> None:
    def add(name: str, random: np.random.Generator) -> str:
        samples = design(random)
        if rules is None:
            return add_run(name, benchmark, samples=samples)
        told = {"limit": None, "tasks": rules} if isinstance(rules, list) else {"limit": None}
        scores = suite_scores(rules_of({"tasks": rules if isinstance(rules, list) else RULES}), samples)
        return add_run(name, benchmark, samples=samples, scores=scores, protocol=told, judge=None)

    random = np.random.default_rng(5)
    ids = [add(f"m{number}", random) for number in range(6)]
    ids.append(add("twin", np.random.default_rng(5)))  # answers as m0 did
    runs = [store.run(id) for id in ids]
    scores = store.scores_of(ids)
    metric = scores[ids[0]][0].metric
    totals = [scores[id][0] for id in ids]
    found = rank_ranges.pair_tests(ids, totals, kept_terms.terms_of(store, runs, scores, metric))
    p_values = 0
    for i, j in combinations(range(len(ids)), 2):
        expected = compare_sides(side_of(store, runs[i]), side_of(store, runs[j])).metrics[0].difference
        assert found.value[i, j] == pytest.approx(expected.value, rel=1e-12, abs=1e-11)
        assert found.stderr[i, j] == pytest.approx(expected.stderr, rel=1e-12, abs=1e-12)
        if expected.p_value is None:
            assert np.isnan(found.p_value[i, j])
        else:
            p_values += 1
            assert found.p_value[i, j] == pytest.approx(expected.p_value, rel=1e-12, abs=1e-300)
            assert found.p_value[j, i] == found.p_value[i, j]
            assert found.value[j, i] == -found.value[i, j]
    assert p_values > 15


def test_subjects_are_draws_of_their_own_from_as_many_on_as_compare_says() -> None:
    assert rank_ranges._LEAST_SUBJECTS == LEAST_QUESTIONS


@given(st.lists(st.one_of(st.just(float("nan")), st.floats(0, 1), st.sampled_from([0.01, 0.05, 0.025])), max_size=12))
def test_what_holm_rejects_is_what_it_adjusts_below_the_level(p_values: list[float]) -> None:
    adjusted = holm([None if np.isnan(p) else p for p in p_values])
    expected = [p is not None and p <= 0.05 for p in adjusted]
    assert holm_rejects(np.array(p_values)).tolist() == expected


def ranks(store: Store, benchmark: str | None = None) -> dict[str, tuple[int, int] | None]:
    found: list[dict[str, Any]] = json.loads(render_leaderboard(store, HEADLINES, format="json", benchmark=benchmark))
    rows = [row for row in found if row["metric"] == HEADLINES[row["benchmark"]]]
    return {row["model"]: (row["rank_low"], row["rank_high"]) if "rank_low" in row else None for row in rows}


def around(value: float, *, seed: int, n: int = 30) -> list[SampleScore]:
    """Grades whose mean is the value."""
    noise = np.random.default_rng(seed).normal(0, 0.3, size=(n, 2))
    return chat_samples(*(value + noise - noise.mean()).tolist())


def test_models_that_do_not_differ_share_their_ranks(store: Store, add_run: AddRun) -> None:
    for name, value in (("a", 8.0), ("b", 8.0), ("c", 4.0), ("d", 2.0)):
        add_run(name, samples=around(value, seed=ord(name)))
    assert ranks(store) == {"a": (1, 2), "b": (1, 2), "c": (3, 3), "d": (4, 4)}


def test_of_more_pairs_each_must_show_more(store: Store, add_run: AddRun) -> None:
    """Six questions of 18 turned, all for the better: p is 0.031, enough for one pair, not for one of three."""
    add_run("base", "alpaca-eval-mini", samples=preference_samples(*[0.0] * 9, *[1.0] * 9))
    add_run("better", "alpaca-eval-mini", samples=preference_samples(*[1.0] * 6, *[0.0] * 3, *[1.0] * 9))
    assert ranks(store) == {"better": (1, 1), "base": (2, 2)}
    add_run("as-good", "alpaca-eval-mini", samples=preference_samples(*[0.0] * 3, *[1.0] * 6, *[1.0] * 9))
    assert ranks(store) == {"better": (1, 3), "base": (1, 3), "as-good": (1, 3)}


def test_a_single_model_has_no_rank(store: Store, add_run: AddRun) -> None:
    add_run("alone", samples=around(5.0, seed=1))
    assert ranks(store) == {"alone": None}


def test_without_samples_standard_errors_rank_and_the_table_says_so(store: Store, add_run: AddRun) -> None:
    for name, value in (("good", 9.0), ("bad", 1.0)):
        add_run(name, scores=[Score("score", value, 0.2, 80)])
    assert ranks(store) == {"good": (1, 1), "bad": (2, 2)}
    text = render_leaderboard(store, HEADLINES, format="table")
    assert "9.00 ±0.20 (1) ¹" in text
    assert "¹ rank by standard errors alone, not question by question" in text


def test_without_samples_or_errors_there_is_no_rank(store: Store, add_run: AddRun) -> None:
    for name, value in (("good", 9.0), ("bad", 1.0)):
        add_run(name, scores=[Score("score", value, None, 80)])
    assert ranks(store) == {"good": None, "bad": None}


def test_a_run_that_compare_would_refuse_has_no_rank_and_a_remark(store: Store, add_run: AddRun) -> None:
    for name, value in (("a", 8.0), ("b", 5.0)):
        add_run(name, samples=around(value, seed=ord(name)), protocol={"limit": None, "max_new_tokens": 512})
    add_run("odd", samples=around(9.0, seed=1), protocol={"limit": None, "max_new_tokens": 64})
    assert ranks(store) == {"odd": None, "a": (1, 1), "b": (2, 2)}
    text = render_leaderboard(store, HEADLINES, format="table")
    assert "no rank: not made as a was (max_new_tokens: 512 against 64)" in text


def test_two_that_differ_are_not_tested_though_most_of_the_column_tells_neither(store: Store, add_run: AddRun) -> None:
    for name in ("x", "y", "z"):
        harness = {"imported": "a harness"}
        add_run(name, samples=around(5.0, seed=1), protocol={"limit": None, "max_new_tokens": 9}, environment=harness)
    for name, value, temperature in (("own-a", 8.0, 0.0), ("own-b", 2.0, 0.7)):
        protocol = {"limit": None, "max_new_tokens": 9, "temperature": temperature}
        add_run(name, samples=around(value, seed=2), protocol=protocol)
    found = ranks(store)
    assert found["own-a"] == (1, 2)  # better than x, y and z; nothing is known beside own-b
    assert found["own-b"] == (4, 5)
    assert found["x"] == (2, 4)
    text = render_leaderboard(store, HEADLINES, format="table")
    assert "not tested against own-b (temperature: 0.0 against 0.7): not made alike" in text
    assert "not tested against own-a (temperature: 0.7 against 0.0): not made alike" in text


@pytest.mark.parametrize("order", [("a", "b", "c", "d"), ("d", "b", "c", "a"), ("c", "d", "a", "b")])
def test_the_order_of_filling_decides_nothing(store: Store, add_run: AddRun, order: Sequence[str]) -> None:
    """Two of each kind: neither is most of the column."""
    tokens = {"a": 64, "b": 512, "c": 64, "d": 512}
    for name in order:
        protocol = {"limit": None, "max_new_tokens": tokens[name]}
        add_run(name, samples=around(5.0 + ord(name) % 4, seed=ord(name)), protocol=protocol)
    assert ranks(store) == {"c": None, "b": (1, 1), "a": None, "d": (2, 2)}
    text = render_leaderboard(store, HEADLINES, format="table")
    assert "no rank: not made as b was (max_new_tokens: 512 against 64)" in text
    assert "asked otherwise than b (max_new_tokens: 512 against 64)" in text


def test_models_that_share_few_questions_are_not_compared(store: Store, add_run: AddRun) -> None:
    add_run("first", samples=around(9.0, seed=1))
    add_run("other", samples=[_renamed(sample) for sample in around(2.0, seed=2)])
    assert ranks(store) == {"first": None, "other": None}


def _renamed(sample: SampleScore) -> SampleScore:
    return SampleScore(f"x{sample.question}", sample.category, sample.metric, sample.value, sample.turn)


@pytest.fixture
def filled(store: Store, add_run: AddRun) -> str:
    """A store of three models, and its leaderboard."""
    for name, value in (("a", 8.0), ("b", 7.9), ("c", 4.0)):
        add_run(name, samples=around(value, seed=ord(name)))
    return render_leaderboard(store, HEADLINES, format="markdown")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


def change(path: Path, statement: str) -> int:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).rowcount


def test_the_second_leaderboard_reads_no_samples(store: Store, filled: str, path: Path) -> None:
    change(path, "delete from samples")
    assert render_leaderboard(store, HEADLINES, format="markdown") == filled


def test_an_evaluation_keeps_its_terms_as_it_prints_its_scores(store: Store, add_run: AddRun, path: Path) -> None:
    for name, value in (("a", 8.0), ("b", 5.0)):
        render_run(store, add_run(name, samples=around(value, seed=ord(name))), "table")
    change(path, "delete from samples")
    assert ranks(store) == {"a": (1, 1), "b": (2, 2)}


def test_a_leaderboard_waits_for_no_writer(store: Store, filled: str, path: Path) -> None:
    """Else this test would take hours."""
    change(path, "delete from kept")
    with Store(f"sqlite:///{path}", timeout=3600) as patient, closing(sqlite3.connect(path)) as writer:
        writer.execute("begin immediate")
        assert render_leaderboard(patient, HEADLINES, format="markdown") == filled


@pytest.mark.parametrize(
    "damage",
    [
        "update kept set content = substr(content, 1, 100)",
        "update kept set content = zeroblob(40)",
        "update kept set content = x''",
        "update kept set content = (select k.content from kept as k where k.name = kept.name order by run limit 1)",
        "delete from kept where name like 'shape%'",
        "update kept set name = replace(name, '-1/', '-0/')",
    ],
)
def test_a_damaged_foreign_or_older_entry_is_not_trusted(store: Store, filled: str, path: Path, damage: str) -> None:
    assert change(path, damage) > 0
    assert render_leaderboard(store, HEADLINES, format="markdown") == filled
    change(path, "delete from samples")  # what was derived again is kept again
    assert render_leaderboard(store, HEADLINES, format="markdown") == filled


def test_a_store_that_cannot_be_written_has_the_same_leaderboard(store: Store, filled: str, path: Path) -> None:
    change(path, "delete from kept")
    store.close()
    with Store(f"sqlite:///file:{path}?mode=ro&uri=true") as unwritable:
        assert render_leaderboard(unwritable, HEADLINES, format="markdown") == filled
        assert not unwritable.kept([run.id for run in unwritable.runs()], "terms-1/score")
