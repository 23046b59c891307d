"""The gate that asks the judge in random order, and stops when it is certain."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judged_runs import QUIET, Answering, Mood, answered, by_text, judge_at, judged, moody_judge
from servers import FakeOpenAi
from typer.testing import CliRunner

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.evaluate import answer_alone, evaluate, recorded_run
from zephyr_bench.benchmarks.rejudge import judge_run
from zephyr_bench.cli import app
from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import JudgeUnavailable, ZephyrBenchError
from zephyr_bench.fingerprint import fingerprint, short
from zephyr_bench.judges import Judge, open_judge
from zephyr_bench.pipeline.sequential_gate import Certain, Wanted, judge_until_certain
from zephyr_bench.records import SampleScore
from zephyr_bench.reports.baselines import write_baseline
from zephyr_bench.reports.leaderboard import render_leaderboard
from zephyr_bench.reports.sides import side_of
from zephyr_bench.stats.gate import Verdict
from zephyr_bench.stats.sequential import Stop
from zephyr_bench.store import RunStart, Store

QUESTIONS = 32  # of mt-bench-mini, of two turns each
GOOD, BAD = by_text(8, 10), by_text(1, 3)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path}/store.db") as opened:
        yield opened


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[tuple[Mood, FakeOpenAi, Path]]:
    with moody_judge(tmp_path) as made:
        yield made


def certain(store: Store, base: str, candidate: str, judge: Judge, margin: float = 0.3, **options: Any) -> Certain:
    benchmark = open_benchmark(store.run(base).benchmark)
    wanted = Wanted(benchmark.headline, margin, 0.025, **options)
    side = side_of(store, store.run(base))
    return judge_until_certain(store, side, store.run(candidate), benchmark, judge, wanted, QUIET)


def test_a_clear_loss_stops_early_and_the_calls_are_counted(store: Store, parts: tuple[Mood, FakeOpenAi, Path]) -> None:
    _, server, path = parts
    judge = judge_at(server, path)
    base = judged(store, "good", GOOD, judge).run
    candidate = answered(store, "bad", BAD).run
    asked = len(server.requests)
    found = certain(store, base, candidate, judge)
    assert found.progress is not None
    assert (found.progress.verdict, found.progress.stop) == (Verdict.REGRESSION, Stop.LOWER)
    assert len(server.requests) - asked == found.made == found.calls
    assert found.calls == 2 * found.judged, "both turns of a question are judged together"
    assert (found.planned, found.planned_calls) == (QUESTIONS, 2 * QUESTIONS)
    assert found.judged < QUESTIONS / 2
    assert found.progress.judged <= found.judged <= found.progress.judged + 3, "no more than 8 calls at once beyond it"


def test_a_clear_gain_passes_early(store: Store, parts: tuple[Mood, FakeOpenAi, Path]) -> None:
    _, server, path = parts
    judge = judge_at(server, path)
    base = judged(store, "bad", BAD, judge).run
    found = certain(store, base, answered(store, "good", GOOD).run, judge)
    assert found.progress is not None
    assert (found.progress.verdict, found.progress.stop) == (Verdict.PASS, Stop.NOT_INFERIOR)
    assert found.saved > 0.5


def test_a_second_time_nothing_is_asked_and_the_verdict_is_the_same(
    store: Store, parts: tuple[Mood, FakeOpenAi, Path]
) -> None:
    mood, server, path = parts
    judge = judge_at(server, path)
    base = judged(store, "good", GOOD, judge).run
    candidate = answered(store, "bad", BAD).run
    first = certain(store, base, candidate, judge)
    asked, runs = len(server.requests), len(store.runs())
    mood.harsher = -5
    again = certain(store, base, candidate, judge)
    assert (len(server.requests), len(store.runs())) == (asked, runs)
    assert (again.progress, again.calls, again.made) == (first.progress, first.calls, 0)
    assert again.candidate.run.id == first.candidate.run.id


def test_what_was_judged_before_the_judge_broke_off_is_paid_once(
    store: Store, parts: tuple[Mood, FakeOpenAi, Path], tmp_path: Path
) -> None:
    mood, server, path = parts
    judge = judge_at(server, path)
    base = judged(store, "good", GOOD, judge).run
    candidate = answered(store, "bad", BAD).run
    with Store(f"sqlite:///{tmp_path}/unbroken.db") as other:
        whole_base = judged(other, "good", GOOD, judge).run
        whole = answered(other, "bad", BAD).run
        unbroken = certain(other, whole_base, whole, judge, seed=7)
    mood.calls_left = 5
    asked = len(server.requests)
    with pytest.raises(JudgeUnavailable):
        certain(store, base, candidate, judge, seed=7)
    assert store.runs()[0].status == "incomplete"
    kept = len(store.verdicts_of(store.runs()[0].id))
    assert kept == 5
    mood.calls_left = None
    failed = len(server.requests) - asked - kept
    found = certain(store, base, candidate, judge, seed=7)
    assert found.progress == unbroken.progress
    assert len(server.requests) - asked - failed == found.calls == unbroken.calls
    assert found.made == found.calls - kept


def test_what_was_judged_is_a_part_and_judging_the_rest_later_pays_no_judgment_twice(
    store: Store, parts: tuple[Mood, FakeOpenAi, Path]
) -> None:
    _, server, path = parts
    judge = judge_at(server, path)
    base = judged(store, "good", GOOD, judge).run
    candidate = answered(store, "bad", BAD).run
    found = certain(store, base, candidate, judge)
    run = found.candidate.run
    assert (run.protocol["sequential"]["seed"], run.protocol["sequential"]["baseline"]) == (found.seed, base)
    assert "judged in random order, until the gate was certain" in render_leaderboard(store, {}, format="table")
    asked = len(server.requests)
    whole = judge_run(store, candidate, open_benchmark("mt-bench-mini"), judge, QUIET)
    assert len(server.requests) - asked == 2 * QUESTIONS - found.calls
    assert whole.scores[0].n == 2 * QUESTIONS
    board = json.loads(render_leaderboard(store, {}, format="json"))
    assert {row["run"] for row in board if row["model"] == "bad"} == {whole.run}


def test_the_same_texts_cost_nothing(store: Store, parts: tuple[Mood, FakeOpenAi, Path]) -> None:
    _, server, path = parts
    judge = judge_at(server, path)
    base = judged(store, "good", GOOD, judge).run
    candidate = answered(store, "good", GOOD).run
    asked = len(server.requests)
    assert certain(store, base, candidate, judge).progress is None
    assert len(server.requests) == asked


def test_a_baseline_without_judgments_is_judged_beside_the_candidate(
    store: Store, parts: tuple[Mood, FakeOpenAi, Path]
) -> None:
    _, server, path = parts
    judge = judge_at(server, path)
    base, candidate = (answered(store, name, of).run for name, of in (("good", GOOD), ("bad", BAD)))
    found = certain(store, base, candidate, judge)
    assert found.progress is not None
    assert found.progress.verdict is Verdict.REGRESSION
    assert len(server.requests) == found.calls == 4 * found.judged
    assert found.planned_calls == 4 * QUESTIONS
    assert found.base.run.id != base
    assert found.base.scores[0].n == 2 * found.judged


def test_instructions_are_judged_in_both_orders_and_without_length_control(store: Store) -> None:
    rubric = open_judge("rubric")
    base = judged(store, "good", GOOD, rubric, "alpaca-eval-mini").run
    found = certain(store, base, answered(store, "bad", BAD, "alpaca-eval-mini").run, rubric, margin=5.0)
    assert found.progress is not None
    assert found.calls == 2 * found.judged
    metrics = {score.metric: score for score in found.candidate.scores}
    assert metrics["win-rate"].n == found.judged
    assert metrics["lc-win-rate"].value is None


# ---------------------------------------------------------------------------------------------------- the command


def gate(store: Path, *words: str) -> tuple[int, dict[str, Any]]:
    command = ["gate", *words, "--store", f"sqlite:///{store}", "--format", "json", "--no-annotations"]
    done = CliRunner().invoke(app, command)
    if isinstance(done.exception, ZephyrBenchError):
        return done.exception.exit_code, {"error": str(done.exception)}
    return done.exit_code, json.loads(done.stdout)


def test_the_command_judges_answers_and_says_what_it_saved(
    store: Store, parts: tuple[Mood, FakeOpenAi, Path], tmp_path: Path
) -> None:
    _, server, path = parts
    judge = judge_at(server, path)
    base = judged(store, "good", GOOD, judge).run
    write_baseline(store, [store.run(base)], tmp_path / "release.json")
    answered(store, "bad", BAD)
    words = ["--candidate", "bad", "--sequential", "--judge", str(path), "--judge-url", server.url]
    asked = len(server.requests)
    code, told = gate(tmp_path / "store.db", "--baseline", str(tmp_path / "release.json"), *words)
    assert code == 1, told
    (entry,) = told["benchmarks"]
    assert (entry["verdict"], entry["reason"]) == ("regression", "lower")
    assert entry["judge_calls"] == {"made": len(server.requests) - asked, "planned": 2 * QUESTIONS}
    assert entry["sequential"]["judged"] < QUESTIONS / 2
    assert any("% saved" in note and "seed" in note for note in told["notes"])
    again, second = gate(tmp_path / "store.db", "--baseline", str(tmp_path / "release.json"), *words)
    assert (again, second["benchmarks"]) == (code, told["benchmarks"])


def test_two_runs_that_nobody_judged_are_judged_beside_each_other(
    store: Store, parts: tuple[Mood, FakeOpenAi, Path], tmp_path: Path
) -> None:
    _, server, path = parts
    base, candidate = (answered(store, name, of).run for name, of in (("good", GOOD), ("bad", BAD)))
    words = ["--baseline", base, "--candidate", candidate, "--sequential", "--judge", str(path)]
    code, told = gate(tmp_path / "store.db", *words, "--judge-url", server.url)
    (entry,) = told["benchmarks"]
    assert (code, entry["verdict"], entry["judge_calls"]["planned"]) == (1, "regression", 4 * QUESTIONS), told
    assert entry["judge_calls"]["made"] == len(server.requests)


def test_a_tag_names_the_newest_checkpoints_answers(
    store: Store, parts: tuple[Mood, FakeOpenAi, Path], tmp_path: Path
) -> None:
    _, server, path = parts
    base = judged(store, "good", GOOD, judge_at(server, path)).run
    for name, of in (("older", GOOD), ("newer", BAD)):
        store.tag(answered(store, name, of).run, "nightly")
    words = ["--baseline", base, "--sequential", "--judge", str(path), "--judge-url", server.url]
    code, told = gate(tmp_path / "store.db", *words, "--candidate", "nightly@latest")
    assert (code, told["benchmarks"][0]["candidate"]["model"]) == (1, "newer")
    for word, error in [
        ("weekly@latest", "no run has the tag 'weekly'"),
        ("release.json", "a file's answers can't be judged"),
        ("nobody", "unknown run 'nobody'"),
    ]:
        assert error in gate(tmp_path / "store.db", *words, "--candidate", word)[1]["error"]


def test_answers_are_compared_with_whom_the_baseline_was_compared(store: Store, tmp_path: Path) -> None:
    rubric = open_judge("rubric")
    answered(store, "rival", by_text(3, 9), "alpaca-eval-mini")
    beside = open_benchmark("alpaca-eval-mini", baselines=["rival"])
    base = evaluate(beside, Answering("good", GOOD), judge=rubric, store=store, progress=QUIET).run
    answered(store, "bad", BAD, "alpaca-eval-mini")
    code, told = gate(tmp_path / "store.db", "--baseline", base, "--candidate", "bad", "--sequential")
    assert code in (0, 1, 3), told
    run = store.run(told["benchmarks"][0]["candidate"]["run"])
    assert (run.rivals, run.protocol["baseline"]["name"]) == (("rival",), "rival")
    assert (
        "holds what a gate judged"
        in gate(tmp_path / "store.db", "--baseline", base, "--candidate", run.id, "--sequential")[1]["error"]
    )


def test_a_metric_that_is_no_mean_over_questions_is_refused_before_a_call(store: Store, tmp_path: Path) -> None:
    rubric = open_judge("rubric")
    base = judged(store, "good", GOOD, rubric, "alpaca-eval-mini").run
    answered(store, "bad", BAD, "alpaca-eval-mini")
    words = ["--baseline", base, "--candidate", "bad", "--sequential", "--margin", "5"]
    _, told = gate(tmp_path / "store.db", *words, "--metric", "alpaca-eval-mini=lc-win-rate")
    assert "lc-win-rate of alpaca-eval-mini is no mean over questions" in told["error"]
    code, told = gate(tmp_path / "store.db", *words)
    assert (code, told["benchmarks"][0]["metric"]) == (3, "win-rate"), told


def test_a_benchmark_without_a_judge_is_compared_whole(store: Store, tmp_path: Path) -> None:
    samples = [SampleScore(f"arc_challenge/{n}", "arc_challenge", "acc_norm", float(n % 2)) for n in range(40)]
    scores = open_benchmark("open-llm-mini").aggregate(samples)
    for name in ("one", "two"):
        store.put_model(fingerprint=fingerprint(name), name=name, location="nowhere")
        made = store.start_run(RunStart("open-llm-mini", name, fingerprint(name), fingerprint([name])))
        made.add_samples(samples)
        made.finish("complete", scores)
    words = ["--baseline", "one", "--candidate", "two", "--sequential", "--margin", "30"]
    _, told = gate(tmp_path / "store.db", *words)
    assert "open-llm-mini has no judge that could be stopped early: all of it is compared" in told["notes"], told
    assert told["benchmarks"][0]["sequential"] is None


def test_anchors_first_and_a_judge_that_moved_grades_no_candidate(
    store: Store, parts: tuple[Mood, FakeOpenAi, Path], tmp_path: Path
) -> None:
    mood, server, path = parts
    judge = judge_at(server, path)
    base = judged(store, "good", by_text(3, 9), judge).run
    answered(store, "bad", BAD)
    words = ["--baseline", base, "--candidate", "bad", "--sequential", "--anchors", "10"]
    words += ["--judge", str(path), "--judge-url", server.url]
    mood.harsher = 1
    asked = len(server.requests)
    code, told = gate(tmp_path / "store.db", *words)
    assert code == 3, told
    (entry,) = told["benchmarks"]
    assert (entry["verdict"], entry["reason"]) == ("inconclusive", "judge-drift")
    assert "-1.00" in entry["why"]
    assert len(server.requests) - asked == 20, "the anchors, and nobody else"


def test_drift_makes_a_loss_inconclusive_and_a_steady_judge_lets_it_stand(
    store: Store, parts: tuple[Mood, FakeOpenAi, Path], tmp_path: Path
) -> None:
    mood, server, path = parts
    judge = judge_at(server, path)
    judged(store, "good", by_text(3, 9), judge)
    mood.harsher = 1
    judged(store, "same", by_text(3, 9), judge)
    words = ["--baseline", "good", "--anchors", "10", "--judge", str(path), "--judge-url", server.url]
    code, without = gate(tmp_path / "store.db", "--baseline", "good", "--candidate", "same")
    assert (code, without["verdict"]) == (1, "regression"), "a judge's drift taken for the candidate's"
    code, told = gate(tmp_path / "store.db", *words, "--candidate", "same")
    (entry,) = told["benchmarks"]
    assert (code, entry["reason"]) == (3, "judge-drift"), told
    assert entry["drift"]["difference"] == pytest.approx(-1)
    mood.harsher = 0
    judged(store, "worse", by_text(1, 3), judge)
    code, told = gate(tmp_path / "store.db", *words, "--candidate", "worse")
    assert (code, told["benchmarks"][0]["drift"]["verdict"]) == (1, "steady"), told


def test_another_judge_than_the_baselines_is_refused_before_it_is_paid(
    store: Store, parts: tuple[Mood, FakeOpenAi, Path], tmp_path: Path
) -> None:
    _, server, path = parts
    judge = judge_at(server, path)
    judged(store, "good", GOOD, judge)
    answered(store, "bad", BAD)
    asked = len(server.requests)
    words = ["--baseline", "good", "--candidate", "bad", "--sequential"]
    code, told = gate(tmp_path / "store.db", *words, "--judge", "rubric")
    assert code == 2
    assert "was judged by gpt-4, and the gate would ask rubric" in told["error"]
    code, told = gate(tmp_path / "store.db", *words, "--judge", str(path), "--judge-url", "http://127.0.0.1:9/v1")
    assert code == 2
    assert "gpt-4, of another version" in told["error"]
    assert len(server.requests) == asked
    words += ["--margin", "0.3", "--allow-different", "judge"]
    code, told = gate(tmp_path / "store.db", *words, "--judge", "rubric")
    assert code in (0, 1, 3), told
    assert [field["field"] for field in told["benchmarks"][0]["allowed"]] == ["judge"]


def test_max_cost_ends_it_and_keeps_what_was_paid(
    store: Store, parts: tuple[Mood, FakeOpenAi, Path], tmp_path: Path
) -> None:
    _, server, path = parts
    judge = judge_at(server, path)
    judged(store, "good", by_text(5, 6), judge)
    answered(store, "other", by_text(5, 6, "other"))
    words = ["--baseline", "good", "--candidate", "other", "--sequential", "--judge", str(path)]
    asked = len(server.requests)
    code, told = gate(tmp_path / "store.db", *words, "--judge-url", server.url, "--max-cost", "0.3")
    assert code == 4, told
    assert 0 < len(server.requests) - asked == len(store.verdicts_of(store.runs()[0].id))


def test_a_candidate_half_of_whose_answers_the_judge_refuses_does_not_pass(
    store: Store, parts: tuple[Mood, FakeOpenAi, Path], tmp_path: Path
) -> None:
    mood, server, path = parts
    judged(store, "good", by_text(4, 6), judge_at(server, path))
    answered(store, "better", GOOD)
    mood.silent = 0.5
    words = ["--baseline", "good", "--candidate", "better", "--sequential", "--judge", str(path)]
    code, told = gate(tmp_path / "store.db", *words, "--judge-url", server.url, "--margin", "3")
    (entry,) = told["benchmarks"]
    assert (code, entry["reason"]) == (3, "unanswered"), told
    assert entry["unanswered"] > 0
    assert f"lacks {entry['unanswered']} values" in entry["why"]


def test_anchors_of_another_sitting_do_not_speak_for_a_judge_that_moved_since(
    store: Store, parts: tuple[Mood, FakeOpenAi, Path], tmp_path: Path
) -> None:
    mood, server, path = parts
    judged(store, "good", by_text(3, 9), judge_at(server, path))
    answered(store, "other", by_text(3, 9, "other"))
    words = ["--baseline", "good", "--candidate", "other", "--sequential", "--anchors", "10", "--judge", str(path)]
    words += ["--judge-url", server.url]
    mood.calls_left = 20  # the anchors, two turns each; then an outage
    assert gate(tmp_path / "store.db", *words)[0] == 4
    mood.calls_left, mood.harsher = None, 1
    asked = len(server.requests)
    code, told = gate(tmp_path / "store.db", *words)
    assert (code, told["benchmarks"][0]["reason"]) == (3, "judge-drift"), told
    assert len(server.requests) - asked == 20, "the anchors anew, and nobody else"


def test_a_gate_that_came_to_its_end_keeps_its_anchors(
    store: Store, parts: tuple[Mood, FakeOpenAi, Path], tmp_path: Path
) -> None:
    mood, server, path = parts
    judged(store, "good", GOOD, judge_at(server, path))
    answered(store, "bad", BAD)
    words = ["--baseline", "good", "--candidate", "bad", "--sequential", "--anchors", "10", "--judge", str(path)]
    words += ["--judge-url", server.url]
    code, told = gate(tmp_path / "store.db", *words)
    mood.harsher = 1
    asked = len(server.requests)
    again, same = gate(tmp_path / "store.db", *words)
    assert (code, again, len(server.requests)) == (1, 1, asked)
    assert same["benchmarks"][0]["drift"] == told["benchmarks"][0]["drift"]
    words[words.index("10")] = "12"  # more of them: asked in one sitting with those of then
    words += ["--order-seed", "5"]
    assert gate(tmp_path / "store.db", *words)[1]["benchmarks"][0]["reason"] == "judge-drift"


def test_what_a_gate_stopped_early_is_no_whole_run_to_others(
    store: Store, parts: tuple[Mood, FakeOpenAi, Path], tmp_path: Path
) -> None:
    _, server, path = parts
    judged(store, "good", GOOD, judge_at(server, path))
    answered(store, "bad", BAD)
    words = ["--baseline", "good", "--candidate", "bad", "--sequential", "--judge", str(path)]
    _, told = gate(tmp_path / "store.db", *words, "--judge-url", server.url)
    assert not any("was judged only until" in note for note in told["benchmarks"][0]["notes"])
    part = told["benchmarks"][0]["candidate"]["run"]
    for baseline, candidate in (("good", part), (part, "good")):
        code, plain = gate(tmp_path / "store.db", "--baseline", baseline, "--candidate", candidate)
        (entry,) = plain["benchmarks"]
        assert (code, entry["verdict"], entry["reason"]) == (3, "inconclusive", "stopped-early"), plain
        assert "until it was certain" in entry["why"]
    compared = CliRunner().invoke(app, ["compare", "good", part, "--store", f"sqlite:///{tmp_path}/store.db"])
    assert f"run {part} of bad was judged only until a gate was certain" in compared.output


class OtherWeights(Answering):
    def __init__(self, name: str, weights: str) -> None:
        super().__init__(name, BAD)
        self.model = ModelSource(name, "nowhere", fingerprint(weights))
        self.fingerprint = fingerprint([weights, "engine"])


def test_a_newest_checkpoint_that_failed_is_not_replaced_by_an_older_one(
    store: Store, parts: tuple[Mood, FakeOpenAi, Path], tmp_path: Path
) -> None:
    _, server, path = parts
    judged(store, "good", GOOD, judge_at(server, path))
    answered(store, "night", GOOD)
    newer = OtherWeights("night", "of today")
    with recorded_run(store, newer, None, benchmark="mt-bench-mini", protocol={}, seed=0) as run:
        run.finish("incomplete", ())
    words = ["--baseline", "good", "--candidate", "night", "--sequential", "--judge", str(path)]
    words += ["--judge-url", server.url]
    asked = len(server.requests)
    code, told = gate(tmp_path / "store.db", *words)
    assert (code, len(server.requests)) == (2, asked)
    label = f"night@{short(newer.model.fingerprint)}"
    assert f"night names {label}, which has no complete run; the newest, {run.id}, is incomplete" in told["error"]
    answer_alone(open_benchmark("mt-bench-mini"), newer, store=store, progress=QUIET)
    code, told = gate(tmp_path / "store.db", *words)
    assert code == 1
    assert f"night names several checkpoints; the newest, {label}, is compared" in told["notes"]
