"""The judge `recorded`: gives again what a judge said before, from files or from a store. Asks no network.

In: FastChat's model_judgment rows (single or pair), or the judgments of a judge in a store. A file knows an answer by
question, turn and model's name; a store by the answer itself. A store's comparison that was recorded in the other
order only, as an import's all are, is given turned round.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from zephyr_bench.errors import JudgeUnavailable, UserError
from zephyr_bench.fingerprint import file_sha256, fingerprint
from zephyr_bench.judges.protocol import JudgeOptions, refuse_server
from zephyr_bench.recipe import Entry
from zephyr_bench.records import Judgment, Match
from zephyr_bench.yaml_file import objects_of

_NO_SCORE = -1  # in FastChat's files
Key = tuple[Any, ...]
Told = tuple[float | None, str | None, str]  # score, reason, reply


class RecordedSpec(Entry):
    kind: Literal["recorded"]
    description: str
    files: tuple[Path, ...] = ()  # relative to the YAML
    store: str | None = None  # a URL
    judge: str | None = None  # of a store: whose judgments

    @model_validator(mode="after")
    def _one_source(self) -> RecordedSpec:
        if bool(self.files) == (self.store is not None) or (self.store is None) != (self.judge is None):
            raise ValueError("needs either files, or store and judge")
        return self


class RecordedJudge:
    Spec = RecordedSpec

    def __init__(self, spec: RecordedSpec, *, name: str, folder: Path, options: JudgeOptions) -> None:
        refuse_server(name, options)
        self.name = name
        self._spec = spec
        self._files = [folder / file for file in spec.files]

    @cached_property
    def fingerprint(self) -> str:
        hashes = [file_sha256(file) for file in self._files]
        return fingerprint({"kind": "recorded", "files": hashes, "store": self._spec.store, "judge": self._spec.judge})

    def missing(self) -> list[str]:
        return [f"file {file} of judge {self.name} does not exist" for file in self._files if not file.is_file()]

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float | None:
        return 0.0

    def grade(self, matches: Iterable[Match]) -> Iterator[Judgment]:
        """Raises JudgeUnavailable at the end where something was never judged."""
        absent: list[Match] = []
        for match in matches:
            found = self._found(match)
            if found is None:
                absent.append(match)
                continue
            score, reason, reply = found
            yield Judgment(match.key(self.fingerprint), self.name, score, reason, reply, cost_usd=0.0)
        if absent:
            first = absent[0]
            raise JudgeUnavailable(
                f"judge {self.name} has no record of {len(absent)} of what it was asked, the first of them question "
                f"{first.question.id}, turn {first.turn} by {first.answers[0].model}."
            )

    def _found(self, match: Match) -> Told | None:
        found = self._records.get(self._key(match))
        if found is not None or not self._spec.store or match.rival is None:
            return found
        turned = Match(match.question, match.turn, match.rival, match.answers, match.replicate)
        if (other := self._records.get(self._key(turned))) is None:
            return None
        score, reason, reply = other
        return None if score is None else 1 - score, reason, reply

    def _key(self, match: Match) -> Key:
        last = match.turn - 1
        rival = match.rival[last] if match.rival else None
        if self._spec.store:
            return match.answers[last].key, rival.key if rival else None, match.replicate
        models = match.answers[last].model, rival.model if rival else None
        return str(match.question.id), match.turn, *models, match.replicate

    @cached_property
    def _records(self) -> Mapping[Key, Told]:
        return dict(self._of_store() if self._spec.store else self._of_files())

    def _of_store(self) -> Iterator[tuple[Key, Told]]:
        from zephyr_bench.store import Store

        assert self._spec.store is not None
        with Store(self._spec.store) as store:
            for run in store.runs():
                for verdict in store.verdicts_of(run.id):
                    told = verdict.judgment
                    if told.judge == self._spec.judge:
                        yield (verdict.answer, verdict.rival, verdict.replicate), (told.score, told.reason, told.reply)

    def _of_files(self) -> Iterator[tuple[Key, Told]]:
        times: dict[Key, int] = {}
        for file in self._files:
            with file.open("rb") as lines:
                for line, row in objects_of(lines, file):
                    for key, told in _told(file, line, row):
                        times[key] = times.get(key, -1) + 1
                        yield (*key, times[key]), told


def _told(file: Path, line: int, row: Mapping[str, Any]) -> Iterator[tuple[Key, Told]]:
    """A row's judgments: one of an answer, two of a pair, whose models stand first in turn."""
    try:
        place = str(row["question_id"]), int(row["turn"])
        if "score" in row:
            score = None if row["score"] in (None, _NO_SCORE) else float(row["score"])
            yield (*place, row["model"], None), (score, _reason(score), str(row.get("judgment") or ""))
            return
        one, two = row["model_1"], row["model_2"]
        for first, second, game in ((one, two, "g1"), (two, one, "g2")):
            winner = row[f"{game}_winner"]
            # FastChat says in both games which of the row's models won
            worth = {"tie": 0.5, "model_1": float(first == one), "model_2": float(first == two)}
            score = worth.get(winner)
            yield (*place, first, second), (score, _reason(score), str(row.get(f"{game}_judgment") or ""))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} line {line}: {error} is missing or wrong; expected a row of FastChat's model_judgment files."
        ) from None


def _reason(score: float | None) -> str | None:
    return None if score is not None else "recorded without a verdict"
