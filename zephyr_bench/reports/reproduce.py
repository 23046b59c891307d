"""Is what others published of a recipe's models reproduced? Each figure beside ours, with an equivalence test (TOST).

In: the store, a recipe that names the published models its stages stand for, reports/published, margins. Out: rows,
which reproduction_table.py prints. Statistics are in stats/equivalence.py; why it is so, in docs/design/reproduce.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.recipe import Recipe
from zephyr_bench.records import Score
from zephyr_bench.reports.contributions import contributions
from zephyr_bench.reports.counted import COUNTS
from zephyr_bench.reports.gate_margins import declared_of
from zephyr_bench.reports.published import Published, load_published
from zephyr_bench.reports.ranking import rivals_told
from zephyr_bench.stats.equivalence import Equivalence, Figure, Reproduction, equivalence
from zephyr_bench.store.run_info import DRIFT, SEQUENTIAL
from zephyr_bench.store.where import quoted

if TYPE_CHECKING:
    from zephyr_bench.store import RunInfo, Store

_OTHER_UNITS = {*COUNTS, "avg-length"}  # a benchmark's margin is in points or per cent
_POWER = 0.8  # that the questions needed would have
_MOST = 10**9  # questions
_VERSION = r"-(\d{4}|\d{4}-\d\d-\d\d)"  # of a judge: gpt-4-0613


class Verdict(StrEnum):
    """The test's, and what keeps one from being made."""

    REPRODUCED = Reproduction.REPRODUCED.value
    NOT_REPRODUCED = Reproduction.NOT_REPRODUCED.value
    CANT_TELL = Reproduction.CANT_TELL.value
    NOT_COMPARABLE = "not comparable"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class PublishedFigure:
    """One printed number with all that its source tells of it."""

    model: str
    benchmark: str
    metric: str
    value: float
    stderr: float | None
    n: int | None
    judge: str | None
    references: str | None
    year: int
    source: str
    where: str
    url: str
    note: str


@dataclass(frozen=True)
class Ours:
    run: RunInfo
    score: Score
    questions: int  # behind the score, each once


@dataclass(frozen=True)
class Row:
    stage: str
    published: PublishedFigure
    ours: Ours | None
    verdict: Verdict
    why: str = ""  # a sentence, without its full stop; "" where the verdict says all
    remarks: tuple[str, ...] = ()  # what a reader should know, though the verdict doesn't hang on it
    margin: float | None = None
    test: Equivalence | None = None
    questions_needed: int | None = None  # for a verdict of "reproduced" 4 times in 5, where nothing differs
    margin_needed: float | None = None  # likewise, with the questions that there are


def reproduction(
    store: Store, recipe: Recipe, *, margins: Mapping[str, float] | None = None, include: Sequence[Path] = ()
) -> list[Row]:
    """A row for each figure published of a model that the recipe reproduces, stage by stage, in the sources' order.

    `margins` are by benchmark, or by benchmark:metric; others are the benchmarks' own. Raises UserError for a margin of
    nothing that is published here, and for a model that no source knows.
    """
    sources = load_published(include)
    named: dict[str, str] = {stage: model for stage, model in recipe.reproduces.items()}  # noqa: C416
    chosen = {stage: _figures(sources, model) for stage, model in named.items()}
    for stage, figures in chosen.items():
        if not figures:
            known = {f.model for source in sources for table in source.tables for f in table.figures}
            model = named[stage]
            raise UserError(
                f"recipe {recipe.name}: reproduces.{stage} names '{model}', of which reports/published has no figure."
                f"{did_you_mean(model, known)}"
            )
    _check(margins or {}, [figure for figures in chosen.values() for figure in figures])
    own = _Margins(margins or {}, include)
    rows = []
    for stage, figures in chosen.items():
        candidates = _candidates(store, recipe, stage, named[stage])
        for figure in figures:
            ours, remarks, why = _ours(store, recipe, stage, figure, candidates)
            rows.append(_row(stage, figure, ours, own.of(figure), remarks, why))
    return rows


def nothing_published(recipe: Recipe) -> str:
    return (
        f"recipe {recipe.name} reproduces no published model; one that does names it under `reproduces`, by stage, as "
        f"trainers/zephyr7b.yaml."
    )


def decide(
    ours: Figure, published: Figure, margin: float
) -> tuple[Equivalence, Verdict, str, int | None, float | None]:
    """(test, verdict, why it can't be told, questions needed, margin needed)."""
    test = equivalence(ours, published, margin=margin)
    verdict = Verdict(test.verdict.value)
    if verdict is not Verdict.CANT_TELL:
        return test, verdict, "", None, None
    if test.stderr is None:
        return test, verdict, "our run has no standard error for it", None, None
    wide = margin_needed(ours, published)
    if test.power is not None and test.power >= _POWER:
        return test, verdict, "the difference lies too near the margin", None, wide
    enough = questions_needed(ours, published, margin=margin)
    has = "" if ours.n is None else f"{ours.n} questions are too few for margin {margin:g}: "
    more = (
        f"about {enough} would do" if enough else "no number is enough, as the published figure's own error is as large"
    )
    return test, verdict, f"{has}{more}; a margin of {wide:.2g} could be told", enough, wide


def questions_needed(ours: Figure, published: Figure, *, margin: float) -> int | None:
    """For a power of 0.8 where nothing differs; None where the published figure's own error forbids it.

    Our error falls with the square root of the questions, the published one stays: where none is told, it is what ours
    is now.
    """
    if ours.stderr is None or not ours.n:
        return None
    spread = ours.stderr * math.sqrt(ours.n)
    other = ours.stderr if published.stderr is None else published.stderr
    there = Figure(0.0, other, ours.n if published.stderr is None else published.n)

    def enough(n: int) -> bool:
        power = equivalence(Figure(0.0, spread / math.sqrt(n), n), there, margin=margin).power
        return power is not None and power >= _POWER

    if not enough(_MOST):
        return None
    low, high = 1, 2
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def margin_needed(ours: Figure, published: Figure) -> float:
    """The smallest margin that these errors would show equivalence within, 4 times in 5."""
    there = Figure(0.0, published.stderr, published.n)
    here = Figure(0.0, ours.stderr, ours.n)

    def enough(margin: float) -> bool:
        power = equivalence(here, there, margin=margin).power
        return power is not None and power >= _POWER

    high = 1e-6
    while not enough(high):
        high *= 2
    low = high / 2
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _figures(sources: Sequence[Published], model: str) -> list[PublishedFigure]:
    return [
        PublishedFigure(
            model=model,
            benchmark=table.benchmark,
            metric=figure.metric or table.metric or "",
            value=figure.value,
            stderr=figure.stderr,
            n=figure.n,
            judge=table.judge,
            references=table.references,
            year=source.year,
            source=source.source,
            where=table.where,
            url=source.url,
            note=figure.note,
        )
        for source in sources
        for table in source.tables
        for figure in table.figures
        if figure.model == model
    ]


def _check(margins: Mapping[str, float], figures: Sequence[PublishedFigure]) -> None:
    known = {name for f in figures for name in (f.benchmark, f"{f.benchmark}:{f.metric}")}
    for name in margins:
        if figures and name not in known:
            raise UserError(f"--margin {name}=…: no figure of that is published here.{did_you_mean(name, known)}")


class _Margins:
    """In a metric's units: the user's, else the benchmark's, which is in those of its headline."""

    def __init__(self, given: Mapping[str, float], include: Sequence[Path]) -> None:
        self._given = given
        self._include = include

    def of(self, figure: PublishedFigure) -> float | None:
        for name in (f"{figure.benchmark}:{figure.metric}", figure.benchmark):
            if name in self._given and (":" in name or figure.metric not in _OTHER_UNITS):
                return self._given[name]
        if figure.metric in _OTHER_UNITS:
            return None
        declared = declared_of(figure.benchmark, self._include)
        return declared and declared[1]


def _candidates(store: Store, recipe: Recipe, stage: str, theirs: str) -> list[tuple[RunInfo, str]]:
    """(run, remark) of complete runs of that stage's model, best known first: by lineage, by our name, by theirs."""
    found: list[tuple[RunInfo, str]] = []
    if stage != "start":
        trained = store.runs(where=f"recipe={quoted(recipe.name)} and stage={stage} and status=complete")
        found += [(run, "") for run in trained]
    names = [Path(recipe.model).name if stage == "start" else f"{recipe.name}-{stage}", theirs]
    for name in dict.fromkeys(names):
        told = f"{name} as others made it, measured here: no model that the recipe trained"
        remark = told if stage != "start" and name == names[-1] else ""
        known = {run.id for run, _ in found}
        found += [(run, remark) for run in store.runs(model=name, status="complete") if run.id not in known]
    # a checkpoint from the midst of training has the recipe's name, too
    return [(run, told) for run, told in found if DRIFT not in run.protocol and _is_finished(store, run)]


def _is_finished(store: Store, run: RunInfo) -> bool:
    """Its model isn't a checkpoint from the midst of training."""
    lineage = store.model(run.model_fingerprint).lineage
    training = store.training(str(lineage.get("stage_fingerprint") or ""))
    steps = lineage.get("steps")
    return training is None or not isinstance(steps, int) or steps >= training.steps


def _ours(
    store: Store, recipe: Recipe, stage: str, figure: PublishedFigure, candidates: Sequence[tuple[RunInfo, str]]
) -> tuple[Ours | None, tuple[str, ...], str]:
    """(the run that counts, remarks, why it can't be held against the figure)."""
    of_benchmark = [(run, remark) for run, remark in candidates if run.benchmark == figure.benchmark]
    scored = [
        (run, remark, score)
        for run, remark in of_benchmark
        for score in store.scores_of([run.id])[run.id]
        if score.metric == figure.metric and score.value is not None
    ]
    whole = [entry for entry in scored if _is_whole(entry[0], figure.metric)]
    if not whole:
        if scored:
            return None, (), f"run {scored[0][0].id} of {scored[0][0].model} is of a part of {figure.benchmark} only"
        other = f"; runs of {figure.benchmark} have no {figure.metric}" if of_benchmark else ""
        return None, (), f"no complete run of {recipe.name}'s {stage} model on {figure.benchmark}{other}"
    run, remark, score = next((entry for entry in whole if not _incomparable(entry[0], figure)), whole[0])
    remarks = [remark] if remark else []
    if run.judge is not None and run.judge != figure.judge and not _incomparable(run, figure):
        remarks.append(f"judged by {run.judge} here, by {figure.judge} there: taken for one judge")
    if figure.references and run.references is None:
        remarks.append(f"judged there with references {figure.references}; the run doesn't tell which it had")
    if score.missing:
        remarks.append(f"{score.missing} of {score.n + score.missing} have no score here and are left out")
    return Ours(run, score, _questions(store, run, score)), tuple(remarks), _incomparable(run, figure)


def _is_whole(run: RunInfo, metric: str) -> bool:
    """All the questions behind that metric were asked: a task of a selection is as whole as in the suite."""
    only = run.protocol.get("only")
    limited = run.protocol.get("limit") is not None or SEQUENTIAL in run.protocol
    return not limited and (not only or metric in only)


def _incomparable(run: RunInfo, figure: PublishedFigure) -> str:
    if not _same_judge(figure.judge, run.judge):
        return f"judged by {run.judge or 'nobody'} here, by {figure.judge or 'a judge that is not named'} there"
    if run.rivals:
        return f"compared with {rivals_told(run.rivals)} here, with the benchmark's own baseline there"
    if None not in (figure.references, run.references) and figure.references != run.references:
        return f"judged with references {run.references} here, {figure.references} there"
    return ""


def _same_judge(published: str | None, ours: str | None) -> bool:
    """One model, perhaps of another day: gpt-4 and gpt-4-0613, and AlpacaEval's annotator alpaca_eval_gpt4."""
    if published is None or ours is None:
        return published is ours
    if any(re.fullmatch(re.escape(one) + _VERSION, other) for one, other in ((published, ours), (ours, published))):
        return True
    return _squeezed(ours) == _squeezed(published) or _squeezed(ours) == "alpacaeval" + _squeezed(published)


def _squeezed(name: str) -> str:
    return re.sub(r"[-_. ]", "", name.lower())


def _questions(store: Store, run: RunInfo, score: Score) -> int:
    """Behind the score, its turns and repeats counted once; as many as it says where samples don't tell."""
    values = contributions(store.samples_of(run.id), [score], run.protocol).get(score.metric, [])
    return len({value.question for value in values}) or score.n


def _row(
    stage: str, figure: PublishedFigure, ours: Ours | None, margin: float | None, remarks: tuple[str, ...], why: str
) -> Row:
    if ours is None:
        return Row(stage, figure, None, Verdict.NOT_MEASURED, why, margin=margin)
    if why:
        return Row(stage, figure, ours, Verdict.NOT_COMPARABLE, why, remarks, margin)
    if margin is None:
        option = f"--margin {figure.benchmark}:{figure.metric}=M"
        told = f"no margin for {figure.metric}: say how near is near enough, by {option}"
        return Row(stage, figure, ours, Verdict.CANT_TELL, told, remarks)
    here = Figure(ours.score.value, ours.score.stderr, ours.questions)
    test, verdict, told, enough, wide = decide(here, Figure(figure.value, figure.stderr, figure.n), margin)
    return Row(stage, figure, ours, verdict, told, remarks, margin, test, enough, wide)
