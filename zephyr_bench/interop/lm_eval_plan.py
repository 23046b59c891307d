"""lm-eval's files as runs, before anything is stored.

Results of one checkpoint, asked alike, are one run, as a version's tasks with their different shots take several calls
of lm-eval; where such files tell of the same tasks, each is a run. Samples join their results (lm_eval_matching.py);
without results those of a folder are a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_bench.errors import UserError
from zephyr_bench.interop.imported_runs import ScoredRun, Told
from zephyr_bench.interop.lm_eval_files import SamplesFile, read_lm_eval_files, within
from zephyr_bench.interop.lm_eval_matching import by_task, matched
from zephyr_bench.interop.lm_eval_results import Results, read_results
from zephyr_bench.interop.lm_eval_rows import labelled
from zephyr_bench.interop.lm_eval_scores import Leaf, Leaves, lacking, protocol_tasks, samples_of, scores_from
from zephyr_bench.interop.lm_eval_suites import Choice, Suite
from zephyr_bench.interop.lm_eval_texts import answers_of

IMPORTED = "lm_eval"  # what a run's environment says of it
RESULTS = "lm_eval_results"  # in a run's environment: the results files as they were read, without samples


@dataclass(frozen=True)
class PlannedRun:
    run: ScoredRun
    tasks: int  # of the benchmark's, whole
    missing: tuple[str, ...]  # the benchmark's tasks that are not there, or not whole
    left_out: tuple[str, ...]  # tasks that are not the benchmark's


def plan_runs(paths: Sequence[Path], choice: Choice, *, model: str | None = None) -> list[PlannedRun]:
    """`model` is the name where the files tell none. Raises UserError naming file, line and key."""
    results_files, samples = read_lm_eval_files(paths)
    results = [read_results(file, model) for file in results_files]
    known = [(found, choice.of_results(found)) for found in results]
    inner = [found for file in results_files for found in within(file)]
    if known:
        rows = matched([*inner, *samples], known)
        return [_of_results(suite, group, rows) for suite, group in _groups(known)]
    return [_of_samples(choice, folder, files, model) for folder, files in _by_folder(samples, model)]


def _groups(known: Sequence[tuple[Results, Suite]]) -> list[tuple[Suite, list[Results]]]:
    alike: dict[tuple[str, str], list[tuple[Results, Suite]]] = {}
    for found, suite in known:
        alike.setdefault((suite.name, found.kind), []).append((found, suite))
    groups = []
    for files in alike.values():
        suite, all_results = files[0][1], [found for found, _ in files]
        if all(found.leaves.keys() == all_results[0].leaves.keys() for found in all_results):
            groups += [(suite, [found]) for found in all_results]
        else:
            _check_apart(all_results)
            groups.append((suite, all_results))
    return groups


def _check_apart(results: Iterable[Results]) -> None:
    seen: dict[str, Results] = {}
    for found in results:
        for leaf in found.leaves:
            other = seen.setdefault(leaf, found)
            if other is not found:
                raise UserError(
                    f"{other.path} and {found.path} both have results of {found.model} on {leaf}, but not on the same "
                    "tasks in all; import them one by one."
                )


def _by_folder(samples: Iterable[SamplesFile], model: str | None) -> list[tuple[Path, list[SamplesFile]]]:
    """Under one name that was given, all are of one run."""
    found: dict[Path, list[SamplesFile]] = {}
    for file in samples:
        folder = file.path.resolve().parent
        found.setdefault(next(iter(found), folder) if model else folder, []).append(file)
    return list(found.items())


def _of_results(suite: Suite, group: Sequence[Results], rows: Mapping[tuple[Path, str], SamplesFile]) -> PlannedRun:
    first = group[0]
    leaves = {leaf: Leaf(found.leaves[leaf], rows.get((found.path, leaf))) for found in group for leaf in found.leaves}
    told = {key: value for found in group for key, value in _environment(found).items()}
    environment = {**told, RESULTS: [dict(found.file.raw) for found in group]}
    return _planned(suite, first.model, leaves, first.asked, environment)


def _environment(found: Results) -> dict[str, Any]:
    """As far as our own runs tell it, too."""
    versions = {"lm_eval": found.asked.get("lm_eval"), "transformers": found.file.fields.transformers_version}
    return {name: version for name, version in versions.items() if version}


def _of_samples(choice: Choice, folder: Path, files: Sequence[SamplesFile], model: str | None) -> PlannedRun:
    suite = choice.of_samples(files[0].path)
    leaves = {leaf: Leaf(None, file) for leaf, file in by_task(files, suite).items()}
    return _planned(suite, model or folder.name, leaves, {}, {})


def _planned(
    suite: Suite, model: str, leaves: Leaves, asked: Mapping[str, Any], environment: Mapping[str, Any]
) -> PlannedRun:
    own = {leaf: leaves[leaf] for task in suite.tasks for leaf in suite.leaves[task.task] if leaf in leaves}
    samples = samples_of(suite, own)
    scores = scores_from(suite, own, samples)
    missing = tuple(task.task for task in suite.tasks if not all(leaf in own for leaf in suite.leaves[task.task]))
    left_out = tuple(leaf for leaf in leaves if leaf not in own)
    tasks = protocol_tasks(suite, own)
    only = [entry["task"] for entry in tasks] if missing else None  # as a run of these tasks made here tells it
    run = ScoredRun(
        benchmark=suite.name,
        model=model,
        judge=None,
        answers={answer.key: (question, answer) for question, answer in _answers(model, own)},
        judgments={},
        samples=[*lacking(suite, own, scores), *samples],
        scores=scores,
        protocol={"tasks": tasks, "only": only, **asked},
        environment={"imported": IMPORTED, **environment},
        not_judged=0,
    )
    return PlannedRun(run, len(suite.tasks) - len(missing), missing, left_out)


def _answers(model: str, leaves: Leaves) -> Iterable[Told]:
    """The texts that the model wrote."""
    for name, leaf in leaves.items():
        if leaf.samples is None:
            continue
        documents: dict[int, list[Mapping[str, Any]]] = {}
        for entry in labelled(leaf.samples, name, leaf.filters):
            if entry.row.generated is not None:
                documents.setdefault(entry.row.doc_id, []).append(entry.row.generated)
        for rows in documents.values():
            yield from answers_of(model, name, rows)
