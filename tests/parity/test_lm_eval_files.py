"""Our files in lm-eval's own tools, and files of its own EvaluationTracker in our store: the same numbers and rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lm_eval.utils import (
    get_file_datetime,
    get_file_task_name,
    get_latest_filename,
    get_results_filenames,
    get_sample_results_filenames,
    make_table,
    sanitize_model_name,
)
from lm_eval_data import write_data
from tiny_model import make_tiny_model

from zephyr_bench.benchmarks import open_benchmark, punkt
from zephyr_bench.benchmarks.evaluate import evaluate
from zephyr_bench.benchmarks.lm_eval_chance import repeatable_language_detection
from zephyr_bench.benchmarks.open_llm import OpenLlm
from zephyr_bench.engines import open_engine
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.interop.lm_eval_export import export_lm_eval
from zephyr_bench.interop.lm_eval_import import ImportedScores, store_runs
from zephyr_bench.interop.lm_eval_plan import plan_runs
from zephyr_bench.interop.lm_eval_suites import find_suites
from zephyr_bench.progress import Progress
from zephyr_bench.records import SampleScore
from zephyr_bench.store import Store

LIMIT = 4


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path}/store.db") as opened:
        yield opened


@dataclass(frozen=True)
class Case:
    benchmark: OpenLlm
    model: str


SLOW = [pytest.param(task, marks=pytest.mark.slow) for task in ("gsm8k", "leaderboard_ifeval")]


@pytest.fixture(scope="module", params=["open-llm-mini", *SLOW])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A suite of scored texts, a task that reads texts under two filters, and one whose rows have parts."""
    data = write_data(tmp_path_factory.mktemp("data") / "data")
    version = {"gsm8k": "open-llm-1", "leaderboard_ifeval": "open-llm-2"}.get(request.param)
    tasks = [request.param] if version else []
    benchmark = open_benchmark(version or request.param, data=data, tasks=tasks)
    assert isinstance(benchmark, OpenLlm)
    if lacking := benchmark.missing():
        pytest.skip("; ".join(lacking))
    model = make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", max_length=2600)
    return Case(benchmark, str(model))


def put(store: Store, *paths: Path, benchmark: str | None = None) -> list[ImportedScores]:
    return store_runs(store, plan_runs(paths, find_suites(benchmark=benchmark)))


def ours(case: Case, store: Store) -> str:
    engine = open_engine(case.model, EngineOptions(device="cpu"))
    outcome = evaluate(case.benchmark, engine, judge=None, store=store, progress=Progress(quiet=True), limit=LIMIT)
    return outcome.run


def theirs(case: Case, folder: Path, *, chat: bool) -> dict[str, Any]:
    """lm-eval's own command's steps: evaluated, and written by its tracker."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.models.huggingface import HFLM

    punkt.let_nltk_find_it()
    repeatable_language_detection()
    tasks = []
    for task in case.benchmark.tasks:
        for leaf in task.declared():
            placed = {"task": leaf.name, "dataset_path": str(case.benchmark._local(str(leaf.data)))}
            if task.shots is not None:
                placed["num_fewshot"] = task.shots  # type: ignore[assignment]
            tasks += leaf.manager.load([{"group": "placed", "task": [placed]}])["tasks"].values()
    tracker = EvaluationTracker(output_path=str(folder))
    found = simple_evaluate(
        model=HFLM(pretrained=case.model, device="cpu", dtype="float32", batch_size=1),
        model_args="pretrained=org/tiny",
        tasks=tasks,
        limit=LIMIT,
        bootstrap_iters=100,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
        evaluation_tracker=tracker,
    )
    assert found is not None
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    for task in found["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    return dict(found)


def in_order(samples: list[SampleScore]) -> list[SampleScore]:
    return sorted((sample for sample in samples if sample.question), key=lambda s: (s.question, s.metric, s.turn))


def table(results: dict[str, Any]) -> dict[tuple[str, str, str], tuple[str, str]]:
    """(task, filter, metric) -> value and error, as lm-eval's table shows them."""
    found: dict[tuple[str, str, str], tuple[str, str]] = {}
    task = ""
    for line in make_table(results).splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        task = re.sub(r"^- ", "", cells[0]) or task
        found[task, cells[2], cells[4]] = (cells[6], cells[8])
    return found


def test_files_of_lm_evals_tracker_are_the_rows_of_a_run_made_here(case: Case, store: Store, tmp_path: Path) -> None:
    mine = ours(case, store)
    protocol = store.run(mine).protocol
    results = theirs(case, tmp_path / "out", chat=bool(protocol["chat_template"]))
    files = sorted((tmp_path / "out").rglob("*.json*"))
    (done,) = put(store, *files, benchmark=case.benchmark.name)
    assert (done.model, done.benchmark) == ("org/tiny", case.benchmark.name)
    theirs_told, ours_told = (in_order(store.samples_of(run)) for run in (done.run, mine))
    assert [(s.question, s.category, s.metric, s.turn) for s in theirs_told] == [
        (s.question, s.category, s.metric, s.turn) for s in ours_told
    ]
    # log-probabilities of two engines differ in the last bits
    assert [s.value for s in theirs_told] == pytest.approx([s.value for s in ours_told], abs=1e-6)
    own = {score.metric: score for score in store.scores_of([mine])[mine] if score.metric != "average"}
    found = {score.metric: score for score in store.scores_of([done.run])[done.run] if score.metric != "average"}
    assert [(s.metric, s.n, s.missing) for s in found.values()] == [(s.metric, s.n, s.missing) for s in own.values()]
    for metric, score in own.items():
        assert found[metric].value == pytest.approx(score.value, abs=1e-4)
        assert found[metric].stderr == pytest.approx(score.stderr, abs=1e-4)
    told = store.run(done.run).protocol
    untold = dict.fromkeys(("gen_kwargs", "system_instruction"))  # what ours never has, and lm-eval's file says so
    assert untold | {name: value for name, value in protocol.items() if name != "data"} == untold | told
    for task in case.benchmark.tasks:
        if task.task in results["results"] and len(task.metrics) == 1 and not task.choices:
            key = f"{task.metrics[0]},{task.filter}"
            assert found[task.task].value == pytest.approx(100 * results["results"][task.task][key], abs=1e-9)
            error = results["results"][task.task][key.replace(",", "_stderr,")]
            assert found[task.task].stderr == pytest.approx(100 * error, abs=1e-9)

    # and back: the table of what we export is the table of what lm-eval wrote
    written = export_lm_eval(store, [done.run], tmp_path / "back")
    exported = json.loads(next(path for path in written if path.name.startswith("results_")).read_text())
    assert make_table(exported) == make_table(results)


def test_runs_made_here_are_read_by_lm_evals_tools(case: Case, store: Store, tmp_path: Path) -> None:
    from datasets import load_dataset

    run = ours(case, store)
    written = export_lm_eval(store, [run], tmp_path / "out")
    names = [str(path) for path in written]
    results_file = get_latest_filename(get_results_filenames(names))
    samples_files = get_sample_results_filenames(names)
    assert Path(results_file).parent.name == sanitize_model_name(store.run(run).model)
    results = json.loads(Path(results_file).read_text())
    leaves = {leaf.name for task in case.benchmark.tasks for leaf in task.declared()}
    assert {get_file_task_name(Path(name).name) for name in samples_files} == leaves
    times = {get_file_datetime(Path(name).name).removesuffix(".json") for name in names}
    assert len(times) == 1

    shown = table(results)
    samples = store.samples_of(run)
    for task in case.benchmark.tasks:
        for leaf in (leaf.name for leaf in task.declared()):
            for metric in task.metrics:
                values = [s.value or 0.0 for s in samples if (s.category, s.metric) == (leaf, metric)]
                value, _ = shown[leaf, task.filter, metric]
                assert float(value) == pytest.approx(sum(values) / len(values), abs=6e-5)
    scores = {score.metric: score for score in store.scores_of([run])[run]}
    for task in case.benchmark.tasks:
        if len(task.declared()) == 1 and len(task.metrics) == 1:
            value, error = shown[task.task, task.filter, task.metrics[0]]
            assert 100 * float(value) == pytest.approx(scores[task.task].value, abs=6e-3)
            assert 100 * float(error) == pytest.approx(scores[task.task].stderr, abs=6e-3)

    for name in samples_files:
        loaded = load_dataset("json", data_files=name, split="train", cache_dir=str(tmp_path / "cache"))
        metrics = {metric for row in loaded for metric in row["metrics"]}
        assert {"doc_id", "filter", "filtered_resps", "resps", "arguments", *metrics} <= set(loaded.column_names)

    (done,) = put(store, *written)
    assert in_order(store.samples_of(done.run)) == in_order(samples)
    again = {score.metric: score for score in store.scores_of([done.run])[done.run]}
    if case.benchmark.name != "open-llm-mini":  # there is no average of all its tasks
        del scores["average"], again["average"]
    assert again == scores
