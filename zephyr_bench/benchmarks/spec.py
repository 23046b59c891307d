"""What every benchmark's YAML has in common; each kind adds its own keys beside its class."""

from __future__ import annotations

from pydantic import Field

from zephyr_bench.recipe import Entry


class BenchmarkSpec(Entry):
    kind: str
    description: str
    headline: str  # the metric shown where there is room for one
    judge: str | None = None  # the default judge; None where none is needed
    margin: float | None = Field(None, gt=0)  # the gate's default, in the headline metric's units
