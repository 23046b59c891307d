"""What a benchmark of AlpacaEval's kind takes from others: instructions, the baseline's answers, difficulties.

In: its YAML's keys, folders in the hub's layout. Out: those, read once and checked; or what is missing. Instructions of
our own lie beside the YAML, AlpacaEval's in a hub data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from zephyr_bench import hub_file
from zephyr_bench.benchmarks.alpaca_data import baseline_answer, read_baseline
from zephyr_bench.benchmarks.alpaca_scores import LengthControl
from zephyr_bench.benchmarks.questions import read_questions
from zephyr_bench.benchmarks.spec import BenchmarkSpec
from zephyr_bench.errors import UserError
from zephyr_bench.file_content import content_of
from zephyr_bench.fingerprint import file_sha256
from zephyr_bench.published_file import PublishedFile
from zephyr_bench.recipe import SamplingSpec
from zephyr_bench.records import Answer, Question
from zephyr_bench.stats.gamed_rows import read_gamed_rows


class AlpacaEvalSpec(BenchmarkSpec):
    kind: Literal["alpaca_eval"]
    headline: str = "win-rate"
    instructions: PublishedFile | None = None  # with the baseline's answers as `output`; .json in AlpacaEval's format
    data: str | None = None  # or a hub data set of AlpacaEval's files,
    outputs: str | None = None  # the baseline's outputs in it
    length_control: str | None = None  # and difficulties with the rows of gamed models (df_gamed.csv)
    baseline: str  # the name of the model whose answers those are
    order: Literal["both", "seeded"] = "both"  # seeded: one order, drawn for each instruction as alpaca_eval draws it
    sampling: SamplingSpec = SamplingSpec(max_new_tokens=2048)
    planned_questions: int | None = Field(None, gt=0)  # for a plan, where the instructions are not at hand

    @model_validator(mode="after")
    def _one_place(self) -> AlpacaEvalSpec:
        if (self.data is None) != (self.outputs is None) or (self.instructions is None) == (self.data is None):
            raise ValueError("needs either instructions, or data with outputs")
        if self.length_control is not None and self.data is None:
            raise ValueError("length_control is a file of data, which is not given")
        return self


class Published:
    def __init__(self, spec: AlpacaEvalSpec, folder: Path, folders: Sequence[Path]) -> None:
        self._spec = spec
        self._folder = folder  # the YAML's
        self._folders = folders  # the user's, with data sets

    def missing(self) -> list[str]:
        found = self._spec.instructions.missing(self._folder) if self._spec.instructions else None
        return [found] if found else []

    def hub_data(self) -> list[str]:
        """The data set, where it is not at hand."""
        data, outputs = self._spec.data, self._spec.outputs
        if data is None or outputs is None or hub_file.at_hand(data, outputs, self._folders):
            return []
        return [data]

    def hub_files(self) -> list[tuple[str, str | None]]:
        if self._spec.data is None:
            return []
        return [(self._spec.data, path) for path in (self._spec.outputs, self._spec.length_control) if path is not None]

    @cached_property
    def pairs(self) -> list[tuple[Question, Answer]]:
        """Each instruction with the baseline's answer. Raises UserError where they are not to be had."""
        spec = self._spec
        if spec.data is not None and spec.outputs is not None:
            return read_baseline(hub_file.locate(spec.data, spec.outputs, self._folders), spec.baseline)
        assert spec.instructions is not None
        path = spec.instructions.locate(self._folder)
        if path.suffix == ".json":
            return read_baseline(path, spec.baseline)
        found = []
        for row, question in read_questions(path):
            if row.output is None:
                raise UserError(f"{path}: instruction '{row.id}' has no key 'output', the baseline's answer.")
            found.append((question, baseline_answer(spec.baseline, question, row.output)))
        return found

    @property
    def size(self) -> int:
        return self._spec.planned_questions or len(self.pairs)

    @property
    def difficulties_at_hand(self) -> bool:
        """Whether `length_control` can be read; asks at most whether the hub answers."""
        data, path = self._spec.data, self._spec.length_control
        return data is not None and path is not None and hub_file.to_be_had(data, path, self._folders)

    @property
    def pairs_at_hand(self) -> bool:
        data, outputs = self._spec.data, self._spec.outputs
        return data is None or outputs is None or hub_file.to_be_had(data, outputs, self._folders)

    @cached_property
    def length_control(self) -> LengthControl:
        """Raises UserError where it can't be read, has changed, or doesn't tell of all instructions."""
        spec = self._spec
        assert spec.data is not None
        assert spec.length_control is not None
        file = hub_file.locate(spec.data, spec.length_control, self._folders)
        try:
            lines = content_of(file).decode().splitlines(keepends=True)
        except UnicodeDecodeError:
            raise UserError(f"{file}: is not UTF-8 text.") from None
        gamed = read_gamed_rows(lines, name=str(file))
        places = {question.id: place for place, (question, _) in enumerate(self.pairs)} if self.pairs_at_hand else {}
        if len(places) > len(gamed.difficulties):
            raise UserError(
                f"{file}: tells the difficulty of {len(gamed.difficulties)} instructions, and {spec.outputs} has "
                f"{len(places)}; bring a whole one."
            )
        return LengthControl(gamed, places, file_sha256(file))

    def without_length_control(self, judge: str, baseline: str, *, whole_file: bool) -> str | None:
        """Why verdicts of that judge against that baseline get no length-controlled win rate.

        None where they get one, or the YAML promises none. A whole file of others can do without the instructions.
        Raises as `length_control` does.
        """
        spec = self._spec
        if spec.data is None or spec.length_control is None:
            return None
        if baseline != spec.baseline:
            return f"it is defined for answers compared with {spec.baseline}, not with {baseline}"
        if judge != spec.judge:
            return f"it is defined for verdicts of {spec.judge}, not of {judge}"
        how = "`zephyr-bench fetch alpaca-eval -o DIR` brings it, --data DIR names it"
        if not self.difficulties_at_hand:
            return f"{spec.length_control} of {spec.data} is not at hand: {how}"
        if not self.length_control.places and not whole_file:
            return f"{spec.outputs} of {spec.data}, which orders the difficulties, is not at hand: {how}"
        return None
