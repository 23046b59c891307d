"""One row of a speed script: ours against a peer, round by round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_SHOWN: tuple[Callable[[Sequence[float]], float], ...] = (min, statistics.median, max)
HEAD = f"{'':36}{'ours min  median     max':>24}   {'peer min  median     max':>24}    ratio  target"


@dataclass(frozen=True)
class Row:
    """`pairs`: (ours, peer) of each round, in `unit`."""

    name: str
    unit: str
    pairs: Sequence[tuple[float, float]]
    target: float
    less_is_better: bool

    @property
    def ratio(self) -> float:
        """Above 1 where ours is better; the median of the pairs."""
        return statistics.median(peer / ours if self.less_is_better else ours / peer for ours, peer in self.pairs)

    def told(self) -> dict[str, Any]:
        """For machines."""
        ours, peer = (statistics.median(side) for side in zip(*self.pairs, strict=True))
        return {"name": self.name, "ours": ours, "peer": peer, "ratio": self.ratio, "target": self.target}

    def line(self) -> str:
        """For people, below HEAD."""
        ours, peer = ("".join(f"{_number(of(side)):>8}" for of in _SHOWN) for side in zip(*self.pairs, strict=True))
        met = "met" if self.ratio >= self.target else "missed"
        return f"{self.name:20}{self.unit:>16}{ours}   {peer}{self.ratio:9.2f}{self.target:8.3g}  {met}"


def _number(value: float) -> str:
    """Four digits, without an exponent."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"
