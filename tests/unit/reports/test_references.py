"""What a word means: a run, a tag, a model, a baseline file."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest_reports import AddRun, chat_samples, preference_samples

from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint, short
from zephyr_bench.reports.baselines import write_baseline
from zephyr_bench.reports.references import Found, find, pair
from zephyr_bench.store import Store

SAMPLES = chat_samples((5, 6), (7, 8))


def ids(found: Found) -> list[str]:
    return [side.run.id for side in found.sides]


def test_a_run_is_named_by_its_id_or_the_beginning_of_it(store: Store, add_run: AddRun) -> None:
    run = add_run("a", samples=SAMPLES)
    assert ids(find(store, run)) == [run]
    assert ids(find(store, run[:-1])) == [run]
    with pytest.raises(UserError, match=f"run {run} is of mt-bench-mini, not of mt-bench"):
        find(store, run, benchmark="mt-bench")


def test_a_tag_means_the_newest_complete_checkpoint_that_has_it(store: Store, add_run: AddRun) -> None:
    older = add_run("old", samples=SAMPLES)
    chat = add_run("new", samples=SAMPLES)
    preferences = add_run("new", "alpaca-eval-mini", samples=preference_samples(1, 0))
    untagged = add_run("new", "alpaca-eval-mini", samples=preference_samples(1, 1))
    broken = add_run("broken", samples=SAMPLES, status="interrupted")
    for run in (older, chat, preferences, broken):
        store.tag(run, "nightly")
    found = find(store, "nightly@latest")
    assert sorted(ids(found)) == sorted([chat, preferences])
    assert untagged not in ids(found)
    assert found.notes[0] == f"nightly@latest is new, run {preferences}"
    assert f"run {broken} of broken (" in found.notes[1]  # newer, and not to be passed over in silence
    assert found.notes[1].endswith("and is interrupted")
    assert [run.id for run in found.unfinished] == [broken]
    assert ids(find(store, "nightly@latest", benchmark="mt-bench-mini")) == [chat]


def test_of_a_tagged_checkpoint_the_newest_run_of_each_benchmark_counts(store: Store, add_run: AddRun) -> None:
    first, second = (add_run("a", samples=SAMPLES) for _ in range(2))
    store.tag(first, "release")
    store.tag(second, "release")
    assert ids(find(store, "release@latest")) == [second]


def test_a_bare_tag_is_told_how_to_be_written(store: Store, add_run: AddRun) -> None:
    store.tag(add_run("a", samples=SAMPLES), "nightly")
    with pytest.raises(UserError, match="'nightly' is a tag; write nightly@latest for the newest checkpoint"):
        find(store, "nightly")
    with pytest.raises(UserError, match=r"no run has the tag 'nightli'. Did you mean nightly\?"):
        find(store, "nightli@latest")


def test_a_tag_of_no_complete_run_says_so(store: Store, add_run: AddRun) -> None:
    run = add_run("a", samples=SAMPLES, status="interrupted")
    store.tag(run, "nightly")
    with pytest.raises(UserError, match=f"'nightly' is complete; the newest, {run}, is interrupted"):
        find(store, "nightly@latest")


def test_a_model_means_its_newest_runs_and_a_label_one_checkpoint(store: Store, add_run: AddRun) -> None:
    first = add_run("m", weights="one", samples=SAMPLES)
    second = add_run("m", weights="two", samples=SAMPLES)
    assert ids(find(store, "m")) == [second]
    assert "m names several checkpoints" in find(store, "m").notes[0]
    assert ids(find(store, f"m@{short(fingerprint('one'))}")) == [first]
    with pytest.raises(UserError, match="neither a model nor a run"):
        find(store, "m@00000000")


def test_a_model_means_its_result_and_not_a_younger_check_of_the_judge(store: Store, add_run: AddRun) -> None:
    result = add_run("m", weights="two", samples=SAMPLES)
    add_run("m", weights="one", samples=SAMPLES, scores=[], protocol={"drift": {"candidate": "x"}})
    assert ids(find(store, "m")) == [result]
    assert find(store, "m").notes == ()


def test_a_published_row_is_no_model(store: Store, add_run: AddRun) -> None:
    add_run("a", samples=SAMPLES)
    with pytest.raises(UserError, match="'zephyr-7b-beta' is neither a model nor a run of the store"):
        find(store, "zephyr-7b-beta")


def test_an_unknown_word_gets_close_matches(store: Store, add_run: AddRun) -> None:
    run = add_run("smol-dsft", samples=SAMPLES)
    store.tag(run, "release")
    with pytest.raises(UserError, match=r"Did you mean smol-dsft\?"):
        find(store, "smol-dsf")
    with pytest.raises(UserError, match=f"Did you mean {run}"):
        find(store, f"{run[:-1]}zz")


def test_a_file_is_found_by_path_and_by_name_without_a_store(store: Store, add_run: AddRun, tmp_path: Path) -> None:
    run = add_run("a", samples=SAMPLES)
    path = tmp_path / "own" / "reports" / "baselines" / "release.json"
    write_baseline(store, [store.run(run)], path)
    for word in (str(path), "release"):
        found = find(None, word, include=[tmp_path / "own"])
        assert ids(found) == [run]
        assert found.sides[0].place == str(path)
    with pytest.raises(UserError, match="holds no run of alpaca-eval-1"):
        find(None, str(path), benchmark="alpaca-eval-1")


def test_without_a_store_only_files_can_be_named(tmp_path: Path) -> None:
    for word in ("smol", "nightly@latest"):
        with pytest.raises(UserError, match=f"'{word}' is no baseline file, and there is no store"):
            find(None, word)
    with pytest.raises(UserError, match=r"reports/baselines/none.json does not exist"):
        find(None, "reports/baselines/none.json")


def test_runs_pair_by_benchmark_judge_and_what_they_were_graded_with(store: Store, add_run: AddRun) -> None:
    for name in ("a", "b"):
        add_run(name, samples=SAMPLES)
        add_run(name, samples=SAMPLES, judge="gpt-4")
        add_run(name, "alpaca-eval-mini", samples=preference_samples(1, 0))
    pairs = pair(find(store, "a"), find(store, "b"))
    told = [(left.run.benchmark, left.run.judge, right.run.judge) for left, right in pairs]
    assert told == [
        ("alpaca-eval-mini", "rubric", "rubric"),
        ("mt-bench-mini", "gpt-4", "gpt-4"),
        ("mt-bench-mini", "rubric", "rubric"),
    ]


def test_two_single_runs_pair_whatever_judged_them(store: Store, add_run: AddRun) -> None:
    one, other = add_run("a", samples=SAMPLES), add_run("b", samples=SAMPLES, judge="gpt-4")
    assert len(pair(find(store, one), find(store, other))) == 1
    third = add_run("b", "alpaca-eval-mini", samples=preference_samples(1, 0))
    with pytest.raises(UserError, match="nothing to compare"):
        pair(find(store, one), find(store, third))


def test_checkpoints_of_several_seeds_are_one_side(store: Store, add_run: AddRun) -> None:
    runs = [add_run(f"seed{number}", samples=SAMPLES) for number in range(3)]
    found = find(store, ",".join(runs))
    assert ids(found) == runs[:1]
    assert [side.run.id for side in found.sides[0].members] == runs
    with pytest.raises(UserError, match=f"names run {runs[0]} twice"):
        find(store, f"{runs[0]},seed0")
    other = add_run("x", "alpaca-eval-mini", samples=preference_samples(1, 0))
    with pytest.raises(UserError, match="no benchmark that all of these"):
        find(store, f"{runs[0]},{other}")


def test_a_newer_checkpoint_that_broke_off_before_it_was_tagged_is_told(store: Store, add_run: AddRun) -> None:
    """A tag is often given after success: last night's stands for tonight's otherwise."""
    last = add_run("monday", samples=SAMPLES)
    store.tag(last, "nightly")
    assert find(store, "nightly@latest").notes == ()
    tonight = add_run("tuesday", samples=SAMPLES, status="failed")
    (note,) = find(store, "nightly@latest").notes
    assert f"run {last} of monday (" in note
    assert f"run {tonight} of tuesday (" in note
    assert note.endswith("is failed and has no tag")
    store.tag(add_run("wednesday", samples=SAMPLES), "nightly")
    assert find(store, "nightly@latest").notes == (
        "nightly@latest is wednesday, run " + ids(find(store, "wednesday"))[0],
    )


def test_a_run_of_the_same_references_goes_before_one_that_tells_none(store: Store, add_run: AddRun) -> None:
    def graded(name: str, references: str | None) -> str:
        return add_run(name, samples=SAMPLES, protocol={"limit": None, "references": references})

    base = graded("base", "r1")
    untold, same, _ = (graded("new", references) for references in (None, "r1", "r2"))
    pairs = pair(find(store, "base"), find(store, "new"))
    assert [(left.run.id, right.run.id) for left, right in pairs] == [(base, same)]
    assert [right.run.id for _, right in pair(find(store, "base"), find(store, untold))] == [untold]


def test_a_file_without_runs_says_so(store: Store, tmp_path: Path) -> None:
    write_baseline(store, [], tmp_path / "empty.json")
    with pytest.raises(UserError, match=r"empty\.json: holds no run at all"):
        find(None, str(tmp_path / "empty.json"))
