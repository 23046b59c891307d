"""What a recipe achieved: its checkpoints side by side, what training changed, what the time went on.

In: the store, the runs that `train-and-eval` made, its timings. Out: text. Reads only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zephyr_bench.records import Score
from zephyr_bench.reports.changes import changes
from zephyr_bench.reports.leaderboard import headline_table
from zephyr_bench.reports.ranking import Headlines, render_standings
from zephyr_bench.reports.render import render_table
from zephyr_bench.reports.standings import checkpoint_labels, measured
from zephyr_bench.reports.trainings import training_told

if TYPE_CHECKING:
    from zephyr_bench.store import Store


@dataclass(frozen=True)
class Evaluated:
    """One checkpoint's runs, by benchmark."""

    stage: str  # start, dsft, ddpo
    model: str
    runs: Mapping[str, str]


@dataclass(frozen=True)
class PreferenceAccuracy:
    """Share of held-out pairs that a checkpoint orders as the judge did, in per cent, with 95 % intervals."""

    model: str
    raw: Score  # by log-probability
    raw_interval: tuple[float, float]
    implicit: Score | None  # by implicit reward; None for the reference itself and what came before it
    implicit_interval: tuple[float, float] | None


@dataclass(frozen=True)
class RecipeReport:
    recipe: str
    evaluated: Sequence[Evaluated]  # in the order of training
    preferences: Sequence[PreferenceAccuracy]
    timings: Sequence[str]
    headlines: Headlines
    trainings: Sequence[str] = ()  # fingerprints of the stages


def render_recipe_report(store: Store, report: RecipeReport, format: str) -> str:
    """As table or markdown: leaderboard, preference accuracy, changes, training, time; as csv or json: every score."""
    runs = [store.run(id) for checkpoint in report.evaluated for id in checkpoint.runs.values()]
    scores = store.scores_of([run.id for run in runs])
    standings = measured(runs, scores, checkpoint_labels(runs))
    if format in ("csv", "json"):
        return render_standings(standings, report.headlines, format)
    parts = [headline_table(standings, report.headlines, format)] if standings else []
    if report.preferences:
        parts.append(_preference_table(report.preferences, format))
    parts += [_bullets(title, lines, format) for title, lines in _changes(store, report)]
    watched = [training_told(found) for stage in report.trainings if (found := store.training(stage))]
    parts.append(_bullets("training", watched, format))
    parts.append(_bullets("time (minutes:seconds, of the budget)", report.timings, format))
    return "\n".join(filter(None, parts))


def _preference_table(rows: Sequence[PreferenceAccuracy], format: str) -> str:
    cells = [
        [
            row.model,
            _accuracy(row.raw, row.raw_interval),
            _accuracy(row.implicit, row.implicit_interval),
        ]
        for row in rows
    ]
    n = rows[0].raw.n
    return render_table(
        ["model", "log-prob accuracy", "implicit-reward accuracy"],
        cells,
        format,
        numeric=(1, 2),
        title=f"{n} held-out preference pairs, never trained on: per cent ordered as the judge did",
        notes=["[95 % Wilson interval]; chance is 50; the implicit reward is log p minus the reference's log p"],
    )


def _accuracy(score: Score | None, interval: tuple[float, float] | None) -> str:
    if score is None or score.value is None or interval is None:
        return "-"
    return f"{score.value:.1f} [{interval[0]:.1f}, {interval[1]:.1f}]"


def _changes(store: Store, report: RecipeReport) -> Iterator[tuple[str, list[str]]]:
    """Each checkpoint against the one it came from, and the last against the first."""
    steps = list(zip(report.evaluated, report.evaluated[1:], strict=False))
    if len(report.evaluated) > 2:
        steps.append((report.evaluated[0], report.evaluated[-1]))
    for base, candidate in steps:
        lines = [
            f"{benchmark}: {line}"
            for benchmark, run in base.runs.items()
            if benchmark in candidate.runs
            for line in _headline_and_tasks(changes(store, run, candidate.runs[benchmark]))
        ]
        yield f"from {base.model} to {candidate.model}, paired by question", lines


def _headline_and_tasks(lines: list[str]) -> list[str]:
    """The headline alone, but every task of a suite that is an average of tasks."""
    return lines if lines and lines[0].startswith("average ") else lines[:1]


def _bullets(title: str, lines: Sequence[str], format: str) -> str:
    return render_table([title], [[line] for line in lines], format) if lines else ""
