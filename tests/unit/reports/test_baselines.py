"""Baseline files: whole, the same bytes each time, and as good as the store."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_runs import chat_run, long_answers, short_answers
from conftest_reports import AddRun, chat_samples, preference_samples

from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.judges import open_judge
from zephyr_bench.records import Question, SampleScore
from zephyr_bench.reports.anchors import anchors_of
from zephyr_bench.reports.baselines import read_baseline, write_baseline
from zephyr_bench.reports.compare import render_comparison
from zephyr_bench.reports.comparison import compare_sides
from zephyr_bench.reports.references import find, runs_of
from zephyr_bench.reports.sides import Side, side_of
from zephyr_bench.store import Store


def written(store: Store, path: Path, *runs: str, anchors: int = 0) -> Path:
    write_baseline(store, [store.run(run) for run in runs], path, anchors)
    return path


def side(store: Store, run: str) -> Side:
    return side_of(store, store.run(run))


def test_a_file_compares_as_its_run_does(store: Store, tmp_path: Path) -> None:
    base, candidate = chat_run(store, "a", short_answers), chat_run(store, "b", long_answers)
    (kept,) = read_baseline(written(store, tmp_path / "base.json", base))
    ours, theirs = (compare_sides(one, side(store, candidate)) for one in (side(store, base), kept))
    assert theirs.metrics == ours.metrics
    assert theirs.moved == ours.moved
    assert theirs.notes == ours.notes


def test_what_a_file_says_of_a_run_is_what_the_store_says(store: Store, tmp_path: Path) -> None:
    run = chat_run(store, "a", short_answers)
    store.tag(run, "release")
    (kept,) = read_baseline(written(store, tmp_path / "base.json", run))
    known = side(store, run)
    assert kept.run == store.run(run) or kept.run.tags == ()
    assert kept.run.protocol_fingerprint == known.run.protocol_fingerprint
    assert sorted(kept.samples, key=str) == sorted(known.samples, key=str)
    assert list(kept.scores) == list(known.scores)
    assert dict(kept.said or {}) == dict(known.said or {})
    assert kept.lineage == {"recipe": "own", "seed": 7}


def test_the_same_runs_give_the_same_bytes_in_any_order(store: Store, add_run: AddRun, tmp_path: Path) -> None:
    runs = [chat_run(store, "a", short_answers), add_run("a", "alpaca-eval-mini", samples=preference_samples(1, 0))]
    one = written(store, tmp_path / "one.json", *runs, anchors=4).read_bytes()
    assert written(store, tmp_path / "other.json", *reversed(runs), anchors=4).read_bytes() == one
    assert one.isascii()


def test_questions_are_counted_and_not_their_lines(store: Store, add_run: AddRun, tmp_path: Path) -> None:
    marker = SampleScore("", "", "lc-win-rate", None, reason="no difficulties")
    twice = SampleScore("i0", "another category", "preference", 1.0)
    run = add_run("a", "alpaca-eval-mini", samples=[*preference_samples(1, 0), twice, marker])
    assert write_baseline(store, [store.run(run)], tmp_path / "a.json")["questions"] == 2


def test_a_question_that_changed_is_a_line_that_changed(store: Store, tmp_path: Path) -> None:
    def says(question: Question, turn: int) -> str:
        return "Something else." if question.id == asked else short_answers(question, turn)

    asked = "3"
    first = chat_run(store, "a", short_answers)
    asked = next(sample.question for sample in store.samples_of(first))
    second = chat_run(store, "a", says, seed=1)
    lines = [
        set(written(store, tmp_path / f"{run}.json", run).read_text(encoding="utf-8").splitlines())
        for run in (first, second)
    ]
    values = [line for line in lines[0] - lines[1] if line.startswith("    [")]
    assert [line for line in values if asked in line]
    assert len([line for line in values if "score" not in line]) == 1  # what was said to it


def test_anchors_are_spread_over_the_categories_with_texts_and_grades(store: Store, tmp_path: Path) -> None:
    run = chat_run(store, "a", short_answers, questions=32, judgments=2)
    path = written(store, tmp_path / "base.json", run, anchors=8)
    (kept,) = read_baseline(path)
    asked = {anchor.match.question.id: anchor.match.question.category for anchor in kept.anchors}
    assert (len(asked), len(set(asked.values()))) == (8, 8)
    assert len(kept.anchors) == 8 * 2 * 2  # turns, judgments
    judge = open_judge("rubric")
    again = list(judge.grade(anchor.match for anchor in kept.anchors))
    assert [judgment.score for judgment in again] == [anchor.score for anchor in kept.anchors]
    assert {judgment.key for judgment in again} < {judgment.key for judgment in store.judgments_of(run)}
    assert [a.match.key("j") for a in kept.anchors] == [a.match.key("j") for a in anchors_of(store, store.run(run), 8)]


def test_a_run_without_a_judge_has_no_anchors(store: Store, add_run: AddRun) -> None:
    run = add_run("a", "open-llm-mini", judge=None, samples=[SampleScore("r", "arc_challenge", "acc_norm", 1.0)])
    assert anchors_of(store, store.run(run), 3) == ()


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    edit(found)
    path.write_text(json.dumps(found), encoding="utf-8")


def test_a_file_that_was_changed_by_hand_is_refused(store: Store, tmp_path: Path) -> None:
    path = written(store, tmp_path / "base.json", chat_run(store, "a", short_answers))

    def better(found: dict[str, Any]) -> None:
        found["runs"][0]["scores"][0][1] += 0.5

    change(path, better)
    with pytest.raises(UserError, match=r"base.json was changed or cut: .* export baseline RUN -o .*base.json`\.$"):
        read_baseline(path)


def test_a_newer_file_is_refused_with_both_versions(store: Store, tmp_path: Path) -> None:
    path = written(store, tmp_path / "base.json", chat_run(store, "a", short_answers))
    change(path, lambda found: found.update(zephyr_bench_baseline=2, new_part={}))
    with pytest.raises(UserError, match=r"is of version 2, this zephyr-bench reads up to 1; upgrade"):
        read_baseline(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is no JSON"),
        ("[]", "is no baseline file"),
        ('{"zephyr_bench_baseline": true}', "is no baseline file"),
        ('{"zephyr_bench_baseline": 1, "runs": []}', "was changed or cut"),
        ('{"zephyr_bench_baseline": 0, "runs": []}', "is no baseline file"),
        ('{"zephyr_bench_baseline": 1, "sha256": 5}', "was changed or cut"),
        ("[NaN]", "is no baseline file"),
        ('{"zephyr_bench_baseline": 1, "runs": [NaN]}', "was changed or cut"),
        ('{"zephyr_bench_baseline": 1, "runs": [1e999]}', "was changed or cut"),
        ('{"zephyr_bench_baseline": 1, "runs": ["\\ud800"]}', "was changed or cut"),
        ("[" * 100_000, "is no JSON"),
        ('{"zephyr_bench_baseline": 1, "runs": %s}' % ("[" * 5_000 + "]" * 5_000), "is no JSON|was changed or cut"),
    ],
)
def test_what_is_no_baseline_is_told_in_a_sentence(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "base.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=says):
        read_baseline(path)


def test_a_run_that_is_not_whole_is_no_baseline(store: Store, add_run: AddRun, tmp_path: Path) -> None:
    broken = add_run("a", samples=chat_samples((5, 6)), status="interrupted")
    with pytest.raises(UserError, match=f"run {broken} is interrupted; a baseline is of complete runs"):
        written(store, tmp_path / "base.json", broken)
    answers = add_run("a", scores=[])
    with pytest.raises(UserError, match=f"run {answers} has answers and no scores"):
        written(store, tmp_path / "base.json", answers)
    assert not (tmp_path / "base.json").exists()


def test_two_files_compare_without_a_store(store: Store, tmp_path: Path) -> None:
    runs = chat_run(store, "a", short_answers), chat_run(store, "b", long_answers)
    paths = [str(written(store, tmp_path / f"{run}.json", run)) for run in runs]
    (found,) = json.loads(render_comparison(None, *paths, format="json"))
    assert (found["base"]["file"], found["candidate"]["file"]) == tuple(paths)
    text = render_comparison(None, *paths, format="table")
    assert f"base: {paths[0]} has no texts" in text


def test_a_baseline_is_exported_and_compared_on_the_command_line(store: Store, tmp_path: Path) -> None:
    base, candidate = chat_run(store, "a", short_answers), chat_run(store, "b", long_answers)
    store.tag(base, "release")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("zephyr-bench")), *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)

    url = f"sqlite:///{tmp_path / 'results.db'}"
    words = ("export", "baseline", "release@latest", "-o", "kept/release.json", "--anchors", "2", "--store", url)
    done = run(*words, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [{"file": "kept/release.json", "runs": 1, "questions": 10, "anchors": 2}]
    compared = run("compare", "kept/release.json", "kept/release.json", "--format", "json")
    assert json.loads(compared.stdout)[0]["same_answers"]
    assert not (tmp_path / "zephyr-bench.db").exists()
    mixed = run("compare", "kept/release.json", candidate, "--store", url, "--moved", "1")
    assert (mixed.returncode, mixed.stderr) == (0, "")
    unknown = run("compare", "kept/release.json", "smol")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "'smol' is no baseline file, and there is no store either" in unknown.stderr


def sign(found: dict[str, Any]) -> None:
    found["sha256"] = fingerprint(found["runs"]).removeprefix("sha256:")


@pytest.mark.parametrize("place", [99, -1])
def test_a_signed_file_whose_judgments_are_of_no_answer_is_refused(store: Store, tmp_path: Path, place: int) -> None:
    path = written(store, tmp_path / "base.json", chat_run(store, "a", short_answers), anchors=2)

    def elsewhere(found: dict[str, Any]) -> None:
        found["runs"][0]["anchors"][0]["judged"][0]["answers"] = [place]
        sign(found)

    change(path, elsewhere)
    with pytest.raises(UserError, match=r"base.json: anchors\.0 is not what version 1 has there"):
        read_baseline(path)


def test_a_signed_file_whose_rivals_are_no_names_is_refused(store: Store, tmp_path: Path) -> None:
    path = written(store, tmp_path / "base.json", chat_run(store, "a", short_answers))

    def numbered(found: dict[str, Any]) -> None:
        found["runs"][0]["run"]["protocol"]["rivals"] = 5
        sign(found)

    change(path, numbered)
    with pytest.raises(UserError, match=r"base.json: .*protocol.* is not what version 1 has there"):
        read_baseline(path)


def test_a_byte_order_mark_is_none_of_the_content(store: Store, tmp_path: Path) -> None:
    path = written(store, tmp_path / "base.json", chat_run(store, "a", short_answers))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_baseline(path)) == 1


def test_checkpoints_of_several_seeds_stay_one_side(store: Store, tmp_path: Path) -> None:
    runs = [chat_run(store, name, short_answers) for name in ("seed0", "seed1", "seed2")]
    path = tmp_path / "base.json"
    write_baseline(store, runs_of([find(store, ",".join(runs))]), path, anchors=2)
    (kept,) = read_baseline(path)
    assert [member.run.id for member in kept.members] == runs
    assert kept.anchors
    assert compare_sides(kept, find(store, ",".join(runs)).sides[0]).same_answers


def test_two_models_of_one_benchmark_and_judge_are_no_baseline(store: Store, tmp_path: Path) -> None:
    runs = [chat_run(store, name, short_answers) for name in ("a", "b")]
    with pytest.raises(UserError, match=r"of a and .* of b are both of mt-bench-mini by rubric.* commas between\.$"):
        written(store, tmp_path / "base.json", *runs)
    written(store, tmp_path / "once.json", runs[0], runs[0])
    assert len(read_baseline(tmp_path / "once.json")) == 1


def test_a_signed_file_that_lists_a_run_twice_is_refused(store: Store, tmp_path: Path) -> None:
    path = written(store, tmp_path / "base.json", chat_run(store, "a", short_answers))

    def twice(found: dict[str, Any]) -> None:
        found["runs"] *= 2
        sign(found)

    change(path, twice)
    with pytest.raises(UserError, match=r"base.json lists a run twice"):
        read_baseline(path)
