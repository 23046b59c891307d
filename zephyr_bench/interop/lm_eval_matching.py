"""Which samples belong to which results. No row tells its model or its task, so this is told by, in this order:

1. the task: results hash the rows of each task (`task_hashes`); where there are no hashes, the task that the file's
   name has in it, else any that has the rows' metrics;
2. the folder: lm-eval writes both into one; where none of the results lies beside the samples, all remain;
3. the numbers: the rows' means must be the results' numbers, or the two are not of one run;
4. the time in the names, which lm-eval gives both alike.

What is still of several runs then is refused. Samples for which there are no results have the task that their name
tells, and their folder, which lm-eval names after the model, is the run. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zephyr_bench.errors import UserError
from zephyr_bench.interop.lm_eval_files import SamplesFile
from zephyr_bench.interop.lm_eval_names import Label
from zephyr_bench.interop.lm_eval_results import Results
from zephyr_bench.interop.lm_eval_rows import labelled, share
from zephyr_bench.interop.lm_eval_suites import Suite

SAME = 1e-9  # of two computations of one mean
_TIME = re.compile(r"_(\d{4}-\d\d-\d\dT[\d.+-]+)\.json", re.ASCII)


@dataclass(frozen=True)
class Place:
    """A task of a results file."""

    results: Results
    suite: Suite
    leaf: str

    def difference(self, file: SamplesFile) -> str | None:
        """How the rows' means are not what the results tell; None where they agree, as far as there are numbers."""
        if self.leaf not in self.suite.owners:
            return None
        found = self.results.leaves[self.leaf]
        for label in self.suite.labels(self.leaf):
            theirs, ours = found.figure(label).value, share(file, label, self.leaf, found.filters)
            if theirs is not None and ours is not None and abs(ours - theirs) > SAME:
                return f"its rows give {found.name} {','.join(label)} {ours:.6g}, and {found.file} tells {theirs:.6g}"
        return None


def matched(
    samples: Iterable[SamplesFile], results: Sequence[tuple[Results, Suite]]
) -> dict[tuple[Path, str], SamplesFile]:
    """By results file and task. Raises UserError for samples of none of the results, or of several."""
    places = [Place(found, suite, leaf) for found, suite in results for leaf in found.leaves]
    taken: dict[tuple[Path, str], SamplesFile] = {}
    for file in samples:
        place = _place_of(file, places)
        known = taken.setdefault((place.results.path, place.leaf), file)
        if known.digest != file.digest:
            raise UserError(
                f"{known.path} and {file.path} both hold samples of {place.leaf} for {place.results.path}; give one."
            )
    return taken


def _place_of(file: SamplesFile, places: Sequence[Place]) -> Place:
    if file.task is not None:
        return next(p for p in places if p.results.path == file.path and p.results.leaves[p.leaf].name == file.task)
    told = _of_the_task(file, places)
    beside = [place for place in told if place.results.path.resolve().parent == file.path.resolve().parent] or told
    differences = [place.difference(file) for place in beside]
    left = [place for place, difference in zip(beside, differences, strict=True) if difference is None]
    if not left:
        raise UserError(f"{file.path}: {differences[0]}; they are not of one run, or rows are lacking.")
    left = [place for place in left if _time(place.results.path) == _time(file.path)] or left
    if len(left) > 1:
        first, second, *_ = left
        raise UserError(
            f"{file.path}: may belong to {first.results.path} ({first.leaf}) or {second.results.path} "
            f"({second.leaf}); import them one by one."
        )
    return left[0]


def _of_the_task(file: SamplesFile, places: Sequence[Place]) -> list[Place]:
    hashes = [(place, place.results.file.fields.task_hashes.get(_in_file(place))) for place in places]
    if file.task_hash is not None and any(told for _, told in hashes):
        found = [place for place, told in hashes if told in (None, file.task_hash)]
        certain = [place for place, told in hashes if told == file.task_hash]
        found = certain or _named(file, found)
    else:
        metrics = {metric for row in file.rows for metric in row.values}
        alike = [place for place in places if metrics & {label[0] for label in _labels(place)}]
        found = _named(file, places) or alike
    if not found:
        raise UserError(f"{file.path}: holds samples of no task of the results given; import it apart from them.")
    if len({place.leaf for place in found}) > 1:  # tasks that ask the same of the same documents
        found = _named(file, found) or found
    return found


def _in_file(place: Place) -> str:
    return place.results.leaves[place.leaf].name


def _labels(place: Place) -> Iterable[Label]:
    return place.results.leaves[place.leaf].told


def _named(file: SamplesFile, places: Sequence[Place]) -> list[Place]:
    task = task_in_name(file.path, {_in_file(place) for place in places})
    return [place for place in places if _in_file(place) == task]


def task_in_name(path: Path, tasks: Iterable[str]) -> str | None:
    """The longest of these tasks that a file's name has in it."""
    found = [task for task in tasks if re.search(rf"(?<![^_]){re.escape(task)}(?=_|\.|$)", path.name)]
    return max(found, key=len, default=None)


def by_task(files: Iterable[SamplesFile], suite: Suite) -> Mapping[str, SamplesFile]:
    """Of samples without results. Raises UserError where a name tells no task, or two the same."""
    found: dict[str, SamplesFile] = {}
    for file in files:
        leaf = task_in_name(file.path, suite.owners)
        if leaf is None:
            raise UserError(
                f"{file.path}: samples don't tell their task; give their results file, too, or keep lm-eval's name "
                f"for them, samples_TASK_TIME.jsonl, with a task of {suite.name}."
            )
        known = found.setdefault(leaf, file)
        if known.digest != file.digest:
            raise UserError(f"{known.path} and {file.path} both hold samples of {leaf}; import them one by one.")
    return found


def check_labels(leaf: str, suite: Suite, file: SamplesFile, filters: Sequence[str]) -> None:
    """Raises UserError for rows that lack a metric that counts."""
    there = {label for row in labelled(file, leaf, filters) for label in row.values}
    for label in suite.labels(leaf):
        if label not in there:
            known = ", ".join(sorted(",".join(other) for other in there)) or "none"
            raise UserError(f"{file.path}: its rows tell no {','.join(label)} of {leaf}, only {known}.")


def _time(path: Path) -> str | None:
    found = _TIME.search(path.name)
    return found[1] if found else None
