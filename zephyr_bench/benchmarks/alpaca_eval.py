"""AlpacaEval: one-turn instructions, the model's answer against a baseline's (arXiv 2305.14387, 2404.04475).

Win rate = 100 x mean preference for the model; a tie is half a win. Versions 1 and 2 and our own instructions are of
this kind: the YAML says whose answers are the baseline and in which order a judge sees the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from zephyr_bench.benchmarks.alpaca_pairs import compared_pairs, lone_answers, paired
from zephyr_bench.benchmarks.alpaca_published import AlpacaEvalSpec, Published
from zephyr_bench.benchmarks.alpaca_scores import (
    LENGTH_CONTROLLED,
    PREFERENCE,
    LengthControl,
    alpaca_scores,
    length_control,
    pair_facts,
    preference_sample,
)
from zephyr_bench.benchmarks.asking import ask
from zephyr_bench.benchmarks.grading import judge_of
from zephyr_bench.benchmarks.one_order import Pair, grade_in_one_order
from zephyr_bench.benchmarks.own_sampling import own_sampling
from zephyr_bench.benchmarks.pairing import PairVerdict, grade_pairs, pair_protocol
from zephyr_bench.benchmarks.protocol import Given, Job
from zephyr_bench.benchmarks.rivals import ALL, Origin, find_rivals
from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Answer, Match, Question, SampleScore, Score
from zephyr_bench.store import Store


class AlpacaEval:
    """Which of two answers is better: the model's or the baseline's.

    `baselines` names a model or run of the store to compare with in place of the YAML's; `sampling` is greedy, or the
    model's own, in place of the YAML's; `allow_missing` has stored answers judged that are not there for every
    instruction.
    """

    Spec = AlpacaEvalSpec
    judged = True
    compares = True

    def __init__(
        self,
        spec: AlpacaEvalSpec,
        *,
        name: str,
        folder: Path,
        data: Path | None = None,
        baselines: Sequence[str] = (),
        sampling: Literal["greedy", "own"] | None = None,
        allow_missing: bool = False,
    ) -> None:
        self.name = name
        self.headline = spec.headline
        self.default_judge = spec.judge
        self.margin = spec.margin
        self.baseline = spec.baseline
        self._spec = spec
        self.published = Published(spec, folder, [data] if data else [])
        self._named = tuple(name for name in baselines if name != spec.baseline)
        self._own_sampling = sampling == "own"
        self._sampling = (
            spec.sampling.model_copy(update={"temperature": 0.0}) if sampling == "greedy" else spec.sampling
        )
        self._allow_missing = allow_missing
        self._rival: Mapping[str, Answer] | None = None  # of the store, by instruction
        if len(baselines) > 1 or ALL in baselines:
            raise UserError(f"--baseline: {name} compares with one model; name one.")

    def missing(self) -> list[str]:
        return self.published.missing()

    def hub_data(self) -> list[str]:
        return self.published.hub_data()

    def hub_files(self) -> list[tuple[str, str | None]]:
        return self.published.hub_files()

    def question_texts(self) -> Iterator[tuple[str, str]]:
        return ((question.id, turn) for question, _ in self.published.pairs for turn in question.turns)

    def with_answers(self, store: Store, model: ModelSource, limit: int | None) -> Self:
        """Itself, comparing with the answers of the store that `baselines` names. Raises UserError."""
        if self._named:
            questions = [question for question, _ in self.published.pairs[:limit]]
            (rival,) = find_rivals(
                store,
                self._named,
                model,
                questions,
                asked=self.name,
                also={run.benchmark for run in store.runs()},  # both versions ask the same
                origin=Origin("alpaca-eval", "alpaca-eval"),
            )
            self._rival = {question: turns[0] for question, turns in rival.answers.items()}
            self.baseline = rival.model
        self._check_another(model.name)
        self._read_difficulties()
        if self._own_sampling:
            self._sampling = own_sampling(model, max_new_tokens=self._spec.sampling.max_new_tokens)
        return self

    def _read_difficulties(self) -> None:
        """Where they are at hand: a file that is none is refused before any work."""
        if self.published.difficulties_at_hand:
            _ = self.published.length_control

    def _check_another(self, model: str) -> None:
        if model == self.baseline:
            raise UserError(f"{self.name} compares with {self.baseline}, the model itself; name another one.")

    def _compared(self, limit: int | None) -> list[tuple[Question, Answer]]:
        """Each instruction with the answer that the model's is compared with."""
        pairs = self.published.pairs[:limit]
        return pairs if self._rival is None else [(question, self._rival[question.id]) for question, _ in pairs]

    def protocol(self, limit: int | None) -> Mapping[str, Any]:
        pairs = self._compared(limit)
        return {
            "questions": [question.fingerprint for question, _ in pairs],
            **self._opposite([answer for _, answer in pairs]),
            "sampling": self._sampling.model_dump(mode="json"),
            **({"order": self._spec.order} if self._spec.order != "both" else {}),
        }

    def _opposite(self, baseline: Sequence[Answer]) -> dict[str, Any]:
        """What the protocol says of the answers compared with, and of the difficulties."""
        told = {"name": self.baseline, "outputs": fingerprint([answer.key for answer in baseline])}
        rivals = pair_protocol([self.baseline], everybody=False) if self._rival is not None else {}
        return {"baseline": told, **rivals, **self.length_control_protocol()}

    def length_control_protocol(self) -> dict[str, str]:
        return {"length_control": self.published.length_control.sha256} if self.published.difficulties_at_hand else {}

    def size(self, limit: int | None) -> Mapping[str, int]:
        n = min(self.published.size, limit or self.published.size)
        return {
            "questions": n,
            "answers": n,
            "judgments": n if self._spec.order == "seeded" else 2 * n,
            "max_new_tokens": self._spec.sampling.max_new_tokens,
        }

    def samples(self, job: Job) -> Iterator[SampleScore]:
        compared = self._compared(job.limit)
        answers = ask(job, [question for question, _ in compared], sampling=lambda _: self._sampling.sampling())
        yield from self._judged(job, [Pair(question, answers[question.id][0], other) for question, other in compared])

    def answer(self, job: Job) -> None:
        questions = [question for question, _ in self.published.pairs[: job.limit]]
        ask(job, questions, sampling=lambda _: self._sampling.sampling())

    def regrade_protocol(self, given: Given) -> Mapping[str, Any]:
        self._read_difficulties()
        pairs = self._given_pairs(given)
        if not lone_answers(given):
            return self.length_control_protocol()
        absent = len(self._compared(None)) - len(pairs)
        return {**self._opposite([pair.baseline for pair in pairs]), **({"not_answered": absent} if absent else {})}

    def regrade(self, job: Job, given: Given) -> Iterator[SampleScore]:
        yield from self._judged(job, self._given_pairs(given))

    def _given_pairs(self, given: Given) -> list[Pair]:
        """As the run's judge was shown them; of answers alone, with the baseline's."""
        if pairs := compared_pairs(given):
            return pairs
        self._check_another(given.model)
        return self.paired(lone_answers(given))

    def paired(self, answers: Sequence[tuple[Question, Answer]]) -> list[Pair]:
        """Each beside the one that it is to be compared with. Raises UserError for answers that don't fit."""
        return paired(answers, self._compared(None), benchmark=self.name, allow_missing=self._allow_missing)

    def _judged(self, job: Job, pairs: Sequence[Pair]) -> Iterator[SampleScore]:
        baseline = pairs[0].baseline.model if pairs else self.baseline
        why = self.without_length_control(judge_of(job).name, baseline)
        samples = [*pair_facts(pairs)]
        yield from samples
        job.run.add_answers([(pair.question, pair.baseline) for pair in pairs])  # a verdict is of it, too
        graded = _grade_in_both_orders(job, pairs) if self._spec.order == "both" else grade_in_one_order(job, pairs)
        for pair, verdict in graded:
            samples.append(preference_sample(pair, verdict))
            yield samples[-1]
        if why is None and self._spec.length_control is not None:
            why = length_control(samples, self.published.length_control)[0].reason
        if why:
            yield no_length_control(why)

    def without_length_control(self, judge: str, baseline: str, *, whole_file: bool = False) -> str | None:
        """Why verdicts of that judge against that baseline get no length-controlled win rate, where some do."""
        return self.published.without_length_control(judge, baseline, whole_file=whole_file)

    def aggregate(self, samples: Sequence[SampleScore]) -> list[Score]:
        """Length-controlled where no sample says why not."""
        return alpaca_scores(samples, self._control_of(samples))

    def aggregate_file(self, samples: Sequence[SampleScore]) -> list[Score]:
        """As `aggregate`, of a file's rows in its order; where the instructions are not at hand, an instruction's place
        among the difficulties is its row's: alpaca_eval's own rule."""
        control = self._control_of(samples)
        if control is not None and not control.places:
            rows = dict.fromkeys(sample.question for sample in samples if sample.metric == PREFERENCE)
            known = len(control.gamed.difficulties)
            control = replace(control, places={question: place for place, question in enumerate(rows) if place < known})
        return alpaca_scores(samples, control)

    def _control_of(self, samples: Sequence[SampleScore]) -> LengthControl | None:
        promised = self._spec.length_control is not None
        told = any(sample.metric == LENGTH_CONTROLLED for sample in samples)
        return self.published.length_control if promised and not told else None


def no_length_control(reason: str) -> SampleScore:
    """Keeps the reason with a run's samples; of no instruction."""
    return SampleScore("", "", LENGTH_CONTROLLED, None, reason=reason)


def _grade_in_both_orders(job: Job, pairs: Sequence[Pair]) -> Iterator[tuple[Pair, PairVerdict]]:
    by_answer = {(pair.answer.key, pair.replicate): pair for pair in pairs}
    matches = [Match(p.question, 1, (p.answer,), rival=(p.baseline,), replicate=p.replicate) for p in pairs]
    for match, verdict in grade_pairs(job, matches):
        yield by_answer[match.answers[0].key, match.replicate], verdict
