"""Whether the judge moved: answers of the baseline's, graded again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from judged_runs import QUIET, Mood, answered, by_text, judge_at, judged, moody_judge
from servers import FakeOpenAi

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.errors import JudgeUnavailable, UserError
from zephyr_bench.judges import Judge, open_judge
from zephyr_bench.pipeline.anchors import FIRST_REPLICATE, judge_anchors, replicate_of
from zephyr_bench.reports.baselines import read_baseline, write_baseline
from zephyr_bench.reports.drift import AnchorCheck, drift_record, drift_told
from zephyr_bench.reports.leaderboard import render_leaderboard
from zephyr_bench.reports.sides import Side, side_of
from zephyr_bench.reports.standings import runs_that_count
from zephyr_bench.stats.drift import DriftVerdict
from zephyr_bench.store import Store

NUMBER = 10  # of anchors


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path}/store.db") as opened:
        yield opened


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[tuple[Mood, FakeOpenAi, Judge]]:
    with moody_judge(tmp_path) as (mood, server, path):
        yield mood, server, judge_at(server, path)


def check(store: Store, base: Side | str, candidate: str, judge: Judge, **options: float) -> AnchorCheck:
    side = base if isinstance(base, Side) else side_of(store, store.run(base))
    benchmark = open_benchmark(side.run.benchmark)
    return judge_anchors(
        store,
        side,
        store.run(candidate),
        benchmark,
        judge,
        number=NUMBER,
        metric=benchmark.headline,
        tolerance=options.get("tolerance", 0.15),
        again=bool(options.get("again")),
        progress=QUIET,
    )


def test_a_judge_that_grades_as_then_is_steady_and_really_asked(
    store: Store, parts: tuple[Mood, FakeOpenAi, Judge]
) -> None:
    _, server, judge = parts
    base, other = (judged(store, name, by_text(3, 9), judge).run for name in ("base", "other"))
    before = len(server.requests)
    found = check(store, base, other, judge)
    assert found.drift.verdict is DriftVerdict.STEADY
    assert len(server.requests) - before == found.made == 2 * NUMBER
    assert found.questions == NUMBER
    assert found.then == found.now


def test_a_judge_one_point_harsher_has_moved_by_one_point(store: Store, parts: tuple[Mood, FakeOpenAi, Judge]) -> None:
    mood, _, judge = parts
    base, other = (judged(store, name, by_text(3, 9), judge).run for name in ("base", "other"))
    mood.harsher = 1
    found = check(store, base, other, judge)
    assert found.drift.moved
    assert found.drift.difference.value == pytest.approx(-1)
    assert drift_told(found).startswith(f"gpt-4 graded {2 * NUMBER} anchors on {NUMBER} questions again, score ")
    assert "now, -1.00 [" in drift_told(found)
    assert "the judge moved; 0.15 is tolerated" in drift_told(found)
    told = drift_record(found)
    assert (told["verdict"], told["judgments"]) == ("moved", 2 * NUMBER)
    assert told["then"] - told["now"] == pytest.approx(1)


def test_the_same_candidate_again_asks_nothing_and_the_next_night_asks_anew(
    store: Store, parts: tuple[Mood, FakeOpenAi, Judge]
) -> None:
    mood, server, judge = parts
    base, first, second = (judged(store, name, by_text(3, 9), judge).run for name in ("base", "first", "second"))
    night = check(store, base, first, judge)
    runs = len(store.runs())
    mood.harsher = 1
    asked = len(server.requests)
    again = check(store, base, first, judge)
    assert (len(server.requests), len(store.runs())) == (asked, runs), "nothing asked, and no second run of it"
    assert (again.run, again.drift, again.made, again.stored) == (night.run, night.drift, 0, 2 * NUMBER)
    assert check(store, base, second, judge).drift.moved
    assert len(server.requests) == asked + 2 * NUMBER
    graded = [{v.answer for v in store.verdicts_of(run.id)} for run in store.runs() if "drift" in run.protocol]
    assert graded[0] == graded[1], "the same answers each night"


def test_what_was_graded_before_the_judge_broke_off_is_not_asked_again(
    store: Store, parts: tuple[Mood, FakeOpenAi, Judge]
) -> None:
    mood, server, judge = parts
    base, other = (judged(store, name, by_text(3, 9), judge).run for name in ("base", "other"))
    mood.calls_left = 7
    with pytest.raises(JudgeUnavailable):
        check(store, base, other, judge)
    mood.calls_left = None
    kept = len(store.verdicts_of(store.runs()[0].id))
    assert store.runs()[0].status == "incomplete"
    asked = len(server.requests)
    found = check(store, base, other, judge)
    assert (kept, found.stored) == (7, 7)
    assert len(server.requests) - asked == found.made == 2 * NUMBER - 7


def test_anchors_count_nowhere(store: Store, parts: tuple[Mood, FakeOpenAi, Judge]) -> None:
    mood, _, judge = parts
    base, other = (judged(store, name, by_text(3, 9), judge).run for name in ("base", "other"))
    before = render_leaderboard(store, {}, format="json"), [run.id for run in runs_that_count(store.runs())]
    mood.harsher = 2
    check(store, base, other, judge)
    mood.calls_left = 0
    with pytest.raises(JudgeUnavailable):
        check(store, other, base, judge)
    assert (render_leaderboard(store, {}, format="json"), [r.id for r in runs_that_count(store.runs())]) == before
    assert "incomplete" not in render_leaderboard(store, {}, format="table")


def test_of_several_judgments_then_an_anchor_is_graded_once_now(
    store: Store, parts: tuple[Mood, FakeOpenAi, Judge]
) -> None:
    from judged_runs import Answering

    from zephyr_bench.benchmarks.evaluate import evaluate

    _, server, judge = parts
    benchmark = open_benchmark("mt-bench-mini", judgments=3)
    base = evaluate(benchmark, Answering("base", by_text(3, 9)), judge=judge, store=store, progress=QUIET).run
    asked = len(server.requests)
    found = check(store, base, base, judge)
    assert len(server.requests) - asked == 2 * NUMBER
    assert found.drift.verdict is DriftVerdict.STEADY


def test_a_baseline_files_anchors_are_graded_where_the_store_knows_no_baseline(
    store: Store, parts: tuple[Mood, FakeOpenAi, Judge], tmp_path: Path
) -> None:
    mood, _, judge = parts
    with Store(f"sqlite:///{tmp_path}/release.db") as release:
        base = judged(release, "base", by_text(3, 9), judge).run
        write_baseline(release, [release.run(base)], tmp_path / "release.json", anchors=NUMBER + 2)
        write_baseline(release, [release.run(base)], tmp_path / "scores.json")
    other = judged(store, "other", by_text(3, 9), judge).run
    (side,) = read_baseline(tmp_path / "release.json")
    assert check(store, side, other, judge).drift.verdict is DriftVerdict.STEADY
    mood.harsher = 1
    third = judged(store, "third", by_text(3, 9), judge).run
    moved = check(store, side, third, judge)
    assert (moved.questions, moved.drift.difference.value) == (NUMBER, pytest.approx(-1))
    (bare,) = read_baseline(tmp_path / "scores.json")
    with pytest.raises(UserError, match=r"scores.json holds no answers .* export it with --anchors"):
        check(store, bare, other, judge)


def test_pairs_are_judged_again_in_both_orders(store: Store) -> None:
    rubric = open_judge("rubric")
    base, other = (judged(store, name, by_text(3, 9), rubric, "alpaca-eval-mini").run for name in ("base", "other"))
    found = check(store, base, other, rubric)
    assert found.drift.verdict is DriftVerdict.STEADY
    assert (found.metric, found.questions, found.made) == ("win-rate", NUMBER, 2 * NUMBER)


def test_answers_that_nobody_graded_are_no_anchors(store: Store, parts: tuple[Mood, FakeOpenAi, Judge]) -> None:
    _, _, judge = parts
    base = answered(store, "base", by_text(3, 9)).run
    with pytest.raises(UserError, match="none of its answers was graded"):
        check(store, base, base, judge)


def test_a_new_sitting_asks_anew_and_the_newest_counts_from_then_on(
    store: Store, parts: tuple[Mood, FakeOpenAi, Judge]
) -> None:
    mood, server, judge = parts
    base, other = (judged(store, name, by_text(3, 9), judge).run for name in ("base", "other"))
    check(store, base, other, judge)
    mood.harsher = 1
    asked = len(server.requests)
    assert check(store, base, other, judge, again=True).drift.moved
    assert check(store, base, other, judge).drift.moved
    assert len(server.requests) - asked == 2 * NUMBER


def test_replicates_are_of_candidate_baseline_and_sitting_and_not_of_the_store(
    store: Store, parts: tuple[Mood, FakeOpenAi, Judge]
) -> None:
    _, _, judge = parts
    base, *others = (judged(store, name, by_text(3, 9), judge).run for name in ("base", "first", "second"))
    for other in reversed(others):
        check(store, base, other, judge)
    told = [run.protocol["drift"] for run in store.runs() if "drift" in run.protocol]
    assert {one["candidate"]: one["replicate"] for one in told} == {n: replicate_of(n, base, 0) for n in others}
    many = {replicate_of(f"{n:x}", base, sitting) for n in range(500) for sitting in range(2)}
    assert len(many) == 1000
    assert FIRST_REPLICATE <= min(many) < max(many) < 2**31


def test_a_baseline_file_neither_renames_nor_unplaces_a_model_that_the_store_knows(
    store: Store, parts: tuple[Mood, FakeOpenAi, Judge], tmp_path: Path
) -> None:
    _, _, judge = parts
    base, other = (judged(store, name, by_text(3, 9), judge).run for name in ("base", "other"))
    write_baseline(store, [store.run(base)], tmp_path / "release.json", anchors=NUMBER)
    (side,) = read_baseline(tmp_path / "release.json")
    renamed = replace(side, run=replace(side.run, model="of a file", engine_fingerprint="sha256:of another machine"))
    before = store.model(side.run.model_fingerprint)
    check(store, renamed, other, judge)
    assert store.model(side.run.model_fingerprint) == before
    assert before.location == "nowhere"
