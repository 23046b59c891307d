"""Published figures held against ours: which run counts, what can be compared, and the verdict."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest_reports import AddRun

from zephyr_bench import catalogue
from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.interop.alpaca_benchmarks import find_benchmarks
from zephyr_bench.interop.alpaca_import import read_alpaca_eval
from zephyr_bench.interop.fastchat_import import read_fastchat
from zephyr_bench.interop.imported_runs import add_to_store
from zephyr_bench.recipe import Recipe, load_recipe
from zephyr_bench.records import SampleScore, Score
from zephyr_bench.reports.published import load_published
from zephyr_bench.reports.reproduce import (
    Row,
    Verdict,
    decide,
    margin_needed,
    nothing_published,
    questions_needed,
    reproduction,
)
from zephyr_bench.reports.reproduction_table import render_reproduction
from zephyr_bench.stats.equivalence import Figure, equivalence
from zephyr_bench.store import RunStart, Store
from zephyr_bench.training_runs.checkpoint import StageRecord

STAGE = {"learning_rate": 1e-5, "global_batch": 8, "data": [{"hub": "a/b"}]}
JUDGED = {"benchmark": "mt-bench", "judge": "gpt-4", "protocol": {"limit": None, "references": "gpt-4"}}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[Recipe, list[Path]]]:
    """A recipe, and the folder with what was published of the models that it stands for."""

    def made(figures: Sequence[dict[str, Any]], *, reproduces: Any = None, **table: Any) -> tuple[Recipe, list[Path]]:
        folder = tmp_path / "reports" / "published"
        folder.mkdir(parents=True, exist_ok=True)
        about = {"where": "Table 1", "benchmark": "mt-bench", "metric": "score", "judge": "gpt-4"}
        tables = [{**about, **table, "figures": list(figures)}]
        source = {"source": "A paper", "url": "https://example.org", "year": 2023, "tables": tables}
        (folder / "mine.yaml").write_text(yaml.safe_dump(source))
        recipe = {"description": "x", "model": "owner/Base-7B", "dsft": STAGE, "ddpo": {**STAGE, "beta": 0.1}}
        path = tmp_path / "rec.yaml"
        path.write_text(yaml.safe_dump({**recipe, "reproduces": reproduces or {"ddpo": "theirs"}}))
        return load_recipe(str(path)), [tmp_path]

    return made


def trained(store: Store, name: str, *, stage: str = "ddpo", steps: int = 10, **lineage: Any) -> str:
    """A checkpoint with a lineage; its fingerprint."""
    key = fingerprint([name, steps])
    told = {"recipe": "rec", "stage": stage, "steps": steps, "stage_fingerprint": f"sha256:{stage}", **lineage}
    store.put_model(fingerprint=key, name=name, location="", lineage=told)
    return key


def measure(store: Store, model: str, key: str, value: float, stderr: float | None = 0.2, *, n: int = 80) -> str:
    start = RunStart("mt-bench", model, key, "sha256:e", "gpt-4", "sha256:j", {"limit": None, "references": "gpt-4"})
    run = store.start_run(start)
    run.add_samples([SampleScore(f"q{number}", "math", "score", value, turn) for number in range(n) for turn in (1, 2)])
    run.finish("complete", [Score("score", value, stderr, 2 * n)])
    return run.id


def only(rows: Sequence[Row]) -> Row:
    (row,) = rows
    return row


@pytest.mark.parametrize(
    ("value", "stderr", "margin", "verdict"),
    [
        (7.3, 0.02, 0.2, Verdict.REPRODUCED),
        (7.0, 0.02, 0.2, Verdict.NOT_REPRODUCED),
        (7.3, 0.2, 0.2, Verdict.CANT_TELL),
        (7.1, 0.02, 0.2, Verdict.CANT_TELL),  # on the margin
        (7.3, None, 0.2, Verdict.CANT_TELL),
    ],
)
def test_the_verdict_is_the_equivalence_tests(
    store: Store, make: Any, value: float, stderr: float | None, margin: float, verdict: Verdict
) -> None:
    recipe, include = make([{"model": "theirs", "value": 7.3}])
    run = measure(store, "x", trained(store, "x"), value, stderr)
    row = only(reproduction(store, recipe, margins={"mt-bench": margin}, include=include))
    test = equivalence(Figure(value, stderr, 80), Figure(7.3), margin=margin)
    assert (row.verdict, row.verdict.value, row.test) == (verdict, test.verdict.value, test)
    assert row.ours is not None
    assert (row.ours.run.id, row.ours.questions, row.stage) == (run, 80, "ddpo")
    assert (row.why != "") == (verdict is Verdict.CANT_TELL)


def test_the_margin_is_the_benchmarks_the_users_or_the_metrics_own(store: Store, make: Any) -> None:
    figures = [{"model": "theirs", "value": 50.0}, {"model": "theirs", "metric": "avg-length", "value": 1300}]
    recipe, include = make(figures, benchmark="alpaca-eval-1", metric="win-rate")

    def margins(**given: float) -> list[float | None]:
        named = {name.replace("_", "-").replace("--", ":"): value for name, value in given.items()}
        return [row.margin for row in reproduction(store, recipe, margins=named, include=include)]

    assert margins() == [1.0, None], "avg-length counts characters, and the YAML's margin is in per cent"
    assert margins(alpaca_eval_1=3) == [3, None]
    assert margins(alpaca_eval_1__avg_length=50) == [1.0, 50]
    assert margins(alpaca_eval_1=3, alpaca_eval_1__win_rate=4) == [4, None]
    with pytest.raises(UserError, match=r"--margin mt-bench=…: no figure of that is published here"):
        margins(mt_bench=1)


def test_a_metric_without_a_margin_asks_for_one(store: Store, make: Any, add_run: AddRun) -> None:
    recipe, include = make([{"model": "theirs", "metric": "avg-length", "value": 1300}], benchmark="alpaca-eval-1")
    add_run("rec-ddpo", "alpaca-eval-1", scores=[Score("avg-length", 1300, 1.0, 805)], judge="alpaca_eval_gpt4")
    row = only(reproduction(store, recipe, include=include))
    assert row.verdict is Verdict.CANT_TELL
    assert row.why.endswith("by --margin alpaca-eval-1:avg-length=M")


def test_the_newest_whole_run_of_the_stages_own_checkpoint_counts(store: Store, make: Any, add_run: AddRun) -> None:
    recipe, include = make([{"model": "theirs", "value": 7.3}])
    key = trained(store, "renamed")
    measure(store, "renamed", key, 7.0)
    newest = measure(store, "renamed", key, 7.2)
    score = [Score("score", 5.0, 0.1, 160)]
    add_run("rec-ddpo", scores=score, **JUDGED)  # by name alone, though newer
    add_run("theirs", scores=score, **JUDGED)
    limited = {**JUDGED, "protocol": {"limit": 5, "references": "gpt-4"}}
    add_run("rec-ddpo", scores=score, **limited)
    measure(store, "rec-dsft", trained(store, "rec-dsft", stage="dsft"), 6.0)
    measure(store, "other", trained(store, "other", recipe="smol"), 6.0)
    store.start_training(fingerprint="sha256:ddpo", name="rec-ddpo", steps=10, done=0)
    measure(store, "midway", trained(store, "midway", steps=4), 6.5)
    row = only(reproduction(store, recipe, include=include))
    assert row.ours is not None
    assert (row.ours.run.id, row.remarks) == (newest, ())


def test_without_a_lineage_a_name_will_do_and_theirs_is_said_to_be_theirs(
    store: Store, make: Any, add_run: AddRun
) -> None:
    recipe, include = make([{"model": "theirs", "value": 7.3}])
    score = [Score("score", 7.3, 0.1, 160)]
    theirs = add_run("theirs", scores=score, **JUDGED)
    row = only(reproduction(store, recipe, include=include))
    assert row.ours is not None
    assert row.ours.run.id == theirs
    assert row.remarks == ("theirs as others made it, measured here: no model that the recipe trained",)
    ours = add_run("rec-ddpo", scores=score, **JUDGED)
    row = only(reproduction(store, recipe, include=include))
    assert row.ours is not None
    assert (row.ours.run.id, row.remarks) == (ours, ())


def test_a_checkpoint_from_the_midst_of_training_does_not_come_back_by_its_name(store: Store, make: Any) -> None:
    recipe, include = make([{"model": "theirs", "value": 7.3}])
    store.start_training(fingerprint="sha256:ddpo", name="rec-ddpo", steps=10, done=0)
    measure(store, "rec-ddpo", trained(store, "rec-ddpo", steps=4), 6.5)
    assert only(reproduction(store, recipe, include=include)).verdict is Verdict.NOT_MEASURED


def test_the_start_is_known_by_its_name(store: Store, make: Any, add_run: AddRun) -> None:
    recipe, include = make([{"model": "base-of-theirs", "value": 7.3}], reproduces={"start": "base-of-theirs"})
    run = add_run("Base-7B", scores=[Score("score", 7.3, 0.1, 160)], **JUDGED)
    row = only(reproduction(store, recipe, include=include))
    assert row.ours is not None
    assert (row.stage, row.ours.run.id) == ("start", run)


@pytest.mark.parametrize(
    ("judge", "protocol", "why"),
    [
        ("rubric", {}, "judged by rubric here, by gpt-4 there"),
        ("gpt-4-turbo", {}, "judged by gpt-4-turbo here, by gpt-4 there"),
        ("weighted_alpaca_eval_gpt4_turbo", {}, "judged by weighted_alpaca_eval_gpt4_turbo here, by gpt-4 there"),
        (None, {}, "judged by nobody here, by gpt-4 there"),
        ("gpt-4", {"rivals": ["a", "b"]}, "compared with a, b here, with the benchmark's own baseline there"),
        (
            "gpt-4",
            {"references": "gpt-4-0125-preview"},
            "judged with references gpt-4-0125-preview here, gpt-4 there",
        ),
    ],
)
def test_what_was_graded_otherwise_is_not_comparable(
    store: Store, make: Any, add_run: AddRun, judge: str | None, protocol: dict[str, Any], why: str
) -> None:
    recipe, include = make([{"model": "theirs", "value": 7.3}], references="gpt-4")
    told = {"limit": None, "references": "gpt-4", **protocol}
    add_run("rec-ddpo", "mt-bench", scores=[Score("score", 7.3, 0.01, 160)], judge=judge, protocol=told)
    row = only(reproduction(store, recipe, include=include))
    assert (row.verdict, row.why, row.test) == (Verdict.NOT_COMPARABLE, why, None)
    fit = add_run("rec-ddpo", scores=[Score("score", 7.3, 0.01, 160)], **JUDGED)
    add_run("rec-ddpo", "mt-bench", scores=[Score("score", 7.3, 0.01, 160)], judge=judge, protocol=told)
    row = only(reproduction(store, recipe, include=include))
    assert row.ours is not None
    assert (row.ours.run.id, row.verdict) == (fit, Verdict.REPRODUCED), "an older run that fits goes before"


@pytest.mark.parametrize("judge", ["gpt-4-0613", "gpt-4-2023-06-13", "alpaca_eval_gpt4", "GPT_4"])
def test_another_day_of_the_judge_is_said(store: Store, make: Any, add_run: AddRun, judge: str) -> None:
    recipe, include = make([{"model": "theirs", "value": 7.3}])
    add_run("rec-ddpo", "mt-bench", scores=[Score("score", 7.3, 0.01, 160)], judge=judge)
    row = only(reproduction(store, recipe, include=include))
    assert row.verdict is Verdict.REPRODUCED
    assert row.remarks == (f"judged by {judge} here, by gpt-4 there: taken for one judge",)


def test_a_figure_of_an_unnamed_judge_is_not_comparable(store: Store, make: Any, add_run: AddRun) -> None:
    recipe, include = make([{"model": "theirs", "value": 7.3}], judge=None)
    add_run("rec-ddpo", scores=[Score("score", 7.3, 0.01, 160)], **JUDGED)
    assert only(reproduction(store, recipe, include=include)).why.endswith("by a judge that is not named there")


def test_a_task_of_a_selection_is_whole_and_the_average_is_not(store: Store, make: Any, add_run: AddRun) -> None:
    figures = [{"model": "theirs", "metric": name, "value": 60.0} for name in ("arc_challenge", "gsm8k", "average")]
    recipe, include = make(figures, benchmark="open-llm-1", judge=None)
    scores = [Score("average", 60.0, 0.1, 1172), Score("arc_challenge", 60.0, 0.1, 1172)]
    only_arc = {"limit": None, "only": ["arc_challenge"]}
    run = add_run("rec-ddpo", "open-llm-1", scores=scores, judge=None, protocol=only_arc)
    arc, gsm8k, average = reproduction(store, recipe, include=include)
    assert (arc.verdict, arc.published.metric) == (Verdict.REPRODUCED, "arc_challenge")
    assert (gsm8k.verdict, average.verdict) == (Verdict.NOT_MEASURED, Verdict.NOT_MEASURED)
    assert gsm8k.why.endswith("runs of open-llm-1 have no gsm8k")
    assert average.why == f"run {run} of rec-ddpo is of a part of open-llm-1 only"


def test_what_was_not_measured_says_so(store: Store, make: Any, add_run: AddRun) -> None:
    recipe, include = make([{"model": "theirs", "value": 7.3}])
    assert only(reproduction(store, recipe, include=include)).why == "no complete run of rec's ddpo model on mt-bench"
    add_run("rec-ddpo", "mt-bench", scores=[], status="interrupted", judge="gpt-4")
    row = only(reproduction(store, recipe, include=include))
    assert (row.verdict, row.ours) == (Verdict.NOT_MEASURED, None)


def test_a_model_that_no_source_has_is_a_mistake(store: Store, make: Any) -> None:
    recipe, include = make([{"model": "theirs", "value": 7.3}], reproduces={"ddpo": "thiers"})
    with pytest.raises(UserError, match=r"reproduces.ddpo names 'thiers', of which .* Did you mean theirs"):
        reproduction(store, recipe, include=include)


def test_the_questions_needed_have_the_power_and_one_fewer_has_not() -> None:
    ours, theirs = Figure(50.0, 2.0, 500), Figure(50.0, 0.5, 5000)
    n = questions_needed(ours, theirs, margin=3.0)
    assert n is not None

    def power(n: int) -> float:
        found = equivalence(Figure(50.0, 2.0 * (500 / n) ** 0.5, n), theirs, margin=3.0).power
        assert found is not None
        return found

    assert power(n - 1) < 0.8 <= power(n)
    assert questions_needed(ours, Figure(50.0, 2.0, 500), margin=3.0) is None, "the published error forbids it"
    assert questions_needed(ours, Figure(50.0), margin=3.0) is None, "and so does one that is taken to be ours"


def test_the_margin_needed_has_the_power_and_a_smaller_one_has_not() -> None:
    ours, theirs = Figure(7.0, 0.2, 80), Figure(7.3)
    found = margin_needed(ours, theirs)
    powers = [equivalence(Figure(7.0, 0.2, 80), Figure(7.0), margin=m).power for m in (found, 0.99 * found)]
    assert powers[0] is not None
    assert powers[1] is not None
    assert powers[1] < 0.8 <= powers[0]


def test_why_it_cant_be_told_says_what_would_do() -> None:
    _, verdict, why, n, margin = decide(Figure(50.0, 2.0, 500), Figure(50.0, 0.5, 5000), 3.0)
    assert verdict is Verdict.CANT_TELL
    assert n is not None
    assert margin is not None
    assert why == f"500 questions are too few for margin 3: about {n} would do; a margin of {margin:.2g} could be told"
    _, _, why, n, _ = decide(Figure(53.0, 0.1, 500), Figure(50.0, 0.1, 500), 3.0)
    assert (why, n) == ("the difference lies too near the margin", None)


def test_no_published_figure_is_one_sentence(store: Store) -> None:
    recipe = load_recipe("smol")
    assert reproduction(store, recipe) == []
    assert nothing_published(recipe).startswith("recipe smol reproduces no published model; ")


@pytest.mark.parametrize("name", sorted(catalogue.entries("recipe")))
def test_every_recipe_of_the_catalogue_names_models_that_were_published(store: Store, name: str) -> None:
    recipe = load_recipe(name)
    rows = reproduction(store, recipe)
    assert {row.stage for row in rows} == recipe.reproduces.keys()
    assert all(row.verdict is Verdict.NOT_MEASURED for row in rows)


def test_each_of_table_3s_models_is_some_recipes() -> None:
    """The paper's own four ablations, and its final model."""
    recipes = [load_recipe(name) for name in catalogue.entries("recipe")]
    named = {model for recipe in recipes for model in recipe.reproduces.values()}
    (paper,) = (source for source in load_published() if "2310.16944" in source.source)
    table_3 = {figure.model for table in paper.tables if table.where == "Table 3" for figure in table.figures}
    assert table_3 | {"zephyr-7b-beta"} == named


def test_what_a_recipe_reproduces_changes_no_stage(make: Any) -> None:
    plain, _ = make([{"model": "theirs", "value": 7.3}])
    other = plain.model_copy(update={"reproduces": {}})
    assert plain.reproduces != other.reproduces

    def stage(recipe: Recipe) -> str:
        parent = ModelSource("base", "", "sha256:p")
        assert recipe.ddpo is not None
        record = StageRecord.of("ddpo", recipe.ddpo, recipe=recipe, parent=parent, data=["a"], device="cpu")
        return record.fingerprint

    assert stage(plain) == stage(other)


def test_a_recipe_reproduces_only_stages_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({"description": "x", "model": "m", "dsft": STAGE, "reproduces": {"ddpo": "theirs"}}))
    with pytest.raises(UserError, match="reproduces names ddpo, but the recipe has no ddpo stage"):
        load_recipe(str(path))
    path.write_text(yaml.safe_dump({"description": "x", "model": "m", "dsft": STAGE, "reproduces": {"dpo": "theirs"}}))
    with pytest.raises(UserError, match="dpo"):
        load_recipe(str(path))


def test_people_see_both_sides_with_judge_and_year(store: Store, make: Any) -> None:
    figures = [{"model": "theirs", "value": 7.3, "note": "one epoch"}]
    recipe, include = make(figures)
    run = measure(store, "x", trained(store, "x"), 7.2, 0.02)
    year = store.run(run).created[:4]
    rows = reproduction(store, recipe, margins={"mt-bench": 0.3}, include=include)
    text = render_reproduction(rows, recipe, "markdown")
    (line,) = (line for line in text.splitlines() if line.startswith("| ddpo"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == [
        "ddpo: mt-bench score ¹",
        "7.30 ±0.02 assumed (gpt-4, 2023)",
        f"7.20 ±0.02 (gpt-4, {year})",
        "-0.10",
        "-0.15 to -0.05",
        "0.3",
        "reproduced",
    ]
    assert "¹ A paper, Table 1, https&#58;//example.org: one epoch" in text
    assert "1 reproduced" in text


def test_machines_get_full_precision_and_every_field(store: Store, make: Any) -> None:
    recipe, include = make([{"model": "theirs", "value": 7.3, "stderr": 0.1, "n": 160}])
    run = measure(store, "x", trained(store, "x"), 7.2, 0.2)
    rows = reproduction(store, recipe, include=include)
    (record,) = json.loads(render_reproduction(rows, recipe, "json"))
    test = rows[0].test
    assert test is not None
    assert (record["recipe"], record["stage"], record["model"], record["run"]) == ("rec", "ddpo", "theirs", run)
    assert (record["published"], record["published_stderr"], record["published_n"]) == (7.3, 0.1, 160)
    assert (record["ours"], record["stderr"], record["n"], record["judge"]) == (7.2, 0.2, 80, "gpt-4")
    assert (record["difference"], record["low"], record["high"]) == (test.difference, test.low, test.high)
    assert (record["verdict"], record["margin"], record["power"]) == ("can't tell", 0.1, test.power)
    assert (record["published_stderr_assumed"], record["year"]) == (False, 2023)
    (row,) = csv.DictReader(io.StringIO(render_reproduction(rows, recipe, "csv")))
    assert list(row) == list(record)
    assert json.loads(render_reproduction([], recipe, "json")) == []


def test_hostile_names_are_shown_and_not_obeyed(store: Store, make: Any, add_run: AddRun) -> None:
    recipe, include = make([{"model": "theirs", "value": 7.3}])
    add_run("rec-ddpo", "mt-bench", scores=[Score("score", 7.3, 0.1, 160)], judge="\x1b[31m|=cmd()")
    rows = reproduction(store, recipe, include=include)
    assert "\x1b" not in render_reproduction(rows, recipe, "table")
    assert "\\|=cmd" in render_reproduction(rows, recipe, "markdown")


def test_real_annotations_of_zephyr_alpha_reproduce_the_published_row(
    store: Store, make: Any, real_alpaca_eval: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """alpaca_eval's own annotations, imported: the leaderboard's 85.759 ±1.229 of 804."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = tmp_path / "a.json"
    path.write_bytes(gzip.decompress((real_alpaca_eval / "v1_zephyr-7b-alpha.annotations.json.gz").read_bytes()))
    add_to_store(store, read_alpaca_eval([path], find_benchmarks(version=1, benchmark=None)))
    recipe, _ = make([{"model": "x", "value": 1}], reproduces={"ddpo": "zephyr-7b-alpha"})
    rows = {(row.published.benchmark, row.published.metric): row for row in reproduction(store, recipe)}
    row = rows["alpaca-eval-1", "win-rate"]
    assert row.ours is not None
    assert row.test is not None
    assert row.ours.score.value == pytest.approx(85.759, abs=5e-4)
    assert row.ours.score.stderr == pytest.approx(1.229, abs=5e-4)
    assert row.ours.questions == 804
    assert (row.verdict, row.questions_needed) == (Verdict.CANT_TELL, None), "±1.2 on either side, and a margin of 1"
    assert row.margin_needed == pytest.approx(5.1, abs=0.1)
    assert rows["alpaca-eval-2", "win-rate"].verdict is Verdict.NOT_MEASURED
    for margin, verdict in ((4.0, Verdict.REPRODUCED), (1.0, Verdict.CANT_TELL)):
        rows_by = reproduction(store, recipe, margins={"alpaca-eval-1:win-rate": margin})
        found = {row.published.metric: row.verdict for row in rows_by if row.published.benchmark == "alpaca-eval-1"}
        assert found["win-rate"] is verdict


def test_real_judgments_of_another_model_do_not_reproduce_a_figure(
    store: Store, make: Any, real_mt_bench: Path, tmp_path: Path
) -> None:
    """GPT-4's grades of mistral-orpo, held against 9.5: 80 questions of two turns are sure of the miss."""
    from zephyr_bench.benchmarks import open_benchmark
    from zephyr_bench.benchmarks.mt_bench import MtBench

    path = tmp_path / "gpt-4_single.jsonl"
    path.write_bytes(gzip.decompress((real_mt_bench / "orpo_gpt-4_single.jsonl.gz").read_bytes()))
    benchmark = open_benchmark("mt-bench")
    assert isinstance(benchmark, MtBench)
    add_to_store(store, read_fastchat([path], benchmark))
    recipe, include = make([{"model": "mistral-orpo-mix", "value": 9.5}], reproduces={"ddpo": "mistral-orpo-mix"})
    row = only(reproduction(store, recipe, include=include))
    assert row.ours is not None
    assert (row.ours.questions, row.verdict) == (80, Verdict.NOT_REPRODUCED)
