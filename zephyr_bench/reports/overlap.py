"""Two judges' scales side by side, over answers that both graded. Pure: values in, tables and JSON out.

The lines from the new scale to the old, and their error, are stats/calibration.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from zephyr_bench.errors import UserError
from zephyr_bench.reports.per_question import Key
from zephyr_bench.reports.render import MISSING, number, render_json, render_records, render_table
from zephyr_bench.stats.agreement import cohen_kappa, spearman
from zephyr_bench.stats.calibration import Calibrated, Calibration, calibrate, on_old_scale
from zephyr_bench.stats.means import clustered_mean
from zephyr_bench.stats.paired import Difference, paired_difference

_CLOSE = 1.0  # points: grades no further apart are near enough for most uses
_STEPS = {False: range(1, 11), True: range(0, 101, 10)}  # of the scale shown, for grades and for per cent


@dataclass(frozen=True)
class JudgedTwice:
    """One model's answers: each judge's value of each question, turn and rival, on the metric's scale."""

    model: str
    old_run: str
    new_run: str
    old: Mapping[Key, float]
    new: Mapping[Key, float]
    categories: Mapping[str, str]  # by question

    @property
    def shared(self) -> list[Key]:
        return sorted(self.old.keys() & self.new.keys())

    @property
    def on_one_side(self) -> int:
        return len(self.old.keys() ^ self.new.keys())


@dataclass(frozen=True)
class Part:
    """Some of the answers: all of them, a model's, a category's."""

    name: str
    old: float | None
    new: float | None
    new_stderr: float | None
    difference: Difference  # new - old
    questions: int


@dataclass(frozen=True)
class Agreement:
    """How often the judges say the same; `kappa` of pairs: who won, beyond chance."""

    alike: float  # share with the same value, or of pairs the same winner
    close: float | None  # share no more than a point apart; None for pairs
    kappa: float | None
    rank_correlation: float | None


@dataclass(frozen=True)
class Overlap:
    benchmark: str
    metric: str
    paired: bool  # preferences in per cent; else grades from 1 to 10
    old: str
    new: str
    judged: tuple[JudgedTwice, ...]

    @cached_property
    def rows(self) -> list[tuple[JudgedTwice, Key]]:
        """All answers that both judges gave a value, in an order of their own."""
        return [(one, key) for one in self.judged for key in one.shared]

    @cached_property
    def calibration(self) -> Calibration | None:
        """None where too few questions, or judges that don't agree for certain, tell no line."""
        old, new = ([getattr(one, side)[key] for one, key in self.rows] for side in ("old", "new"))
        models = [one.old_run for one, _ in self.rows]
        return calibrate(old, new, [key[0] for _, key in self.rows], models)

    @cached_property
    def questions(self) -> int:
        return len({key[0] for _, key in self.rows})


def parts(overlap: Overlap) -> list[Part]:
    """All, each model where there are several, each category."""
    rows = overlap.rows
    found = [_part("all", rows)]
    if len(overlap.judged) > 1:
        found += [_part(f"{one.model} (run {one.old_run})", [(one, k) for k in one.shared]) for one in overlap.judged]
    names = sorted(_categories(overlap))
    by_category = {name: [(one, key) for one, key in rows if one.categories.get(key[0]) == name] for name in names}
    return found + [_part(name, of_it) for name, of_it in by_category.items() if of_it]


def _part(name: str, rows: Sequence[tuple[JudgedTwice, Key]]) -> Part:
    old, new = ([getattr(one, side)[key] for one, key in rows] for side in ("old", "new"))
    questions = [key[0] for _, key in rows]
    mean, stderr = clustered_mean(new, questions)
    found = paired_difference(old, new, questions)
    return Part(name, clustered_mean(old, questions)[0], mean, stderr, found, len(set(questions)))


def agreement(overlap: Overlap) -> Agreement | None:
    """None of nothing."""
    pairs = [(one.old[key], one.new[key]) for one, key in overlap.rows]
    if not pairs:
        return None
    ranks = spearman([old for old, _ in pairs], [new for _, new in pairs])
    if overlap.paired:
        won = [(_winner(old), _winner(new)) for old, new in pairs]
        return Agreement(_share(won, lambda pair: pair[0] == pair[1]), None, cohen_kappa(won), ranks)
    alike = _share(pairs, lambda pair: pair[0] == pair[1])
    return Agreement(alike, _share(pairs, lambda pair: abs(pair[0] - pair[1]) <= _CLOSE), None, ranks)


def _winner(per_cent: float) -> int:
    return (per_cent > 50) - (per_cent < 50)


def _share(pairs: Sequence[Any], holds: Callable[[Any], bool]) -> float:
    return sum(map(holds, pairs)) / len(pairs)


def brought_over(overlap: Overlap, part: Part) -> Calibrated | None:
    """The new judge's mean of the part, on the old judge's scale."""
    if overlap.calibration is None or part.new is None or part.new_stderr is None:
        return None
    return on_old_scale(overlap.calibration, part.new, part.new_stderr, part.questions)


def scale(overlap: Overlap) -> list[tuple[float, Calibrated]]:
    """What a mean of the new judge's would be on the old scale, over as many questions, its own error left out."""
    line = overlap.calibration
    if line is None:
        return []
    return [(float(x), on_old_scale(line, x, 0.0, overlap.questions)) for x in _STEPS[overlap.paired]]


def render_overlap(overlap: Overlap, format: str) -> str:
    """`format` is table, markdown, csv (the parts) or json. Raises UserError where no answer has both verdicts."""
    if not overlap.rows:
        raise UserError(f"no answer has a verdict of {overlap.old} and one of {overlap.new}: nothing to compare.")
    if format == "json":
        return render_json(as_json(overlap))
    if format == "csv":
        records = [_part_json(overlap, part) for part in parts(overlap)]
        return render_records(records, list(records[0]), format)
    return _parts_table(overlap, format) + "\n" + _scale_table(overlap, format)


def _parts_table(overlap: Overlap, format: str) -> str:
    heads = ["answers", "n", overlap.old, overlap.new, "difference", "95 % interval", f"on {overlap.old}'s scale"]
    cells = []
    categories = _categories(overlap)
    for part in parts(overlap):
        found = part.difference
        over = brought_over(overlap, part) if part.name not in categories else None
        cells.append(
            [
                part.name,
                str(found.n),
                number(part.old),
                number(part.new),
                number(found.value, signed=True),
                _interval(found.low, found.high),
                MISSING if over is None else f"{number(over.value)} {_interval(over.low, over.high)}",
            ]
        )
    title = f"{overlap.benchmark} {overlap.metric}: {overlap.old} and {overlap.new} on the same answers"
    return render_table(heads, cells, format, numeric=range(1, 7), title=title, notes=_notes(overlap))


def _categories(overlap: Overlap) -> set[str]:
    return set(chain.from_iterable(one.categories.values() for one in overlap.judged))


def _interval(low: float | None, high: float | None) -> str:
    return MISSING if low is None or high is None else f"[{number(low)}, {number(high)}]"


def _notes(overlap: Overlap) -> list[str]:
    told = []
    found = agreement(overlap)
    if found:
        if overlap.paired:
            told.append(f"the same winner {100 * found.alike:.0f} % of the time; kappa {number(found.kappa)}")
        else:
            close = 100 * (found.close or 0.0)
            told.append(f"the same grade {100 * found.alike:.0f} % of the time, within a point {close:.0f} %")
    line = overlap.calibration
    if line is None:
        told.append("no line from one scale to the other: it takes four questions, and judges that agree for certain")
    else:
        told.append(
            f"{overlap.old} = {line.intercept:.2f} + {line.slope:.2f} x {overlap.new} at the flattest, over {line.n} "
            f"verdicts on {line.questions} questions (slope ±{line.slope_variance**0.5:.2f}, correlation "
            f"{line.correlation:.2f}, of ranks {number(found.rank_correlation if found else None)})"
        )
        told.append(
            f"both judges waver, so that this line is too flat; the slope lies between {line.slope:.2f} and "
            f"{1 / line.reverse.slope:.2f}, and intervals hold both lines'. Values are by the one that holds where "
            f"both waver alike"
        )
    if alone := sum(one.on_one_side for one in overlap.judged):
        told.append(f"{alone} have a verdict of one judge only, and are left out")
    of = overlap.judged
    return told + [f"{one.model}: run {one.old_run} by {overlap.old}, {one.new_run} by {overlap.new}" for one in of]


def _scale_table(overlap: Overlap, format: str) -> str:
    line = overlap.calibration
    if line is None:
        return ""
    steps = scale(overlap)
    heads = [f"a mean of {overlap.new}'s", f"on {overlap.old}'s scale", "95 % interval", ""]
    cells = [
        [f"{x:g}", number(at.value), _interval(at.low, at.high), "extrapolated" if at.extrapolated else ""]
        for x, at in steps
    ]
    notes = [
        f"the interval holds both lines' errors and the scatter about them over {overlap.questions} questions; a "
        f"mean's own error comes on top"
    ]
    if any(at.extrapolated for _, at in steps):
        notes.append(
            f"extrapolated: no model here has such a mean by {overlap.new}; they go from {number(line.lowest)} to "
            f"{number(line.highest)}{'' if len(overlap.judged) > 1 else ' (one model, and its error)'}"
        )
    return render_table(heads, cells, format, numeric=range(3), notes=notes)


def as_json(overlap: Overlap) -> dict[str, Any]:
    line, found = overlap.calibration, agreement(overlap)
    return {
        "benchmark": overlap.benchmark,
        "metric": overlap.metric,
        "old": overlap.old,
        "new": overlap.new,
        "runs": [{"model": one.model, "old": one.old_run, "new": one.new_run} for one in overlap.judged],
        "verdicts": len(overlap.rows),
        "questions": overlap.questions,
        "one_judge_only": sum(one.on_one_side for one in overlap.judged),
        "agreement": found and asdict(found),
        "calibration": line and asdict(line),
        "parts": [_part_json(overlap, part) for part in parts(overlap)],
        "scale": [{"new": x, **asdict(at)} for x, at in scale(overlap)],
    }


def _part_json(overlap: Overlap, part: Part) -> dict[str, Any]:
    over = brought_over(overlap, part)
    found = part.difference
    return {
        "answers": part.name,
        "n": found.n,
        "questions": part.questions,
        "old": part.old,
        "new": part.new,
        "new_stderr": part.new_stderr,
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
        "on_old_scale": over and over.value,
        "on_old_scale_low": over and over.low,
        "on_old_scale_high": over and over.high,
        "extrapolated": over and over.extrapolated,
    }
