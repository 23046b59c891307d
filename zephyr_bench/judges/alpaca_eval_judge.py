"""Judges by an evaluator config of alpaca_eval, in our judging loop: `kind: alpaca-eval`.

The config lies in a package, or is the user's own. Without the package the judge is known by its YAML alone: it can be
planned with, says what is missing, and judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from zephyr_bench.errors import UserError
from zephyr_bench.judges.alpaca_eval_configured import AlpacaEvalSpec, ConfiguredJudge
from zephyr_bench.judges.protocol import JudgeOptions
from zephyr_bench.records import Judgment, Match


class AlpacaEvalJudge:
    """Raises UserError, when it is made, for a config that is there and can't be used."""

    Spec = AlpacaEvalSpec

    def __init__(self, spec: AlpacaEvalSpec, *, name: str, folder: Path, options: JudgeOptions) -> None:
        self.name = name
        self._prices = spec.usd_per_million_tokens
        self._absent = spec.config.missing(folder)
        self._made = None if self._absent else ConfiguredJudge(spec, name=name, folder=folder, options=options)

    @property
    def _configured(self) -> ConfiguredJudge:
        if self._made is None:
            raise UserError(f"judge {self.name}: {self._absent}.")
        return self._made

    @property
    def fingerprint(self) -> str:
        return self._configured.fingerprint

    @property
    def fixed_order(self) -> bool:
        """The benchmark puts the baseline first, for every instruction."""
        return self._configured.fixed_order

    @property
    def local(self) -> bool:
        return self._configured.local

    def missing(self) -> list[str]:
        return [f"the config of judge {self.name}: {self._absent}"] if self._absent else self._configured.missing()

    def unfit(self, *, paired: bool) -> str | None:
        return self._made.unfit(paired=paired) if self._made else None

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float | None:
        if self._made is not None:
            return self._made.cost_usd(input_tokens, output_tokens)
        return self._prices.usd(input_tokens, output_tokens) if self._prices else None

    def grade(self, matches: Iterable[Match]) -> Iterator[Judgment]:
        return self._configured.grade(matches)
