"""What a benchmark is: it asks a model and aggregates what came of it.

A third party adds a kind by the entry point group `zephyr_bench.benchmarks`: name -> class with a
pydantic model `Spec` (the YAML's keys) and `__init__(self, spec, *, name, folder)`.
`zephyr_bench.testing.benchmarks` holds the conformance suite.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

HELD_OUT = "preferences-held-out"  # over a recipe's own pairs (pipeline/preferences.py): in no catalogue

if TYPE_CHECKING:
    from zephyr_bench.engines.protocol import Engine, ModelSource
    from zephyr_bench.judges.protocol import Judge
    from zephyr_bench.progress import Progress
    from zephyr_bench.records import Match, SampleScore, Score
    from zephyr_bench.store import RunWriter, Store


@dataclass
class Calls:
    """How many judgments a job's judge was asked for, and how many the store had; counted as they come."""

    made: int = 0
    stored: int = 0


@dataclass(frozen=True)
class Job:
    """One evaluation under way: the parts a benchmark may use.

    Whatever the engine or judge makes goes through `run` (the store) at once, and is looked up
    there first.
    """

    engine: Engine
    judge: Judge | None
    run: RunWriter
    progress: Progress
    limit: int | None = None
    seed: int = 0
    calls: Calls = field(default_factory=Calls, compare=False)


@runtime_checkable
class Benchmark(Protocol):
    """What evaluate() runs. One may also be a `NeedsAnswers`, a `FitsEngine` or a `TellsQuestions`."""

    name: str
    headline: str  # the metric shown where there is room for one
    judged: bool  # whether it needs a judge
    default_judge: str | None

    def missing(self) -> list[str]:
        """What the benchmark still needs (data, a package), a sentence each with what to do; no network."""
        ...

    def hub_data(self) -> list[str]:
        """Hub data sets it would have to fetch, none where everything is at hand; no network."""
        ...

    def protocol(self, limit: int | None) -> Mapping[str, Any]:
        """What makes two runs comparable: data hash, sampling, few-shot, metric; plain JSON data."""
        ...

    def size(self, limit: int | None) -> Mapping[str, int]:
        """What a run asks for, for the plan: {"questions": …, "answers": …, "judgments": …, "max_new_tokens": …}."""
        ...

    def samples(self, job: Job) -> Iterator[SampleScore]:
        """Ask, judge and yield each question's score as it is known; stored work is not done again."""
        ...

    def aggregate(self, samples: Sequence[SampleScore]) -> list[Score]:
        """The run's metrics, headline first. Pure; a sample without a value is counted as missing."""
        ...


def compares(benchmark: Benchmark) -> bool:
    """Whether its judge is asked which of two answers is better: a kind says so by `compares = True`."""
    return bool(getattr(benchmark, "compares", False))


@dataclass(frozen=True)
class Given:
    """A stored run's answers, to be graded again: what was judged, and the samples that came of it."""

    model: str
    matches: tuple[Match, ...]
    samples: tuple[SampleScore, ...]


@runtime_checkable
class Regrades(Protocol):
    """A benchmark whose stored answers another judge can grade."""

    def regrade_protocol(self, given: Given) -> Mapping[str, Any]:
        """What grading them adds to their run's protocol. Raises UserError for answers that can't be graded."""
        ...

    def regrade(self, job: Job, given: Given) -> Iterator[SampleScore]:
        """As `samples`, of answers that are there; asks the judge only."""
        ...


@runtime_checkable
class AnswersAlone(Protocol):
    """A benchmark whose answers can be had without a judge, to be graded later."""

    def answer(self, job: Job) -> None:
        """As `samples`, up to the judge."""
        ...


@runtime_checkable
class OnHub(Protocol):
    """A benchmark whose data lies on the hub, for `fetch`."""

    def hub_files(self) -> list[tuple[str, str | None]]:
        """(data set, file in it; None: all of it), at hand or not."""
        ...


@runtime_checkable
class TellsQuestions(Protocol):
    """A benchmark whose questions can be looked for in training data."""

    def question_texts(self) -> Iterator[tuple[str, str]]:
        """(question's id, text) of all, a turn each, as they could stand in training data. Raises UserError."""
        ...


@runtime_checkable
class FitsEngine(Protocol):
    """A benchmark that not every engine can take, or that asks one engine otherwise than another."""

    def unfit(self, engine: Engine) -> list[str]:
        """What that engine can't do of it, a sentence each with what to do; loads nothing."""
        ...

    def fitted(self, engine: Engine) -> Self:
        """Itself, as that engine is asked; what its `protocol` then says holds. Raises UserError."""
        ...


@runtime_checkable
class NeedsAnswers(Protocol):
    """A benchmark that compares with other models' answers."""

    def with_answers(self, store: Store, model: ModelSource, limit: int | None) -> Self:
        """Itself with those answers, before any work. Raises UserError where the store lacks them."""
        ...
