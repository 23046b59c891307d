"""Published reference scores: figures that others printed, each with its source. reports/published/*.yaml.

They are shown beside measured rows only when asked for, always marked, never recomputed or averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from zephyr_bench import catalogue
from zephyr_bench.recipe import Entry
from zephyr_bench.yaml_file import load_model


class Figure(Entry):
    """One printed number."""

    model: str = Field(min_length=1)
    metric: str | None = None  # default: the table's
    value: float = Field(allow_inf_nan=False)  # as printed, on the benchmark's own scale
    stderr: float | None = Field(None, ge=0, allow_inf_nan=False)  # as printed
    n: int | None = Field(None, gt=0)  # judgments or rows behind it, where told
    note: str = ""


class PublishedTable(Entry):
    """The figures of one benchmark in one place of the source."""

    where: str  # in the source: "Table 1"
    benchmark: str
    metric: str | None = None  # of every figure that names none
    judge: str | None = None  # None: no judge, or not told
    references: str | None = None  # reference answers that the judge was shown, where it was shown any
    figures: tuple[Figure, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_once(self) -> PublishedTable:
        seen: set[tuple[str, str]] = set()
        for figure in self.figures:
            metric = figure.metric or self.metric
            if metric is None:
                raise ValueError(f"the figure of {figure.model} names no metric, nor does its table")
            if (figure.model, metric) in seen:
                raise ValueError(f"{metric} of {figure.model} stands twice")
            seen.add((figure.model, metric))
        return self


class Published(Entry):
    """One source."""

    source: str = Field(min_length=1)  # shown under every table with one of its figures
    url: str
    year: int = Field(ge=2000, le=2100)
    tables: tuple[PublishedTable, ...] = Field(min_length=1)

    @field_validator("url")
    @classmethod
    def _is_link(cls, value: str) -> str:
        if not value.startswith("https://"):
            raise ValueError("expected a link that starts with https://")
        return value


def load_published(include: Sequence[Path] = ()) -> list[Published]:
    """Every source of the catalogue, the user's folders first. Raises UserError naming file, line and key."""
    found: dict[str, Path] = {}
    for root in catalogue.roots(include):
        for path in sorted((root / catalogue.FOLDERS["report"] / "published").glob("*.yaml")):
            found.setdefault(path.stem, path)
    return [load_model(path, Published) for _, path in sorted(found.items())]
