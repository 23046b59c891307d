"""What a word on the command line means: the runs of a tag, a model, an id, or those of a baseline file.

In: the store (or none: a file needs none) and the word. Out: the sides to compare. Raises UserError in one sentence
for what there is none of.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.fingerprint import short
from zephyr_bench.reports.baselines import baseline_files, read_baseline
from zephyr_bench.reports.ranking import rivals_told
from zephyr_bench.reports.sides import Side, side_of
from zephyr_bench.reports.standings import checkpoint_labels, left_out, runs_that_count
from zephyr_bench.store.run_info import DRIFT

if TYPE_CHECKING:
    from zephyr_bench.store import RunInfo, Store

_NEWEST = "@latest"
_NO_STORE = "there is no store either; name one by --store, or a baseline file"


@dataclass(frozen=True)
class Found:
    """`unfinished` are runs that are newer than what was found in their place, or that nothing stands in for."""

    word: str
    sides: tuple[Side, ...]
    notes: tuple[str, ...] = ()
    unfinished: tuple[RunInfo, ...] = ()


def find(store: Store | None, word: str, *, benchmark: str | None = None, include: Sequence[Path] = ()) -> Found:
    """The runs that count of what the word names, of that benchmark or of all.

    In this order: a baseline file (a path that ends in .json, or its name in reports/baselines/), TAG@latest, a
    model's name or name@12ab34cd, a run's id or its beginning. Several with commas between are one recipe's
    checkpoints, trained with other seeds. `store` is None where there is none. Raises UserError.
    """
    if "," in word and not _names_one(store, word):
        return _several(store, word, benchmark, include)
    if word.endswith(".json"):
        return _of_file(Path(word), word, benchmark)
    if word.endswith(_NEWEST):
        return _of_tag(_needed(store, word), word, benchmark)
    runs = _of_model(store, word) if store else []
    if store and runs:
        return _of_runs(store, word, runs, benchmark)
    files = baseline_files(include)
    if word in files:
        return _of_file(files[word], word, benchmark)
    return _of_id(_needed(store, word), word, benchmark, files)


def names_file(word: str, include: Sequence[Path] = ()) -> bool:
    """Whether it is one that needs no store: a baseline file's path or name, or several."""
    files = baseline_files(include)
    return all(part.strip().endswith(".json") or part.strip() in files for part in word.split(","))


def pair(base: Found, candidate: Found) -> list[tuple[Side, Side]]:
    """Sides of one benchmark that were graded by one judge with the same rivals and references.

    References that one of them doesn't tell are not known to differ; such a one has a partner only where no other
    run tells the same references. Two single runs of one benchmark are a pair whatever else they differ in:
    `check_alike` says so by the field's name. Raises UserError where there is no pair, with what each has.
    """
    pairs = [(a, b) for a in base.sides for b in _partners(a, candidate.sides, base.sides)]
    if not pairs and len(base.sides) == len(candidate.sides) == 1:
        left, right = base.sides[0], candidate.sides[0]
        pairs = [(left, right)] if left.run.benchmark == right.run.benchmark else []
    if not pairs:
        has = [", ".join(sorted({graded(side.run) for side in found.sides})) for found in (base, candidate)]
        raise UserError(
            f"nothing to compare: {base.word} has {has[0]}, {candidate.word} has {has[1]}; "
            f"evaluate both on one benchmark with one judge."
        )
    return sorted(pairs, key=lambda pair: (*_graded_by(pair[0].run), pair[0].run.id))


def runs_of(found: Sequence[Found]) -> list[tuple[RunInfo, ...]]:
    """The store's runs that were found, those of one recipe's seeds together.

    Raises UserError for those of a file, which holds less.
    """
    sides = [side for one in found for side in one.sides]
    if of_file := next((member for side in sides for member in side.members if member.place), None):
        raise UserError(f"{of_file.place} is a baseline file already; name runs of the store.")
    return [tuple(member.run for member in side.members) for side in sides]


def graded(run: RunInfo) -> str:
    """`mt-bench by gpt-4 with references gpt-4-0125-preview`."""
    told = [f"against {rivals_told(run.rivals)}"] if run.rivals else []
    told += [f"by {run.judge}"] if run.judge else []
    told += [f"with references {run.references}"] if run.references else []
    return " ".join([run.benchmark, *told])


def graded_the_same(a: RunInfo, b: RunInfo) -> bool:
    """One benchmark, judge, rivals and references."""
    return _graded_by(a) == _graded_by(b)


def _partners(side: Side, others: Sequence[Side], beside: Sequence[Side]) -> list[Side]:
    """Those of `others` that are graded as `side` is; else one whose references are not known to differ.

    That one must not have a partner of its own in `beside`.
    """
    if exact := [other for other in others if graded_the_same(side.run, other.run)]:
        return exact
    loose = [
        other
        for other in others
        if _graded_by(side.run)[:3] == _graded_by(other.run)[:3]
        and None in (side.run.references, other.run.references)
        and not any(graded_the_same(other.run, one.run) for one in beside)
    ]
    return loose[:1]


def _graded_by(run: RunInfo) -> tuple[str, str, tuple[str, ...], str]:
    return run.benchmark, run.judge or "", run.rivals, run.references or ""


def _needed(store: Store | None, word: str) -> Store:
    if store is None:
        raise UserError(f"'{word}' is no baseline file, and {_NO_STORE}.")
    return store


def _of_file(path: Path, word: str, benchmark: str | None) -> Found:
    sides = [side for side in read_baseline(path) if benchmark in (None, side.run.benchmark)]
    if not sides and benchmark is None:
        raise UserError(f"{path}: holds no run at all; export some into it by `zephyr-bench export baseline`.")
    if not sides:
        raise UserError(f"{path}: holds no run of {benchmark}; export one into it, or leave --benchmark out.")
    return Found(word, tuple(sides))


def _of_tag(store: Store, word: str, benchmark: str | None) -> Found:
    """Of the checkpoint of the newest complete run with the tag, its runs with the tag that count."""
    tag = word.removesuffix(_NEWEST)
    tagged = _results(store.runs(tagged=[tag]))
    whole = [run for run in tagged if run.status == "complete"]
    if not tagged:
        known = {tag for run in store.runs() for tag in run.tags}
        raise UserError(f"no run has the tag '{tag}'.{did_you_mean(tag, known)}")
    if not whole:
        state = f"; the newest, {tagged[0].id}, is {tagged[0].status}" if tagged else ""
        raise UserError(f"no run with the tag '{tag}' is complete{state}.")
    newest = whole[0]
    checkpoint = newest.model_fingerprint, newest.model
    meant = [run for run in whole if (run.model_fingerprint, run.model) == checkpoint]
    notes = [f"{word} is {newest.model}, run {newest.id}"] if len(meant) < len(whole) else []
    broken = _newer_and_broken(tagged)
    notes += [
        f"{word}: {_dated(run)} has the tag, is newer than {_dated(newest)}, and is {run.status}"
        for run in broken
        if run.created >= newest.created
    ]
    notes += _untagged(store, word, tagged[0])
    of_it = [run for run in _results(store.runs()) if (run.model_fingerprint, run.model) == checkpoint]
    broken += [run for run in left_out(of_it) if run not in broken]
    return _counting(store, word, meant, benchmark, notes, broken)


def _newer_and_broken(runs: Sequence[RunInfo]) -> list[RunInfo]:
    """Of each benchmark, judge, rivals and references the newest run, where that isn't complete."""
    newest: dict[tuple[str, ...], RunInfo] = {}
    for run in runs:  # newest first
        newest.setdefault(tuple(map(str, _graded_by(run))), run)
    return [run for run in newest.values() if run.status != "complete"]


def _untagged(store: Store, word: str, newest: RunInfo) -> list[str]:
    """Tags are often given after success: a night that broke off has none, and the one before is found."""
    for run in _results(store.runs()):
        known = (newest.model_fingerprint, newest.model) == (run.model_fingerprint, run.model)
        if known or run.status == "complete" or run.tags or run.created < newest.created:
            continue
        if store.model(run.model_fingerprint).created > store.model(newest.model_fingerprint).created:
            return [f"{word}: the newest with the tag is {_dated(newest)}; {_dated(run)}, a newer checkpoint, is "
                    f"{run.status} and has no tag"]  # fmt: skip
    return []


def _dated(run: RunInfo) -> str:
    return f"run {run.id} of {run.model} ({run.created[:16].replace('T', ' ')} UTC)"


def _of_model(store: Store, word: str) -> list[RunInfo]:
    """Newest first; none where no model has that name."""
    if runs := _results(store.runs(model=word)):
        return runs
    name, _, digits = word.rpartition("@")
    return [run for run in _results(store.runs(model=name)) if short(run.model_fingerprint) == digits] if name else []


def _results(runs: Sequence[RunInfo]) -> list[RunInfo]:
    """Without those that only ask whether the judge moved: they are younger than what they are about."""
    return [run for run in runs if DRIFT not in run.protocol]


def _of_runs(store: Store, word: str, meant: Sequence[RunInfo], benchmark: str | None) -> Found:
    newest, notes = meant[0], []
    if any(run.model_fingerprint != newest.model_fingerprint for run in meant):
        label = f"{newest.model}@{short(newest.model_fingerprint)}"
        notes.append(f"{word} names several checkpoints; the newest, {label}, is compared")
        meant = [run for run in meant if run.model_fingerprint == newest.model_fingerprint]
    return _counting(store, word, meant, benchmark, notes, left_out(meant))


def _counting(
    store: Store,
    word: str,
    meant: Sequence[RunInfo],
    benchmark: str | None,
    notes: Sequence[str],
    unfinished: Sequence[RunInfo],
) -> Found:
    whole = [run for run in runs_that_count(meant) if benchmark in (None, run.benchmark)]
    scores = store.scores_of([run.id for run in whole])
    counting = [run for run in whole if scores[run.id]]  # answers alone compare with nothing
    if not counting:
        if benchmark and benchmark not in (known := {run.benchmark for run in meant}):
            raise UserError(f"{word} has no run of {benchmark}.{did_you_mean(benchmark, known)}")
        if whole:
            raise UserError(
                f"{word} has answers and no scores: judge them first, by `zephyr-bench judge --run {whole[0].id}`."
            )
        what = f" of {benchmark}" if benchmark else ""
        raise UserError(f"{word} has no complete run{what}; evaluate it first, or name a run's id.")
    broken = tuple(run for run in unfinished if benchmark in (None, run.benchmark))
    return Found(word, tuple(side_of(store, run) for run in counting), tuple(notes), broken)


def _of_id(store: Store, word: str, benchmark: str | None, files: dict[str, Path]) -> Found:
    try:
        run = store.run(word)
    except UserError:
        runs = store.runs()
        if any(word and run.id.startswith(word) for run in runs):
            raise  # the beginning of several
        tags = {tag for run in runs for tag in run.tags}
        if word in tags:
            raise UserError(
                f"'{word}' is a tag; write {word}{_NEWEST} for the newest checkpoint that has it."
            ) from None
        known = {*checkpoint_labels(runs).values(), *(f"{tag}{_NEWEST}" for tag in tags), *files}
        close = difflib.get_close_matches(word, [run.id for run in runs], n=2, cutoff=0.5)
        raise UserError(
            f"'{word}' is neither a model nor a run of the store, nor a baseline file."
            f"{did_you_mean(word, close or known)} `zephyr-bench runs` lists them."
        ) from None
    if benchmark not in (None, run.benchmark):
        raise UserError(f"run {run.id} is of {run.benchmark}, not of {benchmark}.")
    return Found(word, (side_of(store, run),))


def _names_one(store: Store | None, word: str) -> bool:
    """A name with a comma in it, of a file or a model."""
    return Path(word).is_file() or (store is not None and bool(store.runs(model=word)))


def _several(store: Store | None, word: str, benchmark: str | None, include: Sequence[Path]) -> Found:
    """The first reference's sides, each with those of the others that are graded alike."""
    found = [
        find(store, part.strip(), benchmark=benchmark, include=include) for part in word.split(",") if part.strip()
    ]
    if twice := [id for id, times in Counter(side.run.id for one in found for side in one.sides).items() if times > 1]:
        raise UserError(f"{word}: names run {twice[0]} twice; expected a run of each seed.")
    sides = []
    for first in found[0].sides if found else ():
        beside = [_partners(first, other.sides, found[0].sides) for other in found[1:]]
        if all(beside):
            sides.append(replace(first, seeds=tuple(matching[0] for matching in beside)))
    if not sides:
        raise UserError(f"{word}: no benchmark that all of these were evaluated on with one judge.")
    notes = tuple(note for one in found for note in one.notes)
    return Found(word, tuple(sides), notes, tuple(run for one in found for run in one.unfinished))
