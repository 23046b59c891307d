"""Figures from judgment files: FastChat's own show_result and ours, on the same files."""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

common = pytest.importorskip("fastchat.llm_judge.common")
show_result = pytest.importorskip("fastchat.llm_judge.show_result")

from zephyr_bench.benchmarks import open_benchmark  # noqa: E402
from zephyr_bench.benchmarks.mt_bench import MtBench  # noqa: E402
from zephyr_bench.interop.fastchat_export import export_fastchat  # noqa: E402
from zephyr_bench.interop.fastchat_import import read_fastchat  # noqa: E402
from zephyr_bench.interop.imported_runs import add_to_store  # noqa: E402
from zephyr_bench.store import Store  # noqa: E402

Row = dict[str, Any]
Figures = dict[str, dict[str, float]]  # model -> metric -> value


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def printed(show: Any, path: Path, **options: Any) -> list[Any]:
    """The tables that FastChat prints."""
    args = {"input_file": str(path), "model_list": None, "bench_name": "mt_bench", "judge_model": "gpt-4", **options}
    tables: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(show_result, "print", tables.append, raising=False)
        show(argparse.Namespace(**args))
    return [table for table in tables if not isinstance(table, str)]


def their_scores(path: Path) -> Figures:
    first, second, average = printed(show_result.display_result_single, path)
    found: Figures = {}
    for metric, table in (("turn-1", first), ("turn-2", second), ("score", average)):
        for model, value in table["score"].items():
            found.setdefault(model[0] if isinstance(model, tuple) else model, {})[metric] = value
    return found


def their_rates(path: Path, baseline: str | None) -> Figures:
    (table,) = printed(show_result.display_result_pairwise, path, baseline_model=baseline)
    names = {"win_rate": "win-rate", "loss_rate": "loss-rate", "win_rate_adjusted": "win-rate-adjusted"}
    return {model: {ours: 100 * row[theirs] for theirs, ours in names.items()} for model, row in table.iterrows()}


def our_figures(path: Path, *metrics: str) -> dict[str, Figures]:
    """By judge. What has no value FastChat doesn't print."""
    benchmark = open_benchmark("mt-bench")
    assert isinstance(benchmark, MtBench)
    found: dict[str, Figures] = {}
    with Store("sqlite:///:memory:") as store:
        done = add_to_store(store, read_fastchat([path], benchmark))
        scores = store.scores_of(run.run for run in done)
        for run in done:
            values = {s.metric: s.value for s in scores[run.run] if s.metric in metrics and s.value is not None}
            if values:
                found.setdefault(run.judge or "", {})[run.model] = values
    return found


def same(ours: Figures, theirs: Figures) -> None:
    assert ours.keys() == theirs.keys()
    for model, figures in theirs.items():
        assert ours[model] == pytest.approx(figures, abs=1e-9), model


def by_judge(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["judge"][0], []).append(row)
    return found


@pytest.mark.parametrize("name", ["orpo", "llama3"])
def test_real_judgments_have_fastchats_scores(name: str, real_mt_bench: Path, tmp_path: Path) -> None:
    """Rows that stand twice and scores of -1 among them."""
    path = tmp_path / "gpt-4_single.jsonl"
    path.write_bytes(gzip.decompress((real_mt_bench / f"{name}_gpt-4_single.jsonl.gz").read_bytes()))
    same(our_figures(path, "score", "turn-1", "turn-2")["gpt-4"], their_scores(path))


def test_real_judgments_as_pairs_have_fastchats_rates(real_mt_bench: Path, tmp_path: Path) -> None:
    """Four models' real grades, compared as FastChat compares those of a single-answer judge."""
    lines = gzip.decompress((real_mt_bench / "orpo_gpt-4_single.jsonl.gz").read_bytes()).splitlines()
    grades = {(row["model"], row["question_id"], row["turn"]): row["score"] for row in map(json.loads, lines)}
    models = sorted({model for model, _, _ in grades})
    asked = sorted({(question, turn) for _, question, turn in grades})
    rows = [
        pair(one, two, ("tie" if abs(gap) <= 0.1 else "model_1" if gap > 0 else "model_2",) * 2, question, turn)
        for place, one in enumerate(models)
        for two in models[place + 1 :]
        for question, turn in asked
        for gap in [grades[one, question, turn] - grades[two, question, turn]]
    ]
    path = write(tmp_path / "pair.jsonl", rows)
    same(our_figures(path, *RATES)["gpt-4"], their_rates(path, None))


def single(model: str, question: int, turn: int, score: float, judge: str = "gpt-4") -> Row:
    prompt = "single-v1" if turn == 1 else "single-v1-multi-turn"
    row = {"question_id": question, "model": model, "judge": [judge, prompt], "user_prompt": "", "judgment": ""}
    return {**row, "score": score, "turn": turn, "tstamp": 1.5}


def pair(one: str, two: str, winners: Sequence[str], question: int, turn: int = 1, judge: str = "gpt-4") -> Row:
    prompt = "pair-v2" if turn == 1 else "pair-v2-multi-turn"
    row = {"question_id": question, "model_1": one, "model_2": two, "g1_winner": winners[0], "g2_winner": winners[1]}
    return {**row, "judge": [judge, prompt], "g1_judgment": "", "g2_judgment": "", "turn": turn, "tstamp": 1.5}


RATES = ("win-rate", "loss-rate", "win-rate-adjusted")
MODELS = st.sampled_from(["alpha", "beta", "gamma"])
# few questions, so that rows stand twice; scores as FastChat reads them from [[8]] and [[8.5]]
SINGLES = st.builds(
    single,
    MODELS,
    st.sampled_from([81, 82, 101]),
    st.sampled_from([1, 2]),
    st.sampled_from([-1, 1, 3, 7, 7.5, 8.33, 10]),
    st.sampled_from(["gpt-4", "claude-v1"]),
)
WINNERS = st.tuples(*[st.sampled_from(["model_1", "model_2", "tie", "error"])] * 2)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(SINGLES, min_size=1, max_size=25))
def test_repeats_missing_turns_minus_1_and_several_judges_give_fastchats_scores(rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours = our_figures(write(Path(folder, "all.jsonl"), rows), "score", "turn-1", "turn-2")
        for judge, own in by_judge(rows).items():
            # FastChat means over all judges of a file; it is asked about each alone
            same(ours.get(judge, {}), their_scores(write(Path(folder, "one.jsonl"), own)))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.builds(
            pair,
            st.sampled_from(["alpha", "beta"]),
            st.just("base"),
            WINNERS,
            st.sampled_from([81, 101]),
            st.sampled_from([1, 2]),
        ),
        min_size=1,
        max_size=15,
    )
)
def test_pairs_with_a_baseline_have_fastchats_rates(rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "pair.jsonl"), rows)
        judged = any("error" not in (row["g1_winner"], row["g2_winner"]) for row in rows)
        # FastChat breaks off where every row is an error
        same(our_figures(path, *RATES).get("gpt-4", {}), their_rates(path, "base") if judged else {})


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.builds(pair, MODELS, MODELS, WINNERS, st.sampled_from([81, 101]), st.sampled_from([1, 2])).filter(
            lambda row: row["model_1"] != row["model_2"]
        ),
        min_size=2,
        max_size=20,
    ).filter(
        lambda rows: (
            len({row["model_2"] for row in rows}) > 1
            and any("error" not in (row["g1_winner"], row["g2_winner"]) for row in rows)
        )
    )
)
def test_all_pairs_have_fastchats_rates(rows: list[Row]) -> None:
    """Over all rivals, and against one of several: FastChat's pairwise-all, and pairwise-baseline on the same file."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "pair.jsonl"), rows)
        same(our_figures(path, *RATES).get("gpt-4", {}), their_rates(path, None))
        against = our_figures(path, "against alpha").get("gpt-4", {})
        if against:
            theirs = their_rates(path, "alpha")
            for model, figures in against.items():
                assert figures["against alpha"] == pytest.approx(theirs[model]["win-rate-adjusted"], abs=1e-9)


def test_a_file_of_either_kind_with_several_judges_is_read_judge_by_judge(tmp_path: Path) -> None:
    rows = [
        pair("alpha", "base", ("model_1", "model_1"), 81, judge="gpt-4"),
        pair("alpha", "beta", ("model_2", "model_2"), 81, judge="claude-v1"),
        pair("beta", "alpha", ("tie", "model_1"), 101, judge="claude-v1"),
    ]
    ours = our_figures(write(tmp_path / "all.jsonl", rows), *RATES)
    for judge, own in by_judge(rows).items():
        baseline = "base" if judge == "gpt-4" else None
        same(ours[judge], their_rates(write(tmp_path / f"{judge}.jsonl", own), baseline))


def test_fastchat_reads_what_is_exported(tmp_path: Path) -> None:
    benchmark = open_benchmark("mt-bench")
    assert isinstance(benchmark, MtBench)
    answer = {"question_id": 101, "model_id": "beta", "choices": [{"index": 0, "turns": ["one", "two"]}]}
    files = [
        write(tmp_path / "single.jsonl", [single("beta", 81, 1, 7), single("beta", 101, 2, -1)]),
        write(tmp_path / "pair.jsonl", [pair("beta", "alpha", ("model_1", "tie"), 81)]),
        write(tmp_path / "answer.jsonl", [answer]),
    ]
    with Store("sqlite:///:memory:") as store:
        done = add_to_store(store, read_fastchat(files, benchmark))
        export_fastchat(store, [run.run for run in done], tmp_path / "out")
    out = tmp_path / "out"
    assert [row["question_id"] for row in common.load_questions(str(out / "question.jsonl"), None, None)] == [81, 101]
    assert common.load_model_answers(str(out / "model_answer")) == {"beta": {101: answer}}
    graded = common.load_single_model_judgments(str(out / "model_judgment" / "gpt-4_single.jsonl"))
    assert {game: found["score"] for games in graded.values() for game, found in games.items()} == {
        (81, "beta"): 7,
        (101, "beta"): -1,
    }
    compared = common.load_pairwise_model_judgments(str(out / "model_judgment" / "gpt-4_pair.jsonl"))
    assert compared["gpt-4", "pair-v2"][81, "alpha", "beta"]["winners"] == ("inconsistent",)
    same(their_scores(out / "model_judgment" / "gpt-4_single.jsonl"), their_scores(files[0]))
