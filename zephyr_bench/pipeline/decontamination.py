"""Evaluation questions in training data: found, told, left out where the recipe says so, and never trained on unseen.

In: a recipe's training data and its benchmarks. Out: the data, and decontamination.json and .md beside the checkpoints.
Words are compared as in GPT-3's appendix C (arXiv 2005.14165): n in a row, in lower case and without punctuation.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.protocol import Benchmark, TellsQuestions
from zephyr_bench.errors import UserError, ZephyrBenchError
from zephyr_bench.hub import reachable
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Decontamination, Recipe
from zephyr_bench.records import Message, Question
from zephyr_bench.training_data.data import Dialogue, Pair
from zephyr_bench.training_data.reading import LeftOut, StageData
from zephyr_bench.written_file import write_text

REPORT = "decontamination"
WHOLE = 6  # words; a shorter question counts only where it is all that a prompt says
_EXAMPLES = 5  # of a benchmark, in the report
_SHOWN = 80  # characters of a question there
_KEPT_SIGNS = "/%"  # with + < = > they tell one sum from another

Words = tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """A question of a benchmark, or a turn of one."""

    benchmark: str
    id: str
    text: str

    @property
    def shown(self) -> str:
        line = " ".join(self.text.split())
        return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


@dataclass(frozen=True)
class Overlap:
    """What a row of training data has of a question."""

    stage: str
    number: int  # of the row, from 0
    place: str
    asked: Asked
    whole: bool  # all of it, in a prompt

    def told(self, ngram: int) -> str:
        what = "a prompt holds" if self.whole else f"shares {ngram} words in a row, or all of them, with"
        return f"{what} question '{self.asked.id}' of {self.asked.benchmark}: {self.asked.shown!r}"


@dataclass(frozen=True)
class Decontaminated:
    """Rows that may be trained on, and what is known of evaluation questions in them."""

    data: Mapping[str, StageData[Any]]
    compared: Mapping[str, int]  # benchmark -> its questions
    not_compared: Mapping[str, str]  # benchmark -> why its questions are not at hand

    @property
    def told(self) -> dict[str, Any]:
        """For a checkpoint's lineage."""
        return {"compared": dict(self.compared), "not_compared": dict(self.not_compared)}


class Index:
    """Questions to be looked for in rows. Without an n-gram's length only whole ones are."""

    def __init__(self, asked: Sequence[Asked], ngram: int | None) -> None:
        self.asked = asked
        self._ngram = ngram
        self._words = [words_of(one.text) for one in asked]
        self._short: dict[Words, list[int]] = {}  # all of a prompt
        self._starts: dict[Words, list[int]] = {}  # the first words of those that are looked for whole
        self._grams: dict[Words, list[int]] = {}
        for number, words in enumerate(self._words):
            place, key = (self._short, words) if len(words) < WHOLE else (self._starts, words[:WHOLE])
            if words:
                place.setdefault(key, []).append(number)
            for gram in {*_runs(words, ngram)} if ngram else ():
                self._grams.setdefault(gram, []).append(number)

    def find(self, prompts: Iterable[str], replies: Iterable[str]) -> Iterator[tuple[Asked, bool]]:
        """Each question that overlaps the row, and whether a prompt holds the whole of it."""
        found: set[int] = set()
        whole: set[int] = set()
        for words in map(words_of, prompts):
            whole.update(self._short.get(words, ()), self._wholes(words))
            found.update(self._overlaps(words))
        for words in map(words_of, replies) if self._ngram else ():
            found.update(self._wholes(words), self._overlaps(words))
        for number in sorted(found | whole):
            yield self.asked[number], number in whole

    def _wholes(self, words: Words) -> Iterator[int]:
        for start in range(len(words) - WHOLE + 1):
            for number in self._starts.get(words[start : start + WHOLE], ()):
                question = self._words[number]
                if words[start : start + len(question)] == question:
                    yield number

    def _overlaps(self, words: Words) -> Iterator[int]:
        for gram in _runs(words, self._ngram) if self._ngram else ():
            yield from self._grams.get(gram, ())


def words_of(text: str) -> Words:
    return tuple(text.lower().translate(_punctuation()).split())


@cache
def _punctuation() -> dict[int, None]:
    signs = (code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)).startswith("P"))
    return dict.fromkeys({*signs, ord("`")} - {*map(ord, _KEPT_SIGNS)})


def _runs(words: Words, length: int) -> Iterator[Words]:
    return (words[start : start + length] for start in range(len(words) - length + 1))


def decontaminated(
    data: Mapping[str, StageData[Any]],
    recipe: Recipe,
    benchmarks: Sequence[Benchmark],
    *,
    out: Path,
    progress: Progress,
    include: Sequence[Path] = (),
    folder: Path | None = None,
) -> Decontaminated:
    """The rows that may be trained on. `benchmarks` are those that the recipe evaluates on; `folder` has data sets.

    Raises UserError where a prompt that stays holds a whole question of those.
    """
    settings = recipe.decontaminate
    own = {benchmark.name: benchmark for benchmark in benchmarks}
    named = settings.against if settings else ()
    opened = [own.get(name) or open_benchmark(name, include=include, data=folder) for name in named]
    compared = {benchmark.name for benchmark in opened or (benchmarks if settings else ())}
    asked, unchecked = _questions(own | {benchmark.name: benchmark for benchmark in opened})
    for name, reason in unchecked.items():
        progress.warn(f"training data is not compared with the questions of {name}: {reason}")
    index = Index(asked, settings.ngram if settings else None)
    found = [
        overlap
        for overlap in _overlaps(data, index, progress)
        if overlap.asked.benchmark in compared or (overlap.whole and overlap.asked.benchmark in own)
    ]
    made = Decontaminated(data, Counter(one.benchmark for one in asked), unchecked)
    if settings:
        _report(found, index, data, settings, unchecked, out, progress)
        if settings.overlaps == "leave-out":
            return replace(made, data=_left_out(data, found, settings))
    _check(recipe, [overlap for overlap in found if overlap.whole and overlap.asked.benchmark in own])
    return made


def _questions(benchmarks: Mapping[str, Benchmark]) -> tuple[list[Asked], dict[str, str]]:
    """(questions, why there are none of a benchmark)."""
    asked: list[Asked] = []
    unchecked: dict[str, str] = {}
    for name, benchmark in benchmarks.items():
        if reason := _not_at_hand(benchmark):
            unchecked[name] = reason
            continue
        assert isinstance(benchmark, TellsQuestions)
        try:
            asked += [Asked(name, id, text) for id, text in benchmark.question_texts()]
        except ZephyrBenchError as error:
            unchecked[name] = str(error)
    return asked, unchecked


def _not_at_hand(benchmark: Benchmark) -> str:
    if not isinstance(benchmark, TellsQuestions):
        return "benchmarks of its kind don't tell theirs"
    if missing := benchmark.missing():
        return "; ".join(missing)
    if (names := benchmark.hub_data()) and not reachable():
        fetch = f"`zephyr-bench fetch {benchmark.name} -o DIR` brings it, --data DIR names it"
        return f"the hub does not answer from here, and {', '.join(names)} must come from it; {fetch}"
    return ""


def _overlaps(data: Mapping[str, StageData[Any]], index: Index, progress: Progress) -> Iterator[Overlap]:
    if not index.asked:
        return
    for stage, part in data.items():
        rows = list(zip(part.train.items, part.train.places, strict=True))
        shown = progress.track(rows, what=f"{stage}: looking for evaluation questions", total=len(rows), unit="rows")
        for number, (item, place) in enumerate(shown):
            for asked, whole in index.find(*_texts(item)):
                yield Overlap(stage, number, place, asked, whole)


def _texts(item: Dialogue | Pair | Question) -> tuple[list[str], list[str]]:
    """(what the user says, the rest)."""
    if isinstance(item, Question):
        return list(item.turns), []
    chat: Sequence[Message] = item.messages if isinstance(item, Dialogue) else (*item.prompt, *item.answers)
    prompts = [message["content"] for message in chat if message["role"] == "user"]
    return prompts, [message["content"] for message in chat if message["role"] != "user"]


def _left_out(
    data: Mapping[str, StageData[Any]], found: Sequence[Overlap], settings: Decontamination
) -> dict[str, StageData[Any]]:
    kept: dict[str, StageData[Any]] = {}
    for stage, part in data.items():
        unwanted: dict[int, LeftOut] = {}
        for overlap in found:
            if overlap.stage == stage:
                reason = LeftOut(overlap.place, "overlap", overlap.told(settings.ngram))
                unwanted.setdefault(overlap.number, reason)
        rows = part.train.without(unwanted)
        if unwanted and not rows.items:
            raise UserError(f"decontaminate: no row of {stage} is left; all overlap questions of the benchmarks.")
        kept[stage] = replace(part, train=rows)
    return kept


def _check(recipe: Recipe, whole: Sequence[Overlap]) -> None:
    """Raises UserError where there are any."""
    if not whole:
        return
    first = whole[0]
    others = len({(overlap.stage, overlap.number) for overlap in whole}) - 1
    more = f" ({others} more rows hold such questions)" if others else ""
    raise UserError(
        f"{first.place}: {first.told(0)}, and recipe {recipe.name} evaluates on it{more}; take the row out, or have "
        "all such rows left out by decontaminate: {} in the recipe, or --set decontaminate={}."
    )


def _report(
    found: Sequence[Overlap],
    index: Index,
    data: Mapping[str, StageData[Any]],
    settings: Decontamination,
    unchecked: Mapping[str, str],
    out: Path,
    progress: Progress,
) -> None:
    """One line for people, and two files."""
    rows = {stage: len(part.train.items) for stage, part in data.items() if part.train.items}
    questions = Counter(asked.benchmark for asked in index.asked)
    told = [
        _of_benchmark(name, count, [one for one in found if one.asked.benchmark == name], rows)
        for name, count in questions.items()
    ]
    report = {**settings.model_dump(mode="json", include={"ngram", "overlaps"}), "rows": rows, "benchmarks": told}
    write_text(out / f"{REPORT}.json", json.dumps({**report, "not_compared": dict(unchecked)}, indent=2) + "\n")
    write_text(out / f"{REPORT}.md", _markdown(told, rows, settings, unchecked))
    touched = len({(overlap.stage, overlap.number) for overlap in found})
    by = ", ".join(f"{one['benchmark']} {sum(one['rows'].values())}" for one in told if one["rows"])
    what = f" ({by}), {'left out' if settings.overlaps == 'leave-out' else 'kept'}" if touched else ""
    progress.say(
        f"decontamination: {touched} of {sum(rows.values())} rows overlap {len(index.asked)} questions{what}; "
        f"{out / REPORT}.md lists them"
    )


def _of_benchmark(name: str, questions: int, found: Sequence[Overlap], rows: Iterable[str]) -> dict[str, Any]:
    by_stage = {stage: len({one.number for one in found if one.stage == stage}) for stage in rows}
    return {
        "benchmark": name,
        "questions": questions,
        "questions_found": len({one.asked for one in found}),
        "rows": {stage: count for stage, count in by_stage.items() if count},
        "rows_with_a_whole_question": len({(one.stage, one.number) for one in found if one.whole}),
        "examples": [
            {"row": one.place, "question": one.asked.id, "text": one.asked.shown, "whole": one.whole}
            for one in sorted(found, key=lambda one: not one.whole)[:_EXAMPLES]
        ],
    }


def _markdown(
    told: Sequence[Mapping[str, Any]],
    rows: Mapping[str, int],
    settings: Decontamination,
    unchecked: Mapping[str, str],
) -> str:
    from zephyr_bench.reports.render import render_table

    columns = [
        "benchmark",
        "questions",
        "of them found",
        *(f"rows of {stage} ({n})" for stage, n in rows.items()),
        "whole",
    ]
    table = [
        [
            one["benchmark"],
            str(one["questions"]),
            str(one["questions_found"]),
            *(str(one["rows"].get(stage, 0)) for stage in rows),
            str(one["rows_with_a_whole_question"]),
        ]
        for one in told
    ]
    title = (
        f"Rows of training data that share {settings.ngram} words in a row with a benchmark's question, or hold a "
        f"shorter one whole ({settings.overlaps})"
    )
    notes = [
        f"{row['row']}: question {row['question']} of {one['benchmark']}, {row['text']!r}"
        for one in told
        for row in one["examples"]
    ]
    notes += [f"not compared with {name}: {reason}" for name, reason in unchecked.items()]
    return render_table(columns, table, "markdown", title=title, notes=notes)
