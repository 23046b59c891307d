"""What a judge is: it grades one answer, or says which of two is better.

A judge knows no store and no benchmark. A third party adds a backend by the entry point group
`zephyr_bench.judges`: name -> class with a pydantic model `Spec` (the YAML's keys) and
`__init__(self, spec, *, name, folder, options)`.
`zephyr_bench.testing.judges` holds the conformance suite.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import UserError
from zephyr_bench.records import Judgment, Match


@dataclass(frozen=True)
class JudgeOptions:
    """What the user says beside the YAML: of a server, of what may be spent, of where a local model runs."""

    base_url: str | None = None  # in place of the YAML's
    concurrency: int | None = None  # likewise
    max_cost_usd: float | None = None
    batch: bool = False  # by the server's Batch API, where it has one
    engine: EngineOptions = field(default_factory=EngineOptions)


def refuse_server(judge: str, options: JudgeOptions) -> None:
    """Raises UserError where the user names a server, and the judge asks none."""
    if options.base_url is not None:
        raise UserError(
            f"--base-url {options.base_url}: judge {judge} asks no server; name another judge with --judge."
        )


@runtime_checkable
class Judge(Protocol):
    """Grades matches.

    Making a judge is cheap: no network, no weights. Not thread safe; `grade` may work on many
    matches at once inside.
    """

    name: str
    fingerprint: str
    """Changes when, and only when, a verdict could: model, prompt, parser, sampling."""

    def missing(self) -> list[str]:
        """What the judge still needs, a sentence each with what to do (a key, a package); no network."""
        ...

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float | None:
        """What so many tokens cost; None where the price is not known, 0.0 where the judge is free."""
        ...

    def grade(self, matches: Iterable[Match]) -> Iterator[Judgment]:
        """Each match's judgment exactly once, as it finishes, in any order; key = match.key(fingerprint).

        A reply that holds no verdict is a Judgment without a score and with a reason. A call that
        failed for good raises JudgeUnavailable after every finished verdict was yielded; a rejected
        key or unknown model raises UserError likewise.
        """
        ...


@runtime_checkable
class Particular(Protocol):
    """A judge that can't grade everything."""

    def unfit(self, *, paired: bool) -> str | None:
        """What is missing for pairs, or for single answers, as a sentence; None where it can grade them."""
        ...


def unfit_for(judge: Judge, *, paired: bool) -> list[str]:
    found = judge.unfit(paired=paired) if isinstance(judge, Particular) else None
    return [found] if found else []
