"""Which of the catalogue's benchmarks rows of alpaca_eval's files belong to: the one that has their baseline.

In: what the user asked for, the catalogue, who was compared and who judged. Out: a benchmark with its instructions, or
what is wrong. A judge of another name looks plausible in a file (alpaca_eval#310): whoever asks for a version gets its
judge's verdicts and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from zephyr_bench import catalogue
from zephyr_bench.benchmarks.alpaca_data import question_of
from zephyr_bench.benchmarks.alpaca_eval import AlpacaEval
from zephyr_bench.benchmarks.alpaca_published import AlpacaEvalSpec
from zephyr_bench.errors import UserError
from zephyr_bench.interop.alpaca_rows import AnnotationRow
from zephyr_bench.interop.json_lines import Line
from zephyr_bench.records import Question
from zephyr_bench.yaml_file import check_mapping, load_yaml

_FAMILY = "alpaca-eval"
_KIND = "alpaca_eval"
# outputs tell no version, as both ask the same; alpaca_eval itself compares them with version 2's baseline
_OF_OUTPUTS = f"{_FAMILY}-2"


@dataclass(frozen=True)
class Known:
    """A benchmark of AlpacaEval's kind, and what it asks."""

    benchmark: AlpacaEval
    spec: AlpacaEvalSpec

    @property
    def name(self) -> str:
        return self.benchmark.name

    @cached_property
    def instructions(self) -> Mapping[str, Question]:
        """By text; none where they are not at hand."""
        if self.benchmark.missing() or self.benchmark.hub_data():
            return {}
        return {question.turns[0]: question for question, _ in self.benchmark.published.pairs}

    def question(self, instruction: str, dataset: str) -> Question:
        """Instructions that lie beside the YAML have ids and checks of their own; others are known by their text."""
        own = self.instructions.get(instruction) if self.spec.instructions is not None else None
        return own or question_of(instruction, dataset)

    def without(self, asked: Iterable[str]) -> int:
        """How many of its instructions are none of these."""
        texts = set(asked)
        if self.instructions:
            return len(self.instructions.keys() - texts)
        return max(0, (self.spec.planned_questions or 0) - len(texts))


@dataclass(frozen=True)
class Choice:
    """The catalogue's benchmarks of the kind, and the one that was asked for, if any."""

    catalogue: Mapping[str, Known]
    asked: Known | None = None
    version: int | None = None  # asked for by its number: baseline and judge are to be that version's

    def of(self, line: Line[AnnotationRow]) -> Known:
        """The benchmark of an annotation. Raises UserError."""
        row = line.row
        having = [known for known in self.catalogue.values() if known.benchmark.baseline == row.baseline]
        if self.asked is not None:
            self._check(self.asked.benchmark, line, of_another=bool(having))
            return self.asked
        if len(having) == 1:
            return having[0]
        if having:
            names = " or ".join(known.name for known in having)
            raise UserError(f"{line.place}: {row.baseline} is the baseline of several; name {names} by --benchmark.")
        baselines = ", ".join(f"{known.benchmark.baseline} ({known.name})" for known in self.catalogue.values())
        raise UserError(
            f"{line.place}: generator_1, the baseline, is {row.baseline}, which no benchmark compares with; name the "
            f"one whose instructions they are by --benchmark. Known baselines: {baselines}."
        )

    def _check(self, asked: AlpacaEval, line: Line[AnnotationRow], *, of_another: bool) -> None:
        """A baseline that no benchmark has may be one of the user's own, unless a version was asked for."""
        row = line.row
        option = "--benchmark" if self.version is None else "--version"
        if row.baseline != asked.baseline and (of_another or self.version is not None):
            instead = (
                f"without {option} it is read as what it is"
                if of_another
                else f"--benchmark {asked.name} says whose instructions they are"
            )
            raise UserError(
                f"{line.place}: generator_1, the baseline, is {row.baseline}, and {asked.name} compares with "
                f"{asked.baseline}; {instead}."
            )
        if row.annotator != asked.default_judge and row.baseline == asked.baseline:
            raise UserError(
                f"{line.place}: annotator is {row.annotator}, and {asked.name} is judged by {asked.default_judge}; "
                f"without {option} it is read as what it is."
            )

    def of_outputs(self, instructions: Iterable[str]) -> Known:
        """The benchmark of outputs that nothing was said of: the one that asks all of them, where that is at hand."""
        if self.asked is not None:
            return self.asked
        first = self.catalogue[_OF_OUTPUTS]
        texts = set(instructions)
        asking = [k for k in (first, *self.catalogue.values()) if k.instructions and texts <= k.instructions.keys()]
        return asking[0] if asking else first


def find_benchmarks(
    *, version: int | None, benchmark: str | None, include: Sequence[Path] = (), data: Path | None = None
) -> Choice:
    """Raises UserError for an unknown benchmark, or one of another kind."""
    if version is not None and benchmark is not None:
        raise UserError("--version and --benchmark both name the benchmark: give one of them.")
    found = (_opened(path, data) for path in catalogue.entries("benchmark", include).values())
    known = {each.name: each for each in found if each is not None}
    if version is None and benchmark is None:
        return Choice(known)
    name = benchmark or f"{_FAMILY}-{version}"
    asked = _opened(catalogue.find("benchmark", name, include), data)
    if asked is None:
        raise UserError(
            f"--benchmark {name}: alpaca_eval's files are of AlpacaEval's kind; name one of {', '.join(known)}."
        )
    return Choice(known, asked, version)


def _opened(path: Path, data: Path | None) -> Known | None:
    """None for a benchmark of another kind."""
    value, lines = load_yaml(path)
    if value.get("kind") != _KIND:
        return None
    spec = check_mapping(AlpacaEvalSpec, value, lines, str(path))
    benchmark = AlpacaEval(spec, name=path.stem, folder=path.parent, data=data)
    return Known(benchmark, spec)
