"""Files of runs: alpaca_eval's own evaluate and make_leaderboard read them, and give the runs' win rates."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_model import make_tiny_model

alpaca_eval = pytest.importorskip("alpaca_eval")
winrate = pytest.importorskip("alpaca_eval.metrics.winrate")

import pandas as pd  # noqa: E402

from zephyr_bench.benchmarks import open_benchmark  # noqa: E402
from zephyr_bench.benchmarks.evaluate import evaluate  # noqa: E402
from zephyr_bench.engines import open_engine  # noqa: E402
from zephyr_bench.engines.protocol import EngineOptions  # noqa: E402
from zephyr_bench.interop.alpaca_benchmarks import find_benchmarks  # noqa: E402
from zephyr_bench.interop.alpaca_export import export_alpaca_eval  # noqa: E402
from zephyr_bench.interop.alpaca_import import read_alpaca_eval  # noqa: E402
from zephyr_bench.interop.imported_runs import Imported, add_to_store  # noqa: E402
from zephyr_bench.judges import open_judge  # noqa: E402
from zephyr_bench.progress import Progress  # noqa: E402
from zephyr_bench.records import Judgment, Match, Score  # noqa: E402
from zephyr_bench.store import RunInfo, Store  # noqa: E402

FIGURES = {
    "win_rate": "win-rate",
    "discrete_win_rate": "discrete-win-rate",
    "n_wins": "wins",
    "n_wins_base": "losses",
    "n_draws": "draws",
}


class LongerIsBetter:
    """A judge that is sure by how much longer an answer is, and says nothing of the shortest ones."""

    name = "longer"
    fingerprint = "sha256:longer"

    def missing(self) -> list[str]:
        return []

    def grade(self, matches: Any) -> Iterator[Judgment]:
        for match in matches:
            yield self._judged(match)

    def _judged(self, match: Match) -> Judgment:
        assert match.rival is not None
        own, other = (len(side[0].text or "") for side in (match.answers, match.rival))
        score = None if min(own, other) < 25 else own / (own + other)
        return Judgment(match.key(self.fingerprint), self.name, score, None if score is not None else "too short", "so")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with Store(f"sqlite:///{tmp_path / 'results.db'}") as opened:
        yield opened


def put(store: Store, *paths: Path) -> list[Imported]:
    return add_to_store(store, read_alpaca_eval(paths, find_benchmarks(version=None, benchmark=None)))


def by_metric(store: Store, run: str) -> dict[str, Score]:
    return {score.metric: score for score in store.scores_of([run])[run]}


def theirs(out: Path, run: RunInfo) -> dict[str, Any]:
    """What alpaca_eval makes of the exported files, which it finds by the judge's name."""
    known = out / "known.csv"  # it recomputes those that it knows
    pd.DataFrame.from_dict({run.model: {"mode": "community", "win_rate": 0.0}}, orient="index").to_csv(known)
    board, _ = alpaca_eval.evaluate(
        model_outputs=out / run.model / "model_outputs.json",
        reference_outputs=out / "reference_outputs.json",
        annotators_config=run.judge,
        precomputed_leaderboard=known,
        is_recompute_metrics_only=True,
        fn_metric="get_winrate",
        sort_by="win_rate",
        is_return_instead_of_print=True,
    )
    return dict(board.loc[run.model])


def same(store: Store, run: str, figures: dict[str, Any]) -> None:
    scores = by_metric(store, run)
    for name, ours in FIGURES.items():
        assert scores[ours].value == pytest.approx(float(figures[name]), abs=1e-9), name
    assert scores["win-rate"].n == figures["n_total"]
    assert scores["win-rate"].stderr == pytest.approx(float(figures["standard_error"]), abs=1e-9)


@pytest.mark.parametrize("judge", ["rubric", "longer"])
def test_alpaca_eval_reads_a_run_made_here(judge: str, store: Store, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "tiny", max_length=2048)
    engine = open_engine(str(model), EngineOptions(device="cpu"))
    grader: Any = LongerIsBetter() if judge == "longer" else open_judge("rubric")
    benchmark = open_benchmark("alpaca-eval-mini")
    done = evaluate(benchmark, engine, judge=grader, store=store, progress=Progress(quiet=True), limit=12)
    run = store.run(done.run)
    export_alpaca_eval(store, [run.id], tmp_path / "out")
    rows = json.loads((tmp_path / "out" / run.model / judge / "annotations.json").read_text())
    assert by_metric(store, run.id)["win-rate"].missing == sum(row["preference"] is None for row in rows)
    figures = theirs(tmp_path / "out", run)
    if judge == "longer":
        assert 0 < by_metric(store, run.id)["win-rate"].missing < 12, "the judge is to say something, and not always"
    same(store, run.id, figures)
    assert by_metric(store, run.id)["win-rate"].value == pytest.approx(winrate.get_winrate(rows)["win_rate"], abs=1e-9)


def test_what_alpaca_eval_wrote_anew_is_read_again(store: Store, tmp_path: Path) -> None:
    """Its evaluate writes the annotations back by pandas, each missing value as null."""
    rows = [row(n, preference) for n, preference in enumerate([0, 1, 1.5, 2, None, 1.25])]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (done,) = put(store, tmp_path / "a.json")
    run = store.run(done.run)
    export_alpaca_eval(store, [run.id], tmp_path / "out")
    figures = theirs(tmp_path / "out", run)
    same(store, run.id, figures)
    folder = tmp_path / "out" / "m" / "alpaca_eval_gpt4" / "alpaca_eval_gpt4"  # so it names the folder, recomputing
    (again,) = put(store, folder / "annotations.json")
    same(store, again.run, figures)
    assert store.samples_of(again.run) == store.samples_of(run.id)


def with_rows(**options: Any) -> tuple[pd.DataFrame, list[Any]]:
    """Its own make_leaderboard breaks off at the data frame that its evaluate gives when it recomputes."""
    board, annotations = alpaca_eval.evaluate(**options)
    return board, annotations.to_dict("records")


def test_alpaca_eval_makes_a_leaderboard_of_exported_runs(store: Store, tmp_path: Path) -> None:
    rows = [row(n, preference, m) for m, p in (("m", 2), ("n", 1.25)) for n, preference in enumerate([p, 1, None])]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    runs = [store.run(done.run) for done in put(store, tmp_path / "a.json")]
    out = tmp_path / "out"
    export_alpaca_eval(store, [run.id for run in runs], out)
    board = tmp_path / "board.csv"
    pd.DataFrame.from_dict({run.model: {"win_rate": 0.0} for run in runs}, orient="index").to_csv(board)
    for run in runs:
        found, _ = alpaca_eval.make_leaderboard(
            leaderboard_path=board,
            fn_add_to_leaderboard=with_rows,
            annotators_config=run.judge,
            all_model_outputs=out / run.model / "model_outputs.json",
            reference_outputs=out / "reference_outputs.json",
            output_path=out / run.model,
            is_recompute_metrics_only=True,
            fn_metric="get_winrate",
            sort_by="win_rate",
            is_return_instead_of_print=True,
        )
    for run in runs:
        same(store, run.id, dict(found.loc[run.model]))


def row(number: int, preference: float | None, model: str = "m") -> dict[str, Any]:
    return {
        "instruction": f"Do thing {number}.",
        "output_1": "done",
        "generator_1": "text_davinci_003",
        "dataset": "koala",
        "output_2": f"done by {model}",
        "generator_2": model,
        "annotator": "alpaca_eval_gpt4",
        "preference": preference,
        "price_per_example": 0.0126,
        "time_per_example": None,
    }


PUBLISHED = {"v1": ("zephyr-7b-alpha", "phi-2"), "v2": ("vicuna-7b",)}


@pytest.mark.parametrize(("version", "model"), [(v, model) for v, models in PUBLISHED.items() for model in models])
def test_imported_rows_have_the_published_figures(
    version: str, model: str, real_alpaca_eval: Path, store: Store
) -> None:
    (done,) = put(store, real_alpaca_eval / f"{version}_{model}.annotations.json.gz")
    assert (done.benchmark, done.model) == (f"alpaca-eval-{version[1]}", model)
    with (real_alpaca_eval / f"leaderboard_{version}_rows.csv").open(encoding="utf-8", newline="") as file:
        published = {row[""]: row for row in csv.DictReader(file)}[model]
    scores = by_metric(store, done.run)
    assert scores["win-rate"].value == pytest.approx(float(published["win_rate"]), rel=1e-15)
    same(store, done.run, {**published, "n_total": int(published["n_total"])})
    assert int(published["avg_length"]) == math.floor(scores["avg-length"].value or 0)


@pytest.mark.parametrize("name", ["v1_phi-2", "v1_zephyr-7b-alpha", "v2_vicuna-7b", "v2_text_davinci_003"])
def test_alpaca_eval_reads_real_rows_that_went_through_the_store(
    name: str, real_alpaca_eval: Path, store: Store, tmp_path: Path
) -> None:
    path = real_alpaca_eval / f"{name}.annotations.json.gz"
    (done,) = put(store, path)
    run = store.run(done.run)
    export_alpaca_eval(store, [run.id], tmp_path / "out")
    exported = json.loads((tmp_path / "out" / run.model / str(run.judge) / "annotations.json").read_text())
    assert exported == json.loads(gzip.decompress(path.read_bytes()))
    same(store, run.id, theirs(tmp_path / "out", run))
