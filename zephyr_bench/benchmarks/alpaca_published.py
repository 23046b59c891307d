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

    @cached_property
    def length_control(self) -> LengthControl | None:
        """None where the YAML names no difficulties. Raises UserError where they can't be read, or have changed."""
        spec = self._spec
        if spec.data is None or spec.length_control is None:
            return None
        file = hub_file.locate(spec.data, spec.length_control, self._folders)
        try:
            lines = content_of(file).decode().splitlines(keepends=True)
        except UnicodeDecodeError:
            raise UserError(f"{file}: is not UTF-8 text.") from None
        at_hand = not self.hub_data()
        places = {question.id: place for place, (question, _) in enumerate(self.pairs)} if at_hand else {}
        return LengthControl(read_gamed_rows(lines, name=str(file)), places)

    def without_length_control(self, judge: str, baseline: str) -> str | None:
        """Why verdicts of that judge against that baseline get no length-controlled win rate.

        None where they get one, or the YAML promises none. Raises as `length_control` does.
        """
        spec = self._spec
        if spec.data is None or spec.length_control is None:
            return None
        if baseline != spec.baseline:
            return f"difficulties are published for answers compared with {spec.baseline}, not with {baseline}"
        if judge != spec.judge:
            return f"difficulties are published for verdicts of {spec.judge}, not of {judge}"
        if not hub_file.to_be_had(spec.data, spec.length_control, self._folders):
            return (
                f"{spec.length_control} of {spec.data} is not at hand: `zephyr-bench fetch alpaca-eval -o DIR` brings "
                f"it, --data DIR names it"
            )
        assert self.length_control is not None  # read before any work
        return None
