"""Rank ranges: models whose difference isn't significant share ranks.

In: standings of one leaderboard, the store with the runs behind them. Out: the standings, those that can be ranked with
the ranks that their model may have in its column. What is tested, and what isn't: docs/design/leaderboard.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zephyr_bench.fingerprint import canonical_json
from zephyr_bench.records import Score
from zephyr_bench.reports.contributions import Key
from zephyr_bench.reports.kept_terms import Shape, TermsOfRuns, terms_of
from zephyr_bench.reports.protocols import compared_fields
from zephyr_bench.reports.ranking import Column, Headlines, column_of, headline_of
from zephyr_bench.reports.standings import RankRange, Standing, protocol_and_judge, usual_run
from zephyr_bench.stats.all_pairs import AllPairs, Part, all_pairs, holm_rejects
from zephyr_bench.store.run_info import release

if TYPE_CHECKING:
    from zephyr_bench.store import RunInfo, Store

LEVEL = 0.05  # the chance of any false difference in a column
NOTE = (
    "1–3: the ranks that a model may have; models whose difference isn't significant share theirs (paired by question, "
    "5 % for all pairs of a column together, by Holm)"
)
_SHARED = 0.5  # of either model's questions; two that have fewer in common aren't compared
_LEAST_SUBJECTS = 6  # that count as draws of their own: claims.LEAST_QUESTIONS, whose import loads scipy


def with_rank_ranges(
    store: Store, runs: Sequence[RunInfo], standings: Sequence[Standing], headlines: Headlines
) -> list[Standing]:
    """Those measured get their ranks in their column, where it has two or more; published ones have none.

    A run that `compare` would refuse beside most of its column has none either, and a remark that says why.
    """
    by_id = {run.id: run for run in runs}
    found = list(standings)
    columns: dict[Column, list[int]] = {}
    for place, standing in enumerate(standings):
        score = standing.score(headline_of(standing.benchmark, standings, headlines))
        if standing.run in by_id and score is not None and score.value is not None:
            columns.setdefault(column_of(standing), []).append(place)
    for column, places in columns.items():
        metric = headline_of(column.benchmark, standings, headlines)
        own = [by_id[standings[place].run or ""] for place in places]
        likeness = _Likeness(own)
        odd = _unlike(own, likeness)
        for place, run in zip(places, own, strict=True):
            if run.id in odd:
                found[place] = replace(standings[place], remarks=(*standings[place].remarks, odd[run.id]))
        alike = [place for place, run in zip(places, own, strict=True) if run.id not in odd]
        if len(alike) > 1:
            for place, ranked in zip(alike, _ranked(store, by_id, standings, alike, metric, likeness), strict=True):
                found[place] = replace(found[place], **ranked)
    return found


class _Likeness:
    """In what runs of a column differ, for `compare`; looked at once for all runs that were made alike."""

    def __init__(self, runs: Sequence[RunInfo]) -> None:
        self.conditions = {run.id: _conditions(run) for run in runs}
        self._known: dict[tuple[str, str], str] = {}

    def difference(self, base: RunInfo, candidate: RunInfo) -> str:
        """`temperature: 0.0 against 0.7`; empty where `compare` takes the two."""
        key = self.conditions[base.id], self.conditions[candidate.id]
        if key not in self._known:
            fields = compared_fields(base, candidate).allowed if key[0] != key[1] else ()
            shown = "; ".join(str(entry) for entry in fields[:3])
            self._known[key] = shown + (f"; {len(fields) - 3} more" if len(fields) > 3 else "")
        return self._known[key]


def _conditions(run: RunInfo) -> str:
    """All that `compare` looks at before it takes two runs."""
    version = release(run.version) if run.version else ""
    return canonical_json([protocol_and_judge(run), run.judge, run.references, version, bool(run.imported)])


def _unlike(runs: Sequence[RunInfo], likeness: _Likeness) -> dict[str, str]:
    """By run id, of those that aren't made as most of the column: in what they differ."""
    most = usual_run(runs, _conditions)
    differences = {run.id: likeness.difference(most, run) for run in runs}
    return {id: f"no rank: not made as {most.model} was ({told})" for id, told in differences.items() if told}


def _unlike_pairs(runs: Sequence[RunInfo], likeness: _Likeness) -> list[tuple[int, int]]:
    """Places of two that `compare` would refuse, though it takes either beside most of the column.

    So it is where most of the column doesn't tell what these two do, as imports.
    """
    groups: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        groups.setdefault(likeness.conditions[run.id], []).append(place)
    return [
        (first, second)
        for ours, theirs in combinations(groups.values(), 2)
        if likeness.difference(runs[ours[0]], runs[theirs[0]])
        for first in ours
        for second in theirs
    ]


def _ranked(
    store: Store,
    runs: Mapping[str, RunInfo],
    standings: Sequence[Standing],
    places: Sequence[int],
    metric: str,
    likeness: _Likeness,
) -> list[dict[str, Any]]:
    """What changes in the standings at these places: rank, remarks."""
    chosen = [standings[place] for place in places]
    ids = [standing.run or "" for standing in chosen]
    scores = {id: standing.scores for id, standing in zip(ids, chosen, strict=True)}
    terms = terms_of(store, [runs[id] for id in ids], scores, metric)
    totals = [score for standing in chosen if (score := standing.score(metric)) is not None]
    tests = pair_tests(ids, totals, terms)
    apart: dict[int, list[str]] = {}
    for pair in _unlike_pairs([runs[id] for id in ids], likeness):
        for own, other in (pair, pair[::-1]):
            tests.p_value[own, other] = np.nan  # one more test that can't tell
            told = likeness.difference(runs[ids[own]], runs[ids[other]])
            apart.setdefault(own, []).append(f"{chosen[other].model} ({told})")
    ranges = rank_ranges(tests)
    alone = "rank by standard errors alone, not question by question"
    return [
        {
            "rank": rank,
            "remarks": (
                *standing.remarks,
                *([] if rank is None or terms.terms[id].paired else [alone]),
                *([_not_tested(apart[place])] if place in apart else []),
            ),
        }
        for place, (id, standing, rank) in enumerate(zip(ids, chosen, ranges, strict=True))
    ]


def _not_tested(others: Sequence[str]) -> str:
    first, *more = sorted(others)
    return f"not tested against {first}{f', and {len(more)} more' if more else ''}: not made alike"


def rank_ranges(tests: AllPairs) -> list[RankRange | None]:
    """From 1 + those significantly better to all but those significantly worse; None: nothing is known of the model."""
    models = len(tests.value)
    first, second = np.triu_indices(models, 1)
    rejected = holm_rejects(tests.p_value[first, second], LEVEL)
    told = ~np.isnan(tests.p_value)
    np.fill_diagonal(told, False)
    above = np.zeros((models, models), dtype=np.bool_)  # [i, j]: j is significantly better than i
    first, second = first[rejected], second[rejected]
    up = tests.value[first, second] > 0
    above[first[up], second[up]] = True
    above[second[~up], first[~up]] = True
    better, worse = above.sum(axis=1), above.sum(axis=0)
    count = int(told.any(axis=1).sum())
    return [
        RankRange(1 + int(better[model]), count - int(worse[model])) if told[model].any() else None
        for model in range(models)
    ]


def pair_tests(ids: Sequence[str], totals: Sequence[Score], terms: TermsOfRuns) -> AllPairs:
    """Of every two models: by question where both have terms, else by their standard errors."""
    paired = all(terms.terms[id].paired for id in ids)
    tests = _unknown(len(ids)) if paired else _unpaired(totals)
    by_shape: dict[str, list[int]] = {}
    for model, id in enumerate(ids):
        if terms.terms[id].paired:
            by_shape.setdefault(terms.terms[id].shape, []).append(model)
    every = _Keys.of([terms.shapes[shape] for shape in by_shape])
    groups = [
        (every.places(terms.shapes[shape]), members, np.array([terms.terms[ids[m]].values for m in members]))
        for shape, members in by_shape.items()
    ]
    for number, (places, members, values) in enumerate(groups):
        _put(tests, members, members, all_pairs(every.parts(places, values)))
        for other_places, other_members, other_values in groups[number + 1 :]:
            shared, left, right = np.intersect1d(places, other_places, assume_unique=True, return_indices=True)
            both = [*members, *other_members]
            if len(shared) < _SHARED * max(len(places), len(other_places)):
                found = _unknown(len(both))
            else:
                stacked = np.concatenate([values[:, left], other_values[:, right]])
                found = all_pairs(every.parts(shared, stacked))
            across = [slice(0, len(members)), slice(len(members), len(both))]
            for rows, columns in (across, across[::-1]):
                cut = AllPairs(*(matrix[rows, columns] for matrix in (found.value, found.stderr, found.p_value)))
                _put(tests, both[rows], both[columns], cut)
    return tests


def _put(tests: AllPairs, rows: Sequence[int], columns: Sequence[int], found: AllPairs) -> None:
    block = np.ix_(rows, columns)
    tests.value[block], tests.stderr[block], tests.p_value[block] = found.value, found.stderr, found.p_value


def _unknown(models: int) -> AllPairs:
    return AllPairs(*(np.full((models, models), np.nan) for _ in range(3)))


def _unpaired(totals: Sequence[Score]) -> AllPairs:
    """By the normal distribution of independent means; what one of the errors isn't known of, can't tell."""
    from scipy.special import ndtr

    values = np.array([score.value for score in totals], dtype=np.float64)
    errors = np.array([np.nan if score.stderr is None else score.stderr for score in totals])
    value, stderr = values[None, :] - values[:, None], np.hypot(errors[None, :], errors[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        p_value = 2 * ndtr(-np.abs(value) / stderr)
    p_value[stderr == 0] = np.nan
    return AllPairs(value, stderr, p_value)


@dataclass(frozen=True)
class _Keys:
    """All keys of a column's runs, in order, as numbers."""

    place: Mapping[Key, int]
    questions: NDArray[np.int64]  # (keys,)
    paths: tuple[tuple[str, ...], ...]  # the distinct ones
    path: NDArray[np.int64]  # (keys,) place in `paths`
    swings: tuple[float | None, ...]

    @staticmethod
    def of(shapes: Sequence[Shape]) -> _Keys:
        told: dict[Key, tuple[tuple[str, ...], float | None]] = {}
        for shape in shapes:
            told.update(zip(shape.keys, zip(shape.paths, shape.swings, strict=True), strict=True))
        keys = sorted(told)
        questions: dict[str, int] = {}
        paths: dict[tuple[str, ...], int] = {}
        return _Keys(
            place={key: place for place, key in enumerate(keys)},
            questions=np.array([questions.setdefault(key[0], len(questions)) for key in keys], dtype=np.int64),
            path=np.array([paths.setdefault(told[key][0], len(paths)) for key in keys], dtype=np.int64),
            paths=tuple(paths),
            swings=tuple(told[key][1] for key in keys),
        )

    def places(self, shape: Shape) -> NDArray[np.int64]:
        return np.array([self.place[key] for key in shape.keys], dtype=np.int64)

    def parts(self, places: NDArray[np.int64], values: NDArray[np.float64]) -> list[Part]:
        """Of values (models, places): the independent means that `comparison._difference` takes them for."""
        own = self.path[places]
        members = {path: np.flatnonzero(own == path) for path in np.unique(own).tolist()}
        return self._descend(places, values, members, depth=0, weight=1.0)

    def _descend(
        self,
        places: NDArray[np.int64],
        values: NDArray[np.float64],
        members: Mapping[int, NDArray[np.intp]],
        *,
        depth: int,
        weight: float,
    ) -> list[Part]:
        branches: dict[str, dict[int, NDArray[np.intp]]] = {}
        for path, columns in members.items():
            if len(self.paths[path]) == depth:
                swing = self.swings[places[columns[0]]]
                return [_by_question(self.questions[places[columns]], values[:, columns], weight, swing)]
            branches.setdefault(self.paths[path][depth], {})[path] = columns
        innermost = all(len(self.paths[path]) == depth + 1 for path in members)
        if innermost and len(members) >= _LEAST_SUBJECTS:
            means = np.stack([values[:, columns].mean(axis=1) for columns in members.values()], axis=1)
            return [Part(means, np.ones(len(members)), weight)]
        share = weight / len(branches)
        return [
            part
            for branch in branches.values()
            for part in self._descend(places, values, branch, depth=depth + 1, weight=share)
        ]


def _by_question(questions: NDArray[np.int64], values: NDArray[np.float64], weight: float, swing: float | None) -> Part:
    """Turns of a question, which stand side by side, count together."""
    starts = np.flatnonzero(np.diff(questions, prepend=-1))
    if len(starts) == len(questions):
        return Part(values, np.ones(len(questions)), weight, swing)
    sizes = np.diff(starts, append=len(questions)).astype(np.float64)
    return Part(np.add.reduceat(values, starts, axis=1), sizes, weight, swing)
