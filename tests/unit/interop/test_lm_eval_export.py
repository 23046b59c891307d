"""Runs as lm-eval's files: what is written, under which names, what is null, and what is left alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lm_eval_files_made import Row, gsm8k_rows, old_results, put, results, rows, scores, write, write_all

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.errors import UserError
from zephyr_bench.interop.lm_eval_export import export_lm_eval, folder_name
from zephyr_bench.records import Answer, Question, SampleScore
from zephyr_bench.store import RunStart, Store

CHAT = {"limit": 4, "chat_template": True, "lm_eval": "0.4.13"}


def sample(leaf: str, number: int, metric: str, value: float | None, turn: int = 0) -> SampleScore:
    return SampleScore(f"{leaf}/{number}", leaf, metric, value, turn, None if value is not None else "?")


def own_run(
    store: Store,
    benchmark: str,
    samples: Sequence[SampleScore],
    answers: Sequence[tuple[Question, Answer]] = (),
    *,
    tasks: Sequence[str] = (),
    model: str = "org/m",
    status: str = "complete",
    **protocol: Any,
) -> str:
    """As evaluate() writes one."""
    asked = open_benchmark(benchmark, tasks=tasks)
    store.put_model(fingerprint=f"sha256:{model}", name=model, location="here")
    told = {**asked.protocol(None), "limit": None, **protocol}
    start = RunStart(benchmark, model, f"sha256:{model}", f"sha256:{model}", None, None, told)
    run = store.start_run(start)
    run.add_answers(answers)
    run.add_samples(samples)
    ordered = sorted(samples, key=lambda s: (s.question, s.turn, s.metric, s.rival, s.replicate))
    run.finish(status, asked.aggregate(ordered) if status == "complete" else [])
    return run.id


def answered(leaf: str, number: int, text: str) -> tuple[Question, Answer]:
    asked = Question(f"{leaf}/{number}", leaf, (f"What is {number}?",))
    return asked, Answer(f"sha256:{leaf}{number}", "org/m", asked.id, 1, text)


def version_2() -> list[SampleScore]:
    """Of every task some rows, of groups a number of rows that differs."""
    metrics = {"leaderboard_mmlu_pro": "acc", "leaderboard_math_hard": "exact_match"}
    found = []
    for task in open_benchmark("open-llm-2").tasks:  # type: ignore[attr-defined]
        for size, leaf in enumerate((leaf.name for leaf in task.declared()), start=2):
            if leaf != "leaderboard_ifeval":
                metric = metrics.get(task.task, "acc_norm")
                found += [sample(leaf, number, metric, float(number % 2)) for number in range(size)]
    for number, parts in enumerate([(1.0, 0.0), (1.0,)]):
        found.append(sample("leaderboard_ifeval", number, "prompt_level_strict_acc", float(all(parts))))
        found += [
            sample("leaderboard_ifeval", number, "inst_level_strict_acc", part, turn)
            for turn, part in enumerate(parts, start=1)
        ]
    return found


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def of(written: dict[Path, int], beginning: str) -> Path:
    (found,) = (path for path in written if path.name.startswith(beginning))
    return found


def test_rows_made_here_have_what_the_store_knows_and_else_nothing(store: Store, tmp_path: Path) -> None:
    samples = [sample("gsm8k", 0, "exact_match", 1.0), sample("gsm8k", 1, "exact_match", 0.0)]
    samples += [sample("arc_challenge", 0, "acc_norm", 1.0), sample("arc_challenge", 1, "acc_norm", None)]
    run = own_run(store, "open-llm-1", samples, [answered("gsm8k", 0, "#### 0")], tasks=["gsm8k", "arc_challenge"])
    written = export_lm_eval(store, [run], tmp_path)
    assert {path.parent.name for path in written} == {"org__m"}
    nothing = dict.fromkeys(("doc", "target", "arguments", "resps", "filtered_resps"))
    nothing |= dict.fromkeys(("doc_hash", "prompt_hash", "target_hash"))
    first, second = read(of(written, "samples_gsm8k_"))
    beside = {"filter": "strict-match", "metrics": ["exact_match"]}
    assert first == {
        **nothing,
        "doc_id": 0,
        "arguments": {"gen_args_0": {"arg_0": "What is 0?"}},
        "resps": [["#### 0"]],
        **beside,
        "exact_match": 1.0,
    }
    assert second == {**nothing, "doc_id": 1, **beside, "exact_match": 0.0}
    arc = read(of(written, "samples_arc_challenge_"))
    assert [(row["doc_id"], row["acc_norm"]) for row in arc] == [(0, 1.0), (1, None)]
    told = json.loads(of(written, "results_").read_text())
    assert told["results"]["gsm8k"] == {
        "name": "gsm8k",
        "alias": "gsm8k",
        "sample_len": 2,
        "exact_match,strict-match": 0.5,
        "exact_match_stderr,strict-match": 0.5,
    }
    assert told["results"]["arc_challenge"]["acc_norm_stderr,none"] == "N/A"  # one row alone
    assert told["n-shot"] == {"gsm8k": 5, "arc_challenge": 25}
    assert told["n-samples"] == {
        name: {"original": n, "effective": n} for name, n in (("gsm8k", 2), ("arc_challenge", 1))
    }
    assert (told["model_name"], told["chat_template"], told["fewshot_as_multiturn"]) == ("org/m", None, False)


def test_a_whole_group_has_lm_evals_mean_over_rows(store: Store, tmp_path: Path) -> None:
    run = own_run(store, "open-llm-2", version_2(), **CHAT)
    told = json.loads(of(export_lm_eval(store, [run], tmp_path), "results_").read_text())
    leaves = told["group_subtasks"]["leaderboard_musr"]
    assert leaves == [
        f"leaderboard_musr_{name}" for name in ("murder_mysteries", "object_placements", "team_allocation")
    ]
    rights, sizes = [1, 1, 2], [2, 3, 4]  # each second row
    assert [told["results"][leaf]["sample_len"] for leaf in leaves] == sizes
    assert told["groups"]["leaderboard_musr"]["acc_norm,none"] == pytest.approx(sum(rights) / sum(sizes))
    assert told["results"]["leaderboard_ifeval"]["inst_level_strict_acc,none"] == pytest.approx(2 / 3)
    assert told["results"]["leaderboard_ifeval"]["inst_level_strict_acc_stderr,none"] == "N/A"
    assert (told["config"]["limit"], told["chat_template"], told["fewshot_as_multiturn"]) == (4, "", True)
    assert told["n-samples"]["leaderboard_mmlu_pro"] == {"effective": 2}


def test_what_was_exported_is_read_as_the_same_run(store: Store, tmp_path: Path) -> None:
    run = own_run(store, "open-llm-2", version_2(), [answered("leaderboard_ifeval", 0, "a text")], **CHAT)
    written = export_lm_eval(store, [run], tmp_path)
    with Store(f"sqlite:///{tmp_path / 'other.db'}") as other:
        (done,) = put(other, *written)
        assert (done.model, done.benchmark, done.missing) == ("org/m", "open-llm-2", ())
        key = repr
        assert sorted(other.samples_of(done.run), key=key) == sorted(store.samples_of(run), key=key)
        assert other.scores_of([done.run])[done.run] == store.scores_of([run])[run]
        ours, theirs = store.run(run).protocol, other.run(done.run).protocol
        assert theirs == {name: value for name, value in ours.items() if name != "data"}
        again = export_lm_eval(other, [done.run], tmp_path / "again")
        assert [new.new for new in put(other, *again)] == [False]


def test_a_benchmark_of_ones_own_is_named_in_the_file(store: Store, tmp_path: Path) -> None:
    samples = [sample("arc_challenge", number, "acc_norm", 1.0) for number in range(2)]
    run = own_run(store, "open-llm-mini", samples, tasks=["arc_challenge"])
    (done,) = put(store, *export_lm_eval(store, [run], tmp_path))
    assert done.benchmark == "open-llm-mini"


def test_read_files_come_out_as_they_were_but_for_rows_of_scored_texts(store: Store, tmp_path: Path) -> None:
    samples = {"arc_challenge": rows("arc_challenge", 1.0, 0.0), "gsm8k": gsm8k_rows(1.0, 0.0)}
    paths = write_all(tmp_path / "in", samples)
    (done,) = put(store, *paths)
    written = export_lm_eval(store, [done.run], tmp_path / "out")
    assert of(written, "results_").name == "results_2026-09-21T14-13-20.250000.json"
    assert json.loads(of(written, "results_").read_text()) == results(samples)
    assert read(of(written, "samples_gsm8k_")) == samples["gsm8k"]
    kept = ("doc_id", "filter", "acc_norm")
    arc = read(of(written, "samples_arc_challenge_"))
    assert [[row[key] for key in kept] for row in arc] == [
        [row[key] for key in kept] for row in samples["arc_challenge"]
    ]
    assert all("acc" not in row and row["doc"] is None for row in arc)


def test_an_error_that_is_no_number_is_lm_evals_na(store: Store, tmp_path: Path) -> None:
    told = results({"arc_challenge": rows("arc_challenge", 1.0)})
    told["results"]["arc_challenge"]["acc_norm_stderr,none"] = None
    (done,) = put(store, write(tmp_path / "r.json", told))
    written = export_lm_eval(store, [done.run], tmp_path / "out")
    found = json.loads(of(written, "results_").read_text())
    assert found["results"]["arc_challenge"]["acc_norm_stderr,none"] == "N/A"


def test_files_without_a_date_have_the_imports_each_its_own(store: Store, tmp_path: Path) -> None:
    told = {25: {"arc_challenge": {"acc_norm": 0.25}}, 10: {"hellaswag": {"acc_norm": 0.5}}}
    files = [write(tmp_path / f"{shots}.json", old_results(tasks, shots=shots)) for shots, tasks in told.items()]
    (done,) = put(store, *files)
    written = export_lm_eval(store, [done.run], tmp_path / "out")
    assert [json.loads(path.read_text()) for path in written] == [json.loads(path.read_text()) for path in files]
    assert len({path.name for path in written}) == 2
    assert [again.new for again in put(store, *written)] == [False]
    assert scores(store, done.run)["hellaswag"] == 50.0


def test_only_complete_runs_of_lm_evals_tasks_are_exported(store: Store, tmp_path: Path) -> None:
    store.put_model(fingerprint="sha256:x", name="x", location="here")
    other = store.start_run(RunStart("mt-bench", "x", "sha256:x", "sha256:x"))
    other.finish("complete", [])
    broken = own_run(store, "open-llm-1", [], status="interrupted")
    for run, message in {
        other.id: f"run {other.id} is of mt-bench, and lm-eval's files hold runs of its own tasks only",
        broken: f"run {broken} is interrupted; only a complete one has scores to export",
        "nobody": "unknown run 'nobody'",
    }.items():
        with pytest.raises(UserError, match=message):
            export_lm_eval(store, [run], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_holds_something_else_is_left_alone(store: Store, tmp_path: Path) -> None:
    (done,) = put(store, *write_all(tmp_path / "in", {"gsm8k": gsm8k_rows(1.0)}))
    written = export_lm_eval(store, [done.run], tmp_path / "out")
    before = {path: path.read_bytes() for path in written}
    assert export_lm_eval(store, [done.run], tmp_path / "out") == written
    assert {path: path.read_bytes() for path in written} == before
    rows_path, results_path = of(written, "samples_"), of(written, "results_")
    rows_path.write_text("mine")
    results_path.unlink()
    with pytest.raises(UserError, match="is there and holds something else; name another folder"):
        export_lm_eval(store, [done.run], tmp_path / "out")
    assert not results_path.exists()


def test_two_runs_of_one_moment_are_files_of_their_own(store: Store, tmp_path: Path) -> None:
    first = put(store, *write_all(tmp_path / "a", {"gsm8k": gsm8k_rows(1.0)}))
    second = put(store, *write_all(tmp_path / "b", {"gsm8k": gsm8k_rows(0.0)}))
    written = export_lm_eval(store, [first[0].run, second[0].run], tmp_path / "out")
    assert len(written) == 4
    assert [done.new for done in put(store, *written)] == [False, False]


@pytest.mark.parametrize(
    ("model", "folder"),
    [
        ("org/m", "org__m"),
        ("http://host:80/m", "http__host__80__m"),
        ("..", "%2E."),
        (".", "%2E"),
        (".hidden", "%2Ehidden"),
        ("/root", "__root"),
    ],
)
def test_a_model_has_lm_evals_folder_unless_that_is_none(model: str, folder: str) -> None:
    assert folder_name(model) == folder
    assert len(folder_name("x" * 400)) < 255
