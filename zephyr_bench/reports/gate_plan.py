"""What a gate has to compare: the runs that two references name, paired, and the benchmarks that one of them lacks.

In: two references that were found, what the user says of margins. Out: pairs with metric and margin, and what can't be
told. Reads no store of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.reports.comparison import compare_sides, looked_at_early
from zephyr_bench.reports.gate import INCOMPLETE, MISSING, Entry, Ungated, change_of, gated
from zephyr_bench.reports.gate_margins import Chosen, Margins
from zephyr_bench.reports.references import Found, graded, graded_the_same, pair
from zephyr_bench.reports.sides import Side

if TYPE_CHECKING:
    from zephyr_bench.reports.drift import AnchorCheck
    from zephyr_bench.reports.gate import JudgeCalls
    from zephyr_bench.stats.sequential import Progress
    from zephyr_bench.store import RunInfo


@dataclass(frozen=True)
class Pairing:
    """One benchmark to gate."""

    base: Side
    candidate: Side
    chosen: Chosen


@dataclass(frozen=True)
class GatePlan:
    pairs: tuple[Pairing, ...]
    ungated: tuple[Ungated, ...]  # inconclusive: listed, never left out
    notes: tuple[str, ...]

    @property
    def runs(self) -> list[RunInfo]:
        """All that are compared."""
        sides = [side for pairing in self.pairs for side in (pairing.base, pairing.candidate)]
        return [member.run for side in sides for member in side.members]


def plan_gate(base: Found, candidate: Found, margins: Margins, benchmarks: Sequence[str] = ()) -> GatePlan:
    """The pairs of `benchmarks` (empty: of all that the baseline has).

    A benchmark that the baseline has and the candidate lacks, or that is asked for and one of them lacks, is
    inconclusive: an evaluation that died must not pass for one that went well. So is one of which a newer run than
    what was found is not complete. One that only the candidate has is noted, and so are a recipe's own pairs that
    nothing tells a margin of, where others are gated. Raises UserError for a benchmark that neither has, for nothing
    in common at all, and where no margin is known.
    """
    left, right = ({side.run.benchmark for side in found.sides} for found in (base, candidate))
    for name in benchmarks:
        if name not in left | right:
            raise UserError(f"--benchmark {name}: neither {base.word} nor {candidate.word} has a run of it."
                            f"{did_you_mean(name, left | right)}")  # fmt: skip
    margins.check_recipe(left | right)
    without = {name for name in left if margins.left_alone(name)}
    if benchmarks or without == left:
        without = set()  # asked for, or all there is: then it is an error
    asked = set(benchmarks) or left - without
    notes = [*base.notes, *(note for note in candidate.notes if note not in base.notes)]
    notes += [
        f"not gated, for no margin is known of it: {name}; --margin {name}=M tells one" for name in sorted(without)
    ]
    if not benchmarks and (new := sorted(right - left)):
        notes.append(f"not gated, for {base.word} has no run of them: {', '.join(new)}")
    if not asked & left & right:
        pair(base, candidate)  # says what each has
    lacking = [_lacking(name, base, candidate) for name in sorted(asked - (left & right))]
    both, apart, alone = _pairs(base, candidate, asked & left & right, margins)
    margins.check(asked)
    margins.check_units({a.run.benchmark for a, _ in both})
    pairs = [Pairing(a, b, margins.of(a.run.benchmark)) for a, b in both]
    broken = [_broken(entry) for entry in pairs if _unfinished(entry)]
    whole = tuple(entry for entry in pairs if not _unfinished(entry))
    return GatePlan(whole, (*lacking, *apart, *broken), (*notes, *alone))


def entry_of(
    pairing: Pairing,
    *,
    allow: Collection[str] = (),
    anchors: AnchorCheck | None = None,
    progress: Progress | None = None,
    calls: JudgeCalls | None = None,
) -> Entry:
    """The pair compared. Raises UserError where protocols differ in a field that `allow` doesn't name."""
    comparison = compare_sides(pairing.base, pairing.candidate, allow=allow)
    if progress is not None:  # whose interval allows for having looked early
        told = looked_at_early(pairing.base.run, pairing.candidate.run)
        comparison = replace(comparison, notes=tuple(note for note in comparison.notes if note not in told))
    margin = pairing.chosen.margin
    change = change_of(comparison, pairing.chosen.metric)
    return Entry(
        comparison,
        gated(comparison, margin.value, anchors.drift if anchors else None, metric=change.metric),
        change.metric,
        margin.source,
        change.unanswered,  # with `progress` the base is those questions that were asked
        anchors,
        progress,
        calls,
    )


def _pairs(
    base: Found, candidate: Found, benchmarks: Collection[str], margins: Margins
) -> tuple[list[tuple[Side, Side]], list[Ungated], list[str]]:
    """Pairs of those benchmarks, what can't be told, and notes on gradings of the baseline's that stay alone.

    A baseline is often graded by more judges than each candidate is: one grading that both have is enough. Not if the
    one that is lacking was begun, or is the benchmark's own judge's.
    """
    both: list[tuple[Side, Side]] = []
    apart = []
    notes = []
    for name in sorted(benchmarks):
        own, other = (
            Found(found.word, tuple(side for side in found.sides if side.run.benchmark == name))
            for found in (base, candidate)
        )
        try:
            pairs = pair(own, other)
        except UserError as error:
            broken = [run for run in candidate.unfinished if run.benchmark == name]
            told = _broken_off(broken[0]) if broken else str(error).rstrip(".")
            apart.append(Ungated(name, own.sides[0].run.judge, INCOMPLETE if broken else MISSING, told))
            continue
        for first, second in pairs:
            if newer := _begun(first, base) or _begun(second, candidate):
                apart.append(Ungated(name, first.run.judge, INCOMPLETE, _broken_off(newer)))
            else:
                both.append((first, second))
        paired = {first.run.id for first, _ in pairs}
        for side in own.sides:
            if side.run.id in paired:
                continue
            if newer := _begun(side, candidate):
                apart.append(Ungated(name, side.run.judge, INCOMPLETE, _broken_off(newer)))
            elif side.run.judge is not None and side.run.judge == margins.default_judge(name):
                told = f"{candidate.word} has no complete run of {graded(side.run)}"
                apart.append(Ungated(name, side.run.judge, MISSING, told))
            else:
                notes.append(f"not gated, for {candidate.word} has no such run: {graded(side.run)}")
    return both, apart, notes


def _begun(side: Side, found: Found) -> RunInfo | None:
    """A run of the same benchmark and judge that is not complete, and that no complete one came after."""
    return next((run for run in found.unfinished if graded_the_same(run, side.run)), None)


def _lacking(benchmark: str, base: Found, candidate: Found) -> Ungated:
    sides = [side for side in (*base.sides, *candidate.sides) if side.run.benchmark == benchmark]
    without = candidate if any(side.run.benchmark == benchmark for side in base.sides) else base
    if broken := next((run for run in without.unfinished if run.benchmark == benchmark), None):
        return Ungated(benchmark, sides[0].run.judge, INCOMPLETE, _broken_off(broken))
    return Ungated(benchmark, sides[0].run.judge, MISSING, f"{without.word} has no complete run of it")


def _broken_off(run: RunInfo) -> str:
    return f"run {run.id} of {run.model} is {run.status}: take it up again"


def _unfinished(entry: Pairing) -> list[RunInfo]:
    return [
        member.run
        for side in (entry.base, entry.candidate)
        for member in side.members
        if member.run.status != "complete"
    ]


def _broken(entry: Pairing) -> Ungated:
    told = ", ".join(f"run {run.id} of {run.model} is {run.status}" for run in _unfinished(entry))
    return Ungated(entry.base.run.benchmark, entry.base.run.judge, INCOMPLETE, f"{told}: take it up again")
